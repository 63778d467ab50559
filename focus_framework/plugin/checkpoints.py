"""Known checkpoints: those that distributions offer by the entry-point group of this name, then those that the tasks list."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import FocusError
from .calls import calling, reason
from .interfaces import Checkpoint, wrong_in
from .registry import Entry, entry_points_of, registry

GROUP = "focus_framework.checkpoints"
"""Entry points that lead to a `Checkpoint`, or to several."""


@dataclass(frozen=True)
class KnownCheckpoint:
    """A checkpoint, its task, and who offers it."""

    checkpoint: Checkpoint
    task: str
    distribution: str


@dataclass(frozen=True)
class BrokenCheckpoint:
    """What is known of an offer that cannot be used."""

    name: str
    distribution: str
    error: str


def known_checkpoints(task: str = "") -> list[KnownCheckpoint]:
    """All that are known, or those of a task. What somebody has installed for its own sake comes before what the tasks list; of one
    name the first counts."""
    rows: dict[str, KnownCheckpoint] = {}
    for row in (*_offered()[0], *_listed()):
        rows.setdefault(row.checkpoint.name, row)
    return [row for row in rows.values() if not task or row.task == task]


def broken_checkpoints() -> list[BrokenCheckpoint]:
    """Offers that failed, each with the reason; they never stop the others."""
    return _offered()[1]


def checkpoints_of(entry: Entry) -> list[KnownCheckpoint]:
    """Those of a task that may not be installed, a file's: installed ones of its name come first."""
    own = [KnownCheckpoint(checkpoint, entry.name, entry.distribution) for checkpoint in entry.get().checkpoints]
    names = {row.checkpoint.name for row in own}
    return [row for row in known_checkpoints(entry.name) if row.checkpoint.name not in names] + own


def _listed() -> Iterator[KnownCheckpoint]:
    for entry in registry().of_kind("task"):
        if entry.description:
            for checkpoint in entry.get().checkpoints:
                yield KnownCheckpoint(checkpoint, entry.name, entry.distribution)


@functools.cache
def _offered() -> tuple[list[KnownCheckpoint], list[BrokenCheckpoint]]:
    """The entry points of the group, loaded one by one."""
    found: list[KnownCheckpoint] = []
    broken: list[BrokenCheckpoint] = []
    for distribution, _, point in sorted(entry_points_of(GROUP), key=lambda row: (row[0], row[2].name)):
        try:
            with calling(f"distribution {distribution}", f"its entry point {point.name}"):
                offered: Any = point.load()
                offered = offered() if callable(offered) else offered
                checkpoints = [offered] if isinstance(offered, Checkpoint) else list(offered)
        except FocusError as error:  # one that fails must not stop the others
            broken.append(BrokenCheckpoint(point.name, distribution, reason(error.__cause__ or error)))
            continue
        for checkpoint in checkpoints:
            if problem := _problem(checkpoint):
                broken.append(BrokenCheckpoint(point.name, distribution, problem))
            else:
                found.append(KnownCheckpoint(checkpoint, checkpoint.task, distribution))
    return found, broken


def _problem(offered: object) -> str:
    if not isinstance(offered, Checkpoint):
        return f"an entry point of {GROUP} leads to Checkpoint(...) descriptions, this one to {type(offered).__name__}"
    return wrong_in(offered) or ("" if offered.task else f"checkpoint {offered.name} does not say its task")
