"""What tells the predictions of one model and its settings from those of another."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from ..model import Model

BUILT_FROM = ("backbone", "enhancer", "pixel_decoder", "decoder")
"""Sections of the configuration that belong to the weights."""


def fingerprint(model: Model, name: str = "") -> dict[str, Any]:
    """The checksum of a model's weights, and each setting that its masks depend on, by name. The device is none of them. `name` is what
    the model is called in an error."""
    config = model.config.model_dump(mode="json")
    facts: dict[str, Any] = {"model": name or model.task, "weights": _checksum(model)}
    for section in ("prediction", "preprocessing"):
        facts |= {f"{section}.{key}": value for key, value in config[section].items()}
    return facts


def _checksum(model: Model) -> str:
    digest = hashlib.sha256()
    config = model.config.model_dump(mode="json")
    for section in BUILT_FROM:
        built = {key: value for key, value in config[section].items() if key not in ("weights", "frozen")}
        digest.update(json.dumps([section, built], sort_keys=True).encode())
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()
