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

from ...checkpoint.tasks import label, scores_of, tasks_of
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
        beside.write_text(text, encoding="utf-8", errors="surrogateescape")


def render(
    summary: Summary,
    config: RunConfig,
    best: Mapping[str, Any],
    where: Mapping[str, str],
    shown: Mapping[str, Tiles],
    log: Sequence[Mapping[str, Any]],
) -> str:
    """The page; `log` are the lines of `metrics.jsonl`."""
    tasks = [task for task in tasks_of(best) if task["name"] in config.tasks] or tasks_of(best)  # those that are kept were not trained
    names = [task["name"] for task in tasks]
    metrics = {task["name"]: [task["primary_metric"], *(m for m in task["metrics"] if m != task["primary_metric"])] for task in tasks}
    curves = {
        f"validation_{label(name, metric, config.known_tasks)}": f"{name}: {LABELS[metric]}" if len(names) > 1 else LABELS[metric]
        for name in names
        for metric in (metrics[name] if len(names) == 1 else metrics[name][:1])
    }
    body = [
        page.facts(_facts(summary, config, best, where)),
        page.heading("Scores"),
        _choice(metrics, best["step"]),
    ]
    for name in names:
        body += [page.paragraph(f"Task {name}:")] if len(names) > 1 else []
        own = metrics[name]
        body += [_scores(summary, name, own, config.known_tasks), _baselines(summary, name, own[0], config.known_tasks)]
    body += [
        page.heading("Course"),
        page.drawing((11, 3 * (-(-(len(curves) + 2) // 3))), partial(_draw_course, log=log, curves=curves)),
    ]
    if summary.skipped:
        body += [
            page.heading("Left out"),
            page.paragraph(f"{len(summary.skipped)} images could not be read: {', '.join(summary.skipped)}"),
        ]
    if shown:
        body += [page.heading(f"{'Test' if summary.test else 'Validation'} images"), page.cards(starmap(page.card, shown.items()))]
    prompts = [[pair["foreground"], pair["background"], pair["source"]] for task in tasks for pair in task["prompts"]]
    body += [page.heading("Prompts"), page.table(["foreground", "background", "from"], prompts, names=3)]
    body += [page.heading("Configuration"), page.listing(to_toml(config))]
    title = tasks[0]["title"] if len(tasks) == 1 else f"{len(tasks)} tasks, {', '.join(names)}"
    return page.page(f"Training: {title}", body)


def _facts(summary: Summary, config: RunConfig, best: Mapping[str, Any], where: Mapping[str, str]) -> dict[str, str]:
    plan = config.training
    plugins = [f"{plugin['kind']} {plugin['name']} ({plugin['distribution']} {plugin['version']})" for plugin in best["plugins"]]
    versions = {"focus-framework": best["framework_version"], "torch": torch.__version__, "Python": platform.python_version()}
    return {
        "Task": ", ".join(config.tasks),
        **({"Tasks that stay as they were": ", ".join(config.conditioner.kept)} if config.conditioner.kept else {}),
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


def _choice(metrics: Mapping[str, Sequence[str]], step: int) -> Markup:
    """By which rule the best checkpoint is the best."""
    if len(metrics) > 1:
        primary = ", ".join(f"{LABELS[names[0]]} ({task})" for task, names in metrics.items())
        said = f"the best mean rank over the tasks, of which each ranks the checkpoints by its primary metric, {primary}, "
        said += "on the validation images. "
    else:
        [[first, *_]] = metrics.values()
        said = f"the best {LABELS[first]} ({'lower' if first in LOWER_IS_BETTER else 'higher'} is better) on the validation images. "
    return page.paragraph(f"The best checkpoint, of step {step}: {said}Protocol {PROTOCOL}.")


def _scores(summary: Summary, task: str, metrics: Sequence[str], tasks: Sequence[str]) -> Markup:
    columns = {
        title: scores_of(task, scores, tasks) for title, scores in (("validation", summary.validation), ("test", summary.test)) if scores
    }
    rows = [[LABELS[name], *(number(name, scores) for scores in columns.values())] for name in metrics]
    return page.table(["metric", *columns], rows)


def _baselines(summary: Summary, task: str, metric: str, tasks: Sequence[str]) -> Markup:
    baselines = scores_of(task, summary.baselines, tasks)
    if not baselines:
        return Markup()
    best = best_baseline(baselines, metric)
    shown = {name: number(metric, {metric: value}) for name, value in baselines.items()}
    said = f"The best non-learned baseline reaches {shown[best]} on the test images ({best})."
    return page.paragraph(said) + page.details("All baselines", page.table(["baseline", LABELS[metric]], shown.items()))


def _log(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _draw_course(figure: Figure, log: Sequence[Mapping[str, Any]], curves: Mapping[str, str]) -> None:
    """Losses, learning rate and validation scores over the steps; `curves` are their names in the log and for people."""
    panels = {"loss": LOSSES, "learning rate": ("learning_rate",), **{shown: (name,) for name, shown in curves.items()}}
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
