"""What a run leaves for people to look at: contact sheets and `report.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config import RunConfig
from ..data.baselines import best_baseline
from ..data.dataset import Pictures
from ..files import replacing
from ..images import Picture, write_image
from ..interfaces import LOWER_IS_BETTER, Task
from ..predict import Model
from ..sheets import contact_sheet
from .validation import readable

if TYPE_CHECKING:
    from .run import Summary

SHOWN = 16


def contact_picture(model: Model, pictures: Pictures, count: int = SHOWN) -> Picture:
    """The first readable pictures as a sheet: picture, truth, probability."""
    examples = list(readable(pictures, range(min(count, len(pictures))), skip=True))
    results = model.predict([image for image, _ in examples])
    rows = [
        [image, truth.astype(np.uint8) * 255, np.round(result.probability * 255).astype(np.uint8)]
        for (image, truth), result in zip(examples, results, strict=True)
    ]
    return contact_sheet(rows, ["picture", "truth", "prediction"])


def write_samples(folder: Path, model: Model, pictures: Pictures) -> Path:
    """A contact sheet of the first pictures; returns its path."""
    path = folder / "best.png"
    folder.mkdir(parents=True, exist_ok=True)
    write_image(path, contact_picture(model, pictures))
    return path


def write_report(path: Path, summary: Summary, task: Task, config: RunConfig, prompts: Sequence[Mapping[str, str]]) -> None:
    """The scores and what they were made with, as Markdown. `prompts` are the pairs as a checkpoint's description has them."""
    lines = [
        f"# {task.title}",
        "",
        f"Task `{task.name}`, preset `{config.preset}`, data `{config.data.train}`, backbone `{config.backbone.name}`, "
        f"enhancer `{config.enhancer.name}`, refiner `{config.refiner.name}`; "
        f"{summary.steps} steps in {summary.seconds:.0f} s, seed {config.training.seed}.",
        "",
        "| foreground prompt | background prompt | from |",
        "|---|---|---|",
        *(f"| {pair['foreground']} | {pair['background']} | {pair['source']} |" for pair in prompts),
        "",
        f"Scores of the best checkpoint (the best {task.primary_metric} on the validation pictures), protocol `standard`:",
        "",
        "| metric | validation | test |",
        "|---|---:|---:|",
        *(f"| {metric} | {_number(summary.validation, metric)} | {_number(summary.test, metric)} |" for metric in task.metrics),
    ]
    if summary.baselines:
        best = best_baseline(dict(summary.baselines), task.primary_metric)
        lines += [
            "",
            f"{task.primary_metric} of what needs no learning, on the test pictures "
            f"({'lower' if task.primary_metric in LOWER_IS_BETTER else 'higher'} is better):",
            "",
            "| baseline | score |",
            "|---|---:|",
            *(f"| {'**' * (name == best)}{name}{'**' * (name == best)} | {value:.4f} |" for name, value in summary.baselines.items()),
        ]
    if summary.samples:
        lines += ["", f"![picture, truth, prediction]({summary.samples.relative_to(path.parent)})"]
    with replacing(path) as beside:
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _number(scores: object, metric: str) -> str:
    value = scores.get(metric) if isinstance(scores, dict) else None
    return "-" if value is None else f"{value:.4f}"
