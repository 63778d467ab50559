"""What a checkpoint says of itself: enough to build the network again, to prepare images for it and to name where all came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..config.schema import RunConfig
from ..plugin.interfaces import Backbone, Prompts, Task
from ..plugin.registry import Entry, Kind, registry
from ..version import __version__
from .format import Description

if TYPE_CHECKING:
    from ..model.network import Network


def describe(
    config: RunConfig, network: Network, tasks: Entry | Sequence[Entry], prompts: Sequence[Prompts] | Mapping[str, Sequence[Prompts]]
) -> Description:
    """The description of a run's network. `tasks` are the registry's entries of its tasks, or of its task, `prompts` are those that the run
    uses, by the tasks' names where there are several.

    The configuration in it builds the same network without any weights: options are those that the built backbone and prior report.
    """
    encoder = network.encoder
    backbone: Any = encoder.backbone
    entries = [tasks] if isinstance(tasks, Entry) else list(tasks)
    by_task = prompts if isinstance(prompts, Mapping) else {entries[0].name: prompts}
    told = [_task(entry.get(), by_task[entry.name]) for entry in entries]
    return {
        "framework_version": __version__,
        "task": {key: value for key, value in told[0].items() if key != "prompts"},
        **({"tasks": told} if network.conditioner is not None else {}),
        "config": _without_weights(config, network).model_dump(mode="json"),
        "prompts": told[0]["prompts"],
        "preprocessing": {**config.preprocessing.model_dump(), "mean": list(backbone.mean), "std": list(backbone.std)},
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "plugins": [*map(_origin, entries), *_plugins(config)],
        "licence": _licence(config),
    }


def _task(task: Task, prompts: Sequence[Prompts]) -> dict[str, Any]:
    return {
        "name": task.name,
        "title": task.title,
        "metrics": list(task.metrics),
        "primary_metric": task.primary_metric,
        "prompts": [{"foreground": p.foreground, "background": p.background, "source": p.source} for p in prompts],
    }


def _without_weights(config: RunConfig, network: Network) -> RunConfig:
    """The configuration that builds the same layers from random weights."""
    encoder: Any = network.encoder
    options = getattr(encoder.backbone, "options", config.backbone.options)
    backbone = config.backbone.model_copy(update={"weights": "none", "options": dict(options)})
    prior = {key: value for key, value in config.enhancer.options.items() if key != "weights"}
    enhancer = config.enhancer.model_copy(update={"options": prior})
    own = dict(getattr(network.conditioner, "options", config.conditioner.options))
    conditioner = config.conditioner.model_copy(update={"options": own})
    return config.model_copy(update={"init": "", "backbone": backbone, "enhancer": enhancer, "conditioner": conditioner})


def _plugins(config: RunConfig) -> list[dict[str, str]]:
    """Where backbone, enhancer and refiner come from."""
    names: dict[Kind, str] = {"backbone": config.backbone.name, "enhancer": config.enhancer.name, "refiner": config.refiner.name}
    names["conditioner"] = config.conditioner.name
    return [_origin(registry().find(kind, name), name) for kind, name in names.items() if name != "none"]


def _origin(entry: Entry, name: str = "") -> dict[str, str]:
    return {"kind": entry.kind, "name": name or entry.name, "distribution": entry.distribution, "version": entry.version}


def _licence(config: RunConfig) -> str:
    """That of the weights the training started from; what the training data allow is for the user to know."""
    backbone = registry().find("backbone", config.backbone.name).description
    named = isinstance(backbone, Backbone) and config.backbone.weights != "none"
    return backbone.licence if named and isinstance(backbone, Backbone) else ""
