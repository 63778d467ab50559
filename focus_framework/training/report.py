"""What a run leaves for people to look at: contact sheets and `report.md`."""

from __future__ import annotations

import json
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
CURVES = "curves.png"


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


def write_curves(path: Path, log: Path, task: Task) -> None:
    """Loss, its four groups and the primary metric over the steps, as a picture, from the run's `metrics.jsonl`."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for name in ("loss", "loss_clip", "loss_label", "loss_mask", "loss_box"):
        points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
        if any(value for _, value in points):
            losses.plot(*zip(*points, strict=True), label=name, linewidth=2 if name == "loss" else 1)
            losses.legend()
    losses.set(title="training", xlabel="step")
    metric = f"validation_{task.primary_metric}"
    points = [(line["step"], line[metric]) for line in lines if metric in line]
    if points:
        scores.plot(*zip(*points, strict=True), marker="o")
    scores.set(title=f"{task.primary_metric} on the validation pictures", xlabel="step")
    with replacing(path) as beside:
        figure.savefig(beside, dpi=100)


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
    if summary.skipped:
        lines += ["", f"Pictures that could not be read and were left out ({len(summary.skipped)}): {', '.join(summary.skipped)}"]
    lines += ["", f"![loss and validation score over the steps]({CURVES})"]
    if summary.samples:
        lines += ["", f"![picture, truth, prediction]({summary.samples.relative_to(path.parent)})"]
    with replacing(path) as beside:
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _number(scores: object, metric: str) -> str:
    value = scores.get(metric) if isinstance(scores, dict) else None
    return "-" if value is None else f"{value:.4f}"
