"""From what a person says to the configuration of a run: the same code for the command line and `focus_framework.train`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config.layers import Resolved, flatten, resolve, starting_point, task_in
from ..errors import ConfigError
from ..plugin.registry import Entry, registry

SEVERAL = "prompt"
"""The conditioner of a run of several tasks, unless another one is named."""


def plan(
    task: str | None,
    *,
    preset: str | None = None,
    file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
    resume: Path | None = None,
) -> tuple[Resolved, tuple[Entry, ...]]:
    """The configuration of a run and its tasks, by what ``--task-plugin`` takes; else those of `file`, else those of the checkpoint
    that it starts from (the option ``init``).

    With `resume`, the folder of a run, its own file says everything. Raises a `FocusError` for what is wrong with the call.
    """
    if resume and not (resume / "config.toml").is_file():
        raise ConfigError(f"{resume} is not the folder of a run: it has no config.toml")
    file = resume / "config.toml" if resume else file
    given, assignments = dict(options or {}), list(assignments)
    if resume and given.get("init"):
        raise ConfigError("--resume goes on with weights of its own; leave out --init")
    reference = "" if resume else starting_point(file, assignments, given)
    parent: dict[str, Any] = {}
    home = ""
    known: tuple[str, ...] = ()
    if reference:
        from ..checkpoint.parent import open_parent  # imports torch

        found = open_parent(reference)
        parent, home = found.settings(), ",".join(found.config.known_tasks)
        known = found.config.known_tasks if found.config.conditioner.name != "none" else ()
        if given.get("init"):
            given["init"] = parent["init"]
    chosen = task or (task_in(file) if file else None) or home
    if not chosen:
        raise ConfigError("which task? Say --task-plugin NAME; focus plugins list shows the names")
    entries = registry().find_tasks(chosen)
    defaults = _common([entry.get().defaults for entry in entries])
    if len(entries) > 1 and parent.get("conditioner.name", "none") == "none":
        defaults = {"conditioner.name": SEVERAL, **defaults}
    resolved = resolve(
        ",".join(entry.name for entry in entries),
        preset=preset,
        parent=parent,
        defaults=defaults,
        file=file,
        assignments=assignments,
        options=given,
    )
    _refuse_two_beginnings(resolved, parent)
    return _keeping(resolved, known), entries


def _common(defaults: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The wishes that all tasks of a run have in common."""
    first, *others = map(flatten, defaults)
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def _keeping(resolved: Resolved, known: Sequence[str]) -> Resolved:
    """Where nothing is trained that other tasks of the checkpoint depend on, the network goes on knowing them."""
    config = resolved.config
    alone = config.conditioner.trains == "vectors" or (config.conditioner.trains == "auto" and config.backbone.frozen)
    kept = [name for name in known if name not in config.tasks]
    if not alone or not kept:
        return resolved
    conditioner = config.conditioner.model_copy(update={"kept": kept})
    sources = {**resolved.sources, "conditioner.kept": f"checkpoint {config.init}"}
    return Resolved(config.model_copy(update={"conditioner": conditioner}), sources)


def _refuse_two_beginnings(resolved: Resolved, parent: Mapping[str, Any]) -> None:
    backbone = resolved.config.backbone
    if parent and backbone.name == parent["backbone.name"] and backbone.weights != "none":
        raise ConfigError(
            f"the checkpoint {parent['init']} brings weights of backbone {backbone.name}; leave out --backbone-weights, or leave out --init"
        )
