"""What an exported file says of itself: enough to prepare images for it and to read its masks without this framework."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ...inference.model import Model
from ...model.network import MULTIPLE
from ...version import __version__

KEY = "focus"
"""Under which the facts, as JSON, stand in the file."""
PACKAGES = ("torch", "onnx", "onnxscript")


def facts_of(model: Model, *, form: str, precision: str, size: tuple[int, int] | None, raw: bool) -> dict[str, Any]:
    """The facts; docs/export.md lists them."""
    known, settings = model.description, model.config.prediction
    return {
        "version": 1,
        "task": known.get("task", {"name": model.task}),
        "prompts": known.get("prompts", []),
        "input": {"image": "uint8 [B, H, W, 3]" if raw else "float32 [B, 3, H, W]", "size": size, "multiple": MULTIPLE},
        "preprocessing": {
            **model.config.preprocessing.model_dump(),
            "mean": model.mean.flatten().tolist(),
            "std": model.std.flatten().tolist(),
        },
        "prediction": settings.model_dump(exclude={"precision"}),
        "network": {"backbone": model.config.backbone.name, "enhancer": model.config.enhancer.name},
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "licence": known.get("licence", ""),
        "plugins": known.get("plugins", []),
        "versions": {"focus-framework": __version__, **{name: _version(name) for name in PACKAGES if form == "onnx" or name == "torch"}},
        "format": form,
        "precision": precision,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
