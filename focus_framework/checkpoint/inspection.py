"""What a checkpoint says of itself, as plain data: what ``focus checkpoint inspect`` prints."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from ..config.schema import RunConfig
from ..errors import PluginError
from ..plugin.registry import registry
from .format import read_description, read_shapes
from .header import checked
from .importing import is_released, read_release
from .loading import check_shapes, locate
from .tasks import tasks_of


def inspect_checkpoint(reference: str) -> dict[str, Any]:
    """Facts about one of our files, a released one, or either on the hub (``hf://owner/name``). No tensor is read, but their shapes must
    be those of the network that the header describes, where its plugins are installed. Raises `WeightsError`."""
    path, name = locate(reference)
    released = is_released(path)
    description = read_release(path, name=name).description if released else read_description(path)
    if not released:
        whole = checked(description, path)
        _check(whole, path)
        description = {**description, "config": whole.model_dump(mode="json")}  # with what the header leaves to its defaults
    config, task = description["config"], description["task"]
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "kind": "released" if released else "focus",
        "task": task["name"],
        "title": task["title"],
        "metrics": task["metrics"],
        "primary_metric": task["primary_metric"],
        **{kind: config[kind]["name"] for kind in ("backbone", "enhancer", "refiner")},
        "conditioner": config.get("conditioner", {}).get("name", "none"),
        "tasks": tasks_of(description),
        "prompts": description["prompts"],
        "preprocessing": description["preprocessing"],
        "prediction": config["prediction"],
        "parameters": description["parameters"],
        "plugins": description["plugins"],
        "licence": description["licence"],
        "parent": description.get("parent"),
        "released": description.get("released"),
        "framework_version": description["framework_version"],
        "config": config,
    }


def _check(config: RunConfig, path: Path) -> None:
    with suppress(PluginError):  # one that is not installed here: what the file says of itself can be shown all the same
        registry().get("backbone", config.backbone.name)
        if config.enhancer.name != "none":
            registry().get("enhancer", config.enhancer.name)
        check_shapes(config, read_shapes(path), path)
