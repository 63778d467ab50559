"""Everything that can be said of a plugin without running it, as plain data: what ``focus plugins info`` prints."""

from __future__ import annotations

import inspect
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from ..errors import ConfigError, PluginError, did_you_mean
from .interfaces import Backbone, Prompts, Task, resolve
from .registry import KINDS, Entry, Kind, registry


def find_anywhere(name: str, kind: Kind | None = None) -> Entry:
    """The entry of that name among all kinds, or of one kind; a task also as ``module:attribute`` or ``file.py``."""
    if ":" in name or name.endswith(".py"):
        return registry().find_task(name)
    if kind:
        return registry().find(kind, name)
    found = [entry for each in KINDS for entry in registry().of_kind(each) if entry.name == name]
    found = [entry for entry in found if entry.description] or found[:1]
    if len(found) > 1:
        raise ConfigError(f"{name!r} is the name of a {' and a '.join(e.kind for e in found)}; say which with --kind")
    try:
        return found[0] if found else registry().find("backbone", name)  # a family may claim a name that nobody has
    except PluginError:
        known = {entry.name for each in KINDS for entry in registry().of_kind(each)}
        raise PluginError(f"there is no plugin {name!r}; {did_you_mean(name, known)} (focus plugins list shows all)") from None


def facts(entry: Entry) -> dict[str, Any]:
    """What the description says, where it comes from, and how its ``build`` explains itself."""
    known: dict[str, Any] = {"kind": entry.kind, **entry.as_json(), "origin": entry.origin, "licence": _licence(entry.distribution)}
    description = entry.description
    if isinstance(description, Task):
        return known | _task_facts(description)
    if description is None:
        return known
    if isinstance(description, Backbone):
        known["weights_licence"] = description.licence or "not said"
    build = _import(description.build)
    return known | {"options": _options(build), "about": inspect.getdoc(build) or ""}


def _licence(distribution: str) -> str:
    """That of the plugin's code."""
    try:
        about = metadata(distribution)
    except (PackageNotFoundError, ValueError):  # a file that is tried before it is packaged has no distribution
        return ""
    return next((about[key] for key in ("License-Expression", "License") if key in about), "")


def _task_facts(task: Task) -> dict[str, Any]:
    return {
        "prompts": [_pair(pair, "") for pair in task.pairs()]
        + [_pair(pair, choice) for choice in task.other_prompts for pair in task.pairs(choice)],
        "metrics": list(task.metrics),
        "primary_metric": task.primary_metric,
        "datasets": [
            {
                "name": data.name,
                "title": data.title,
                "split": data.split,
                "count": data.count,
                "licence": data.licence,
                "url": data.url,
            }
            for data in task.datasets
        ],
        "checkpoints": [{"name": known.name, "title": known.title, "reference": known.reference} for known in task.checkpoints],
        "practice_images": task.practice is not None,
        "defaults": dict(task.defaults),
    }


def _pair(pair: Prompts, choice: str) -> dict[str, str]:
    return {"choice": choice, "foreground": pair.foreground, "background": pair.background, "source": pair.source}


def _import(build: Any) -> Any:
    try:
        return resolve(build)
    except Exception as error:  # a third party's module, which may fail at import
        raise PluginError(f"{build} cannot be imported: {type(error).__name__}: {error}") from error


def _options(build: Any) -> list[dict[str, Any]]:
    """The keyword arguments that a user may set: those with a default."""
    return [
        {"name": parameter.name, "type": _type_name(parameter.annotation), "default": _plain(parameter.default)}
        for parameter in inspect.signature(build).parameters.values()
        if parameter.default is not parameter.empty
    ]


def _plain(default: Any) -> Any:
    return default if isinstance(default, str | int | float | None) else repr(default)


def _type_name(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
