"""What a run leaves for people to look at: contact sheets, and `report.html`, a page that needs nothing beside it."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray

from ...config.layers import to_toml
from ...config.schema import RunConfig
from ...data.dataset import Images
from ...evaluation.baselines import best_baseline
from ...evaluation.scoring import as_levels, measure
from ...evaluation.tables import LABELS, number
from ...files import page
from ...files.atomic import replacing
from ...files.images import ImageArray, write_image
from ...files.sheets import contact_sheet
from ...inference.model import Model
from ...plugin.interfaces import LOWER_IS_BETTER
from ..validation import PROTOCOL, readable
from .summary import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES = 16
WORST = 8
BATCH = 8
LOSSES = ("loss", "loss_clip", "loss_label", "loss_mask", "loss_box")

Tiles: TypeAlias = Mapping[str, ImageArray]
"""Image, truth and prediction of one example."""


def predicted(model: Model, pictures: Images, count: int = SAMPLES) -> dict[str, Tiles]:
    """The first `count` images that can be read, by name."""
    return {name: tiles for name, _, tiles in _predictions(model, pictures, range(min(count, len(pictures))))}


def worst(model: Model, pictures: Images, metric: str, count: int = WORST) -> dict[str, Tiles]:
    """The `count` images of the worst scores, the worst first, by name; those for which the metric is undefined are left out."""
    kept: list[tuple[float, str, Tiles]] = []
    for name, truth, tiles in _predictions(model, pictures, range(len(pictures))):
        value = float(measure(tiles["prediction"], truth, [metric], protocol=PROTOCOL)[metric])
        badness = value if metric in LOWER_IS_BETTER else -value
        if not math.isnan(badness):
            kept = sorted([*kept, (badness, name, tiles)], key=lambda row: (-row[0], row[1]))[:count]
    return {name: tiles for _, name, tiles in kept}


def _predictions(model: Model, pictures: Images, indices: range) -> Iterator[tuple[str, NDArray[np.bool_], Tiles]]:
    """Name, mask and tiles of the images at `indices` that can be read; a batch of them is in memory."""
    for start in range(indices.start, indices.stop, BATCH):
        examples = list(readable(pictures, range(start, min(start + BATCH, indices.stop)), skip=True))
        results = model.predict([image for _, (image, _) in examples])
        for (index, (image, truth)), result in zip(examples, results, strict=True):
            levels = as_levels(result, PROTOCOL)
            yield pictures.names[index], truth, {"image": image, "truth": truth.astype(np.uint8) * 255, "prediction": levels}


def as_sheet(shown: Mapping[str, Tiles]) -> ImageArray:
    """All of them as one image."""
    rows = [list(tiles.values()) for tiles in shown.values()]
    return contact_sheet(rows, ["image", "truth", "prediction"])


def write_samples(folder: Path, shown: Mapping[str, Tiles], name: str = "best") -> Path:
    """A contact sheet; returns its path."""
    path = folder / f"{name}.png"
    folder.mkdir(parents=True, exist_ok=True)
    write_image(path, as_sheet(shown))
    return path


def write_report(
    summary: Summary, config: RunConfig, best: Mapping[str, Any], where: Mapping[str, str], shown: Mapping[str, Tiles]
) -> None:
    """What was trained on what, how well and by which rules, the course of it, what it predicts, and every setting.

    `best` is the description that the best checkpoint carries, `where` says what only the run knows: its data and its machine.
    """
    text = render(summary, config, best, where, shown, _log(summary.folder / "metrics.jsonl"))
    with replacing(summary.report) as beside:
        beside.write_text(text, encoding="utf-8")


def render(
    summary: Summary,
    config: RunConfig,
    best: Mapping[str, Any],
    where: Mapping[str, str],
    shown: Mapping[str, Tiles],
    log: Sequence[Mapping[str, Any]],
) -> str:
    """The page; `log` are the lines of `metrics.jsonl`."""
    task = best["task"]
    metrics = [task["primary_metric"], *(name for name in task["metrics"] if name != task["primary_metric"])]
    body = [
        page.facts(_facts(summary, config, best, where)),
        page.heading("Scores"),
        _scores(summary, metrics, best["step"]),
        _baselines(summary, metrics[0]),
        page.heading("Course"),
        page.drawing((11, 3 * (-(-(len(metrics) + 2) // 3))), partial(_draw_course, log=log, metrics=metrics)),
    ]
    if summary.skipped:
        body += [
            page.heading("Left out"),
            page.paragraph(f"{len(summary.skipped)} images could not be read: {', '.join(summary.skipped)}"),
        ]
    if shown:
        body += [page.heading(f"{'Test' if summary.test else 'Validation'} images"), page.cards(starmap(page.card, shown.items()))]
    prompts = [[pair["foreground"], pair["background"], pair["source"]] for pair in best["prompts"]]
    body += [page.heading("Prompts"), page.table(["foreground", "background", "from"], prompts, names=3)]
    body += [page.heading("Configuration"), page.listing(to_toml(config))]
    return page.page(f"Training: {task['title']}", body)


def _facts(summary: Summary, config: RunConfig, best: Mapping[str, Any], where: Mapping[str, str]) -> dict[str, str]:
    plan = config.training
    plugins = [f"{plugin['kind']} {plugin['name']} ({plugin['distribution']} {plugin['version']})" for plugin in best["plugins"]]
    versions = {"focus-framework": best["framework_version"], "torch": torch.__version__, "Python": platform.python_version()}
    return {
        "Task": best["task"]["name"],
        "Preset": config.preset,
        **({"Starts from": _parent(best["parent"])} if "parent" in best else {}),
        **where,
        "Length": f"{summary.steps} steps of {plan.batch_size} images, {summary.seconds:.0f} s{summary.delay}",
        "Seed": str(plan.seed),
        "Precision": summary.precision or plan.precision,
        "Deformable attention": best["ops"],
        "Parameters": f"{best['parameters']:,}",
        "Plugins": ", ".join(plugins),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _parent(parent: Mapping[str, Any]) -> str:
    step = f", step {parent['step']}" if parent["step"] is not None else ""
    taken = f"{parent['tensors_taken']} of {parent['tensors']} tensors"
    return f"{parent['reference']} (task {parent['task']}{step}; {taken}; sha256 {parent['sha256']})"


def _scores(summary: Summary, metrics: Sequence[str], step: int) -> Markup:
    direction = "lower" if metrics[0] in LOWER_IS_BETTER else "higher"
    said = f"The best checkpoint, of step {step}: the best {LABELS[metrics[0]]} ({direction} is better) on the validation images. "
    columns = {title: scores for title, scores in (("validation", summary.validation), ("test", summary.test)) if scores}
    rows = [[LABELS[name], *(number(name, scores) for scores in columns.values())] for name in metrics]
    return page.paragraph(f"{said}Protocol {PROTOCOL}.") + page.table(["metric", *columns], rows)


def _baselines(summary: Summary, metric: str) -> Markup:
    if not summary.baselines:
        return Markup()
    best = best_baseline(dict(summary.baselines), metric)
    shown = {name: number(metric, {metric: value}) for name, value in summary.baselines.items()}
    said = f"The best non-learned baseline reaches {shown[best]} on the test images ({best})."
    return page.paragraph(said) + page.details("All baselines", page.table(["baseline", LABELS[metric]], shown.items()))


def _log(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _draw_course(figure: Figure, log: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> None:
    """Losses, learning rate and every validation score over the steps."""
    panels = {"loss": LOSSES, "learning rate": ("learning_rate",), **{LABELS[name]: (f"validation_{name}",) for name in metrics}}
    grid = figure.subplots(-(-len(panels) // 3), 3, squeeze=False).flatten()
    for axes, (title, names) in zip(grid, panels.items(), strict=False):
        for name in names:
            points = [(line["step"], line[name]) for line in log if line.get(name) is not None]
            if any(value for _, value in points):
                mark = "o" if name.startswith("validation_") else ""
                axes.plot(*zip(*points, strict=True), label=name, linewidth=2 if name == "loss" else 1.2, marker=mark, markersize=3)
        axes.set(xlabel="step", ylabel=title)
    grid[0].legend()
    for axes in grid[len(panels) :]:
        axes.remove()
