"""``focus train --dry-run``: everything is built, two steps are done, nothing is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..config.layers import Resolved
from ..plugin.registry import Entry
from .memory import memory_in_use
from .precision import decide
from .run import assemble, begin
from .validation import score

STEPS = 2
SCORED = 4


@dataclass(frozen=True)
class Rehearsal:
    """What a run will take, estimated from its second step and the scoring of a few images."""

    device: str
    seconds_a_step: float
    seconds: float
    """Of the whole run, with what it spends on scoring."""
    steps: int | None
    """Of the whole run; for a run of so many minutes as many as fit."""
    memory_mib: int
    images: int
    parameters: int
    """Those that are trained."""
    precision: str
    """That of the network, and why where ``auto`` chose it."""
    notes: tuple[str, ...] = ()
    """What the backbone says of itself: scales that it lacks, sizes that it takes."""

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


def rehearse(resolved: Resolved, tasks: Entry | Sequence[Entry]) -> Rehearsal | None:
    """Build all parts of a run and do its first two steps; None in a process that only helps. Raises what the run would raise."""
    resolved, chosen = decide(resolved)
    plan = resolved.config.training
    accelerator, team = begin(resolved.config)
    with team:
        trainer, data = assemble(resolved, tasks, Path(), accelerator, team)
        update = trainer.update
        ends = []
        for step, batch in enumerate(islice(data.batches(resolved.config, team, first_step=0, device=trainer.device), STEPS)):
            float(update(batch, step, plan.learning_rate)["loss"])  # waits for the device
            ends.append(time.monotonic())
        state = update.state() if update.assembles else {}
        scored = 0
        if team.leads:
            model = trainer.scored(state)
            for name, part in data.parts.items():
                examples = part.validation[:SCORED] if part.validation else []
                score(model.for_task(name), examples, part.task.metrics)
                scored += len(examples)
        ends.append(time.monotonic())
    if not team.leads:
        return None
    *_, first, second, last = ends
    a_step = second - first
    a_score = (last - second) * data.validation_count / max(scored, 1)
    each = a_step + a_score / plan.checkpoint_every
    steps = plan.steps if plan.steps else int(60 * (plan.minutes or 0) / each)
    seconds = min(steps * each, 60 * plan.minutes) if plan.minutes else steps * each
    trained = sum(parameter.numel() for parameter in update.trained)
    images = len(data.samples)
    notes = tuple(getattr(update.model.network.encoder.backbone, "notes", ()))
    precision = f"{chosen or plan.precision}"
    return Rehearsal(str(trainer.device), a_step, seconds, steps, memory_in_use(trainer.device), images, trained, precision, notes)
