"""The training loop: batches in, a trained network out, with scores and checkpoints on the way."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import assembled, write_checkpoint
from ..checkpoint.tasks import joined, label
from ..inference.model import Model
from ..plugin.interfaces import Task
from ..runtime import ProcessorShare
from .best import Best
from .conditioning import read_examples
from .data import RunData
from .fitting import find_parts
from .health import DivergedError, Health, are_finite
from .memory import memory_in_use
from .optimizer import rate_factor
from .processes.stopping import Signals, StoppedError
from .record.folder import SaveError, saving
from .record.logs import Log
from .record.report import as_sheet, predicted
from .record.state import TrainingState, save_state
from .skipping import Skipped
from .update import TERMS, Update
from .validation import score

logger = logging.getLogger(__name__)

LATEST, BEST = "checkpoint.safetensors", "best.safetensors"
TRACKED_IMAGES = 4
"""Validation images that the trackers show."""


@dataclass(frozen=True)
class Progress:
    """Where a run is, for whoever shows it."""

    step: int
    share: float
    """0 at the start, 1 at the end."""
    record: Mapping[str, Any] | None = None
    """The line of `metrics.jsonl` that this step wrote, if it wrote one."""
    seconds_left: float = math.nan
    """If the rest goes as fast as what was done."""


class Trainer:
    """One run. `identity` is what must be the same when it goes on."""

    def __init__(
        self,
        update: Update,
        data: RunData,
        folder: Path,
        *,
        identity: Mapping[str, Any],
        description: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.data, self.update, self.folder = update.config, data, update, folder
        self.identity, self.description = identity, description
        self.tasks: Mapping[str, Task] = {name: part.task for name, part in data.parts.items()}
        self.team, self.device = update.team, update.accelerator.device
        plan = self.config.training
        self.health = Health(folder, update.accelerator, update.team, limit=plan.bad_steps, scaled=update.accelerator.scaler is not None)
        self.step, self.seconds = 0, 0.0
        self.processor_share: float | None = None
        """Of the processor time that the steps of this process wanted; None where that is not known."""
        self.primary = {label(name, task.primary_metric, self.config.known_tasks): task.primary_metric for name, task in self.tasks.items()}
        """The primary metric of each task, by what its scores are called."""
        self.best, self.skipped = Best(self.primary), Skipped(update.team)
        self._clock = clock

    @property
    def share(self) -> float:
        """How much of the run is done, by steps and by time, whichever is further."""
        plan = self.config.training
        by_steps = self.step / plan.steps if plan.steps else 0.0
        by_time = self.seconds / (60 * plan.minutes) if plan.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    @property
    def ended(self) -> bool:
        """Whether the plan is done, or nothing got better for too long."""
        patience = self.config.training.patience
        return self.share >= 1 or (patience is not None and self.best.stale >= patience)

    def restore(self, state: TrainingState) -> None:
        """Take up a saved state."""
        self.update.restore(state.update)
        self.step, self.seconds = state.step, state.seconds
        self.skipped.names = list(state.skipped)
        self.best = state.best_so_far(self.primary)

    def run(self, batches: Iterable[Mapping[str, Any]], on_progress: Callable[[Progress], None]) -> None:
        """Train to the end of the plan; `batches` are those of the steps to come, without end. Raises `StoppedError` where a signal
        came, after saving."""
        plan = self.config.training
        folder = self.folder if self.team.leads else None
        with Signals() as signals, self.team.noticing_loss(self.folder), Log(folder, self.config, start=self.step) as log:
            mark = (self._clock(), self.step)
            started = self._clock() - self.seconds
            processor = ProcessorShare()
            unfitted = plan.auto_batch
            for batch in batches:
                if unfitted:
                    self._fit(batch)
                    unfitted = False
                terms = self.update(batch, self.step, plan.learning_rate * rate_factor(self.share, plan))
                self.step += 1
                self.seconds, signal = self.team.largest(self._clock() - started, signals.received)
                self.health.note(self.step, batch["name"], terms["loss"], terms["gradient_norm"], self._named(terms))
                self.skipped.note(dict(batch["skipped"]))
                record: dict[str, Any] | None = None
                if self.step % plan.log_every == 0 or self.share >= 1 or self.step == 1:
                    now = self._clock()
                    record = self._record(terms, (self.step - mark[1]) * plan.batch_size / max(now - mark[0], 1e-9))
                    mark = (now, self.step)
                if self.step % plan.checkpoint_every == 0 or self.share >= 1:
                    record = {**(record or {"step": self.step}), **self.checkpoint(log)}
                    mark = (self._clock(), self.step)
                if record:
                    log.write(record)
                on_progress(Progress(self.step, self.share, record, self.seconds * (1 - self.share) / max(self.share, 1e-9)))
                if self.ended:
                    self.processor_share = processor.now()
                    break
                if signal:
                    self.save(self._sound_state())
                    raise StoppedError(int(signal), self.step, self.folder, leads=self.team.leads)

    def _named(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the loss by the names that an error gives them."""
        refiner = f"clip, the refiner {self.config.refiner.name}'s" if self.config.refiner.name != "none" else "clip"
        return {refiner if name == "clip" else name: terms[name] for name in TERMS}

    def _fit(self, batch: Mapping[str, Any]) -> None:
        """Split batches into as few micro-batches as fit into memory."""
        self.update.parts = find_parts(self.update, batch, self.step)
        if self.update.parts > 1:
            logger.info("each batch is split into %d micro-batches, to fit into memory", self.update.parts)

    def _record(self, terms: Mapping[str, Tensor], rate: float) -> dict[str, Any]:
        """A line of `metrics.jsonl`. Raises `DivergedError` where the run has gone wrong."""
        self.health.check()
        self.skipped.tell()
        names = list(terms)
        values = dict(zip(names, self._mean_over_processes([terms[name] for name in names]), strict=True))
        numbers = {"loss": values["loss"], **{f"loss_{name}": values[name] for name in TERMS}, "gradient_norm": values["gradient_norm"]}
        return {
            "step": self.step,
            **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
            "learning_rate": self.update.optimizer.param_groups[-1]["lr"],
            "images_per_second": round(rate, 2),
            "seconds": round(self.seconds, 1),
            "memory_mib": memory_in_use(self.device),
            **({"skipped": len(self.skipped.names)} if self.skipped.names else {}),
        }

    def _mean_over_processes(self, scalars: list[Tensor]) -> list[float]:
        return self.update.accelerator.reduce(torch.stack(scalars), "mean").tolist()

    def checkpoint(self, log: Log) -> dict[str, float]:
        """Score the network and save it: the latest, the best if it is, and the state to go on from. Returns the scores."""
        state = self._sound_state()
        scores = self.team.told(self._score(self.scored(state), log) if self.team.leads else {})
        self.update.model.train()
        improved = self.best.note(scores)
        self.save(state, validation=_finite(scores), best=improved)
        return {f"validation_{name}": value for name, value in _finite(scores).items()}

    def scored(self, state: Mapping[str, Any]) -> Model:
        """What is scored, by the main process alone; put together from `state` where `Update.assembles` says so, else `state` may be empty.
        Vectors of tasks that are made of examples are those of these weights, in `state` too."""
        network = self.update.best_network
        if self.update.assembles:
            _, network = assembled(self.description, self.update.weights(state), self.folder)
        model = Model(self.config, network).to(self.device)
        if self.data.samples.shots:
            read_examples(model, self.data)
            if state:
                self.update.weights(state)["conditioner.vectors"].copy_(network.vectors)
        return model

    def _score(self, model: Model, log: Log) -> dict[str, float]:
        return joined({name: self._score_task(name, model.for_task(name), log) for name in self.tasks}, self.config.known_tasks)

    def _score_task(self, name: str, model: Model, log: Log) -> dict[str, float]:
        task, validation = self.tasks[name], self.data.parts[name].validation
        if validation is None:
            return dict.fromkeys(task.metrics, math.nan)
        scores = score(model, validation, task.metrics, skip_unreadable=self.config.data.unreadable == "skip")
        shown = as_sheet(predicted(model, validation, TRACKED_IMAGES))
        log.picture(label(name, "validation", list(self.tasks)), shown, self.step)
        return scores

    def _sound_state(self) -> dict[str, Any]:
        """What is to be saved. Raises `DivergedError` where the run has gone wrong."""
        self.health.check()
        self.skipped.tell()
        state = self.update.state()
        sound = are_finite([*state["network"].values(), *state["average"].values()])
        if not self.team.told(sound):
            raise DivergedError(
                f"the weights are NaN or infinite at step {self.step}; lower --learning-rate, or use --precision fp32. "
                "The last checkpoint is kept"
            )
        return state

    def save(self, state: Mapping[str, Any], *, validation: Mapping[str, float] | None = None, best: bool = False) -> None:
        """Write the checkpoint and the state, without a look at the validation images. Raises `SaveError`; what was saved before is
        whole then."""
        if self.team.leads:
            if validation is None and self.data.samples.shots:  # scoring would have read the examples
                self.scored(state)
            weights = self.update.weights(state)
            if not self.folder.is_dir():
                raise SaveError(f"the run's folder {self.folder} is gone; nothing can be saved at step {self.step}")
            others = self.description.get("validation", {})  # of tasks that stay what they are
            description = {**self.description, "step": self.step, "validation": {**others, **(validation or {})}}
            with saving(self.folder):
                for name in (LATEST, BEST) if best else (LATEST,):
                    write_checkpoint(self.folder / name, weights, description)
                save_state(self.folder, self._state(state))
        self.team.wait()

    def _state(self, update: Mapping[str, Any]) -> TrainingState:
        return TrainingState(
            identity=dict(self.identity),
            step=self.step,
            seconds=self.seconds,
            update=dict(update),
            scores=self.best.scores,
            stale=self.best.stale,
            skipped=self.skipped.names,
            history=self.best.history,
            kept=self.best.kept,
        )


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if math.isfinite(value)}
