"""From what a person says to the configuration of a run: the same code for the command line and `focus_framework.train`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..config.layers import Resolved, resolve, starting_point, task_in
from ..errors import ConfigError
from ..plugin.registry import Entry, registry


def plan(
    task: str | None,
    *,
    preset: str | None = None,
    file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
    resume: Path | None = None,
) -> tuple[Resolved, Entry]:
    """The configuration of a run and its task, by what ``--task-plugin`` takes; else the one of `file`, else that of the checkpoint
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
    if reference:
        from ..checkpoint.parent import open_parent  # imports torch

        found = open_parent(reference)
        parent, home = found.settings(), found.description["task"]["name"]
        if given.get("init"):
            given["init"] = parent["init"]
    chosen = task or (task_in(file) if file else None) or home
    if not chosen:
        raise ConfigError("which task? Say --task-plugin NAME; focus plugins list shows the names")
    entry = registry().find_task(chosen)
    described = entry.get()
    resolved = resolve(
        described.name,
        preset=preset,
        parent=parent,
        defaults=described.defaults,
        file=file,
        assignments=assignments,
        options=given,
    )
    _refuse_two_beginnings(resolved, parent)
    return resolved, entry


def _refuse_two_beginnings(resolved: Resolved, parent: Mapping[str, Any]) -> None:
    backbone = resolved.config.backbone
    if parent and backbone.name == parent["backbone.name"] and backbone.weights != "none":
        raise ConfigError(
            f"the checkpoint {parent['init']} brings weights of backbone {backbone.name}; leave out --backbone-weights, or leave out --init"
        )
