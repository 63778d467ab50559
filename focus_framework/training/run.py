"""A run from its configuration to its report: builds the parts, trains, scores the best checkpoint, writes down what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from .. import ops
from ..build import build_network, build_refiner
from ..checkpoint import describe, load_network
from ..config import Resolved, RunConfig, to_toml
from ..device import choose_device
from ..errors import ConfigError
from ..files import replacing
from ..interfaces import Prompts, Task
from ..predict import Model
from ..prompts import choose, with_templates
from ..registry import Entry, registry
from .data import RunData, load_data
from .loop import BEST, LATEST, Progress, Trainer
from .report import write_report, write_samples
from .state import load_state
from .validation import score

logger = logging.getLogger(__name__)

CONFIG = "config.toml"


@dataclass(frozen=True)
class Summary:
    """What a run came to."""

    folder: Path
    checkpoint: Path
    best: Path
    steps: int
    seconds: float
    validation: Mapping[str, float]
    """Scores of the best checkpoint."""
    test: Mapping[str, float]
    """Its scores on test pictures that nothing was chosen by; empty where the data have none."""
    baselines: Mapping[str, float]
    """The primary metric of predictions that need no learning, on the same test pictures; for practice images."""
    samples: Path | None
    """A contact sheet: picture, truth, prediction."""

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "validation": dict(self.validation), "test": dict(self.test), "baselines": dict(self.baselines)}


def train(
    resolved: Resolved,
    task: Entry,
    folder: Path,
    *,
    resume: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Train as the configuration says and keep everything in `folder`; with `resume`, go on from the state saved there.

    Raises a `FocusError` for what the user can mend, before the first step wherever that can be known.
    """
    config, chosen = resolved.config, task.get()
    if (folder / LATEST).exists() and not resume:
        raise ConfigError(f"{folder} holds a run already; go on with it by --resume {folder}, or choose another --out")
    state = load_state(folder) if resume else None
    accelerator = _accelerator(config)
    torch.manual_seed(config.training.seed)
    data = load_data(config, chosen)
    prompts = choose(chosen, config.prompts, resolved.sources, task.distribution)
    model = Model(config, build_network(config, weights="none" if state else None))
    refiner = _build_refiner(config, prompts, model)
    description = {**describe(config, model.network, task, prompts), "data": config.data.train, "ops": ops.backend()}
    _write_config(folder, config.model_copy(update={"task": task.reference}))  # so that a task in a file is found again
    logger.info("training on %s, %s, deformable attention: %s", data.summary, accelerator.device, ops.backend())
    trainer = Trainer(
        config,
        chosen,
        model,
        accelerator,
        folder,
        description=description,
        validate=lambda current: score(current, data.validation or (), chosen.metrics),
        refiner=refiner,
    )
    if state:
        trainer.restore(state)
    if trainer.share < 1:
        trainer.run(data.batches(config, first_step=trainer.step, device=accelerator.device), on_progress)
    return _finish(trainer, data, folder)


def _finish(trainer: Trainer, data: RunData, folder: Path) -> Summary:
    """Score the best checkpoint on the test pictures and write the samples and the report."""
    config, network, description = load_network(folder / BEST)
    best = Model(config, network, description).to(trainer.accelerator.device).eval()
    metrics = trainer.task.metrics
    test = score(best, data.test, metrics) if data.test else {}
    baselines = dict(data.baselines(trainer.task.primary_metric))
    shown = data.test or data.validation
    samples = write_samples(folder / "samples", best, shown) if shown else None
    summary = Summary(folder, folder / LATEST, folder / BEST, trainer.step, trainer.seconds, trainer.scores, test, baselines, samples)
    write_report(folder / "report.md", summary, trainer.task, config, trainer.description["prompts"])
    return summary


def _accelerator(config: RunConfig) -> Accelerator:
    """Device and precision as asked for; both fail here and not in the middle of the run."""
    device = choose_device(config.training.device)
    precision = config.training.precision
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 needs a GPU; on a CPU use fp32 or bf16")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # accelerate keeps one state a process and refuses another precision; a notebook may train twice.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device.type == "cpu", mixed_precision={"fp32": "no"}.get(precision, precision))


def _build_refiner(config: RunConfig, prompts: tuple[Prompts, ...], model: Model) -> tuple[nn.Module, str] | None:
    choice = config.refiner
    if choice.name == "none":
        return None
    description = registry().get("refiner", choice.name)
    mean, std = (tuple(buffer.flatten().tolist()) for buffer in (model.mean, model.std))
    pairs = with_templates(prompts, config.prompts.templates)
    loss = build_refiner(choice, pairs, mean=mean, std=std)
    return loss, description.heads if choice.heads == "default" else choice.heads  # type: ignore[return-value]


def _write_config(folder: Path, config: RunConfig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / CONFIG) as beside:
        beside.write_text(to_toml(config), encoding="utf-8")


def new_folder(task: Task, root: Path = Path("runs")) -> Path:
    """A folder for a new run that does not exist yet: ``runs/shadow``, ``runs/shadow-2``, ..."""
    names: Iterator[str] = (task.name if number == 1 else f"{task.name}-{number}" for number in range(1, 10_000))
    return next(path for name in names if not (path := root / name).exists())
