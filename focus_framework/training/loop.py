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
from accelerate import Accelerator
from torch import Tensor, nn

from ..checkpoint import write_checkpoint
from ..config import RunConfig
from ..errors import FocusError
from ..interfaces import LOWER_IS_BETTER, Task
from ..model.losses import Targets, losses
from ..predict import Model
from .logs import Log
from .optimizer import build_optimizer, rate_factor, set_rate
from .randomness import Draws, seed_step
from .state import TrainingState, save_state

logger = logging.getLogger(__name__)

LATEST, BEST = "checkpoint.safetensors", "best.safetensors"
TERMS = ("clip", "label", "mask", "box")


class DivergedError(FocusError):
    """Loss or gradients stopped being numbers."""


@dataclass(frozen=True)
class Progress:
    """Where a run is, for whoever shows it."""

    step: int
    share: float
    """0 at the start, 1 at the end."""
    record: Mapping[str, Any] | None = None
    """The line of `metrics.jsonl` that this step wrote, if it wrote one."""


class Trainer:
    """One run. `refiner` is the built loss of a refiner plugin and the names of the heads it reads, or None."""

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        model: Model,
        accelerator: Accelerator,
        folder: Path,
        *,
        description: Mapping[str, Any],
        validate: Callable[[Model], dict[str, float]],
        refiner: tuple[nn.Module, str] | None = None,
    ) -> None:
        self.config, self.task, self.accelerator, self.folder = config, task, accelerator, folder
        self.description, self.validate = description, validate
        self.model = model.to(accelerator.device).train()
        self.refiner: nn.Module | None = refiner[0].to(accelerator.device) if refiner else None
        self.refined_heads = refiner[1] if refiner else "last"
        others = list(self.refiner.parameters()) if self.refiner else []
        self.optimizer = build_optimizer(model.network, others, config.training)
        self.network, self.prepared = accelerator.prepare(model.network, self.optimizer)
        self.trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.step, self.seconds = 0, 0.0
        self.best: float | None = None
        self.scores: dict[str, float] = {}

    @property
    def share(self) -> float:
        """How much of the run is done, by steps and by time, whichever is further."""
        plan = self.config.training
        by_steps = self.step / plan.steps if plan.steps else 0.0
        by_time = self.seconds / (60 * plan.minutes) if plan.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def restore(self, state: TrainingState) -> None:
        """Go on from a saved state."""
        self.model.network.load_state_dict(state.network)
        if self.refiner:
            self.refiner.load_state_dict(state.refiner)
        self.optimizer.load_state_dict(state.optimizer)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state.scaler)
        self.step, self.seconds, self.best, self.scores = state.step, state.seconds, state.best, dict(state.scores)

    def run(self, batches: Iterable[Mapping[str, Any]], on_progress: Callable[[Progress], None]) -> None:
        """Train to the end of the plan; `batches` are those of the steps to come, without end."""
        plan = self.config.training
        with Log(self.folder, start=self.step) as log:
            saved = self.step
            mark = (time.monotonic(), self.step)
            started = time.monotonic() - self.seconds
            for batch in batches:
                terms = self._train_step(batch)
                self.seconds = time.monotonic() - started
                ended = self.share >= 1
                record = None
                if self.step % plan.log_every == 0 or ended or self.step == 1:
                    now = time.monotonic()
                    rate = (self.step - mark[1]) * plan.batch_size / max(now - mark[0], 1e-9)
                    record = self._record(terms, rate, batch)
                    mark = (now, self.step)
                if self.step % plan.checkpoint_every == 0 or ended:
                    record = {**(record or {"step": self.step}), **self.checkpoint()}
                    saved, mark = self.step, (time.monotonic(), self.step)
                if record:
                    log.write(record)
                on_progress(Progress(self.step, self.share, record))
                if ended:
                    break
            if saved != self.step:
                self.checkpoint()

    def _train_step(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """One update; the loss terms as scalars on the device."""
        plan, device = self.config.training, self.accelerator.device
        seed_step(plan.seed, self.step)
        set_rate(self.optimizer, plan.learning_rate * rate_factor(self.share, plan))
        images = self.model.normalise(batch["image"].to(device, non_blocking=True))
        targets = Targets.of(batch["mask"].to(device, non_blocking=True))
        with self.accelerator.autocast():
            heads = self.network(images, all_heads=True)
            matched, ordered = losses(heads, targets, self.config.loss, Draws(plan.seed, self.step, device))
            terms = matched._asdict()
            terms["clip"] = self._refine(images, ordered.mask_logits)
        total = torch.stack([terms[name] for name in TERMS]).sum()
        self.prepared.zero_grad(set_to_none=True)
        self.accelerator.backward(total)
        terms["gradient_norm"] = self.accelerator.clip_grad_norm_(self.trained, plan.gradient_norm)
        self.prepared.step()
        self.step += 1
        return {"loss": total.detach(), **{name: value.detach() for name, value in terms.items()}}

    def _refine(self, images: Tensor, mask_logits: Tensor) -> Tensor:
        if self.refiner is None:
            return images.new_zeros(())
        heads = mask_logits if self.refined_heads == "all" else mask_logits[-1:]
        return self.config.loss.clip * self.refiner(images, heads) * len(heads)

    def _record(self, terms: Mapping[str, Tensor], rate: float, batch: Mapping[str, Any]) -> dict[str, Any]:
        """A line of `metrics.jsonl`. Raises `DivergedError` where the loss is not a number."""
        values = {name: float(value) for name, value in terms.items()}
        if not math.isfinite(values["loss"]):
            names = ", ".join(batch["name"][:8])
            raise DivergedError(
                f"the loss is {values['loss']} at step {self.step} (batch: {names}); "
                "lower --learning-rate, or use --precision fp32. The last checkpoint is kept"
            )
        return {
            "step": self.step,
            "loss": values["loss"],
            **{f"loss_{name}": values[name] for name in TERMS},
            "gradient_norm": values["gradient_norm"] if math.isfinite(values["gradient_norm"]) else None,
            "learning_rate": self.optimizer.param_groups[-1]["lr"],
            "images_per_second": round(rate, 2),
            "seconds": round(self.seconds, 1),
        }

    def checkpoint(self) -> dict[str, float]:
        """Score the network and save it: the latest, the best if it is, and the state to go on from. Returns the scores."""
        scores = self.validate(self.model)
        self.model.train()
        state = self.model.network.state_dict()
        description = {**self.description, "step": self.step, "validation": _finite(scores)}
        write_checkpoint(self.folder / LATEST, state, description)
        if self._improves(scores):
            self.best, self.scores = scores.get(self.task.primary_metric, math.nan), scores
            write_checkpoint(self.folder / BEST, state, description)
        scaler = self.accelerator.scaler
        save_state(
            self.folder,
            TrainingState(
                step=self.step,
                seconds=self.seconds,
                network=state,
                refiner=self.refiner.state_dict() if self.refiner else {},
                optimizer=self.optimizer.state_dict(),
                scaler=scaler.state_dict() if scaler is not None else {},
                best=self.best,
                scores=self.scores,
            ),
        )
        return {f"validation_{name}": value for name, value in _finite(scores).items()}

    def _improves(self, scores: Mapping[str, float]) -> bool:
        """Whether these scores beat the best; without a score (no validation pairs) the latest is the best."""
        new = scores.get(self.task.primary_metric, math.nan)
        if self.best is None or math.isnan(self.best):
            return True
        return new < self.best if self.task.primary_metric in LOWER_IS_BETTER else new > self.best


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if math.isfinite(value)}
