"""An evaluation as one page of HTML that needs nothing beside it: tables, curves, images, and the numbers of every image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ..files import page
from ..inference.model import Model
from ..plugin.interfaces import LOWER_IS_BETTER
from .samples import Grey, Mask, Predicted, Sample
from .scoring import Evaluation, Score, as_levels
from .tables import LABELS, Table, number, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .comparison import Comparison

EXAMPLES = 4
"""Images shown as best, as median and as worst, each."""
MISSED, WRONG = (60, 120, 255), (255, 70, 50)


@dataclass(frozen=True)
class View:
    """What is shown of one image; `picture` `[H, W, 3]` is None where only masks are known."""

    picture: NDArray[np.uint8] | None
    truth: Mask
    level: Grey


@dataclass(frozen=True)
class Section:
    """A data set in the report: its numbers, with `Evaluation.scores`, and a way to see one of its images again."""

    evaluation: Evaluation
    view: Callable[[str], View]


def section_of_files(evaluation: Evaluation, predicted: Sequence[Predicted]) -> Section:
    """Prediction files are read again for the few images that are shown."""
    by_name = {one.name: one for one in predicted}

    def view(name: str) -> View:
        one = by_name[name]
        level, mask = one.read()
        return View(one.pair.read_image() if one.has_image else None, mask, level)

    return Section(evaluation, view)


def section_of_model(evaluation: Evaluation, model: Model, samples: Sequence[Sample]) -> Section:
    """The model predicts the few images that are shown once more: maps are not kept."""
    by_name = {sample.name: sample for sample in samples}

    def view(name: str) -> View:
        picture = by_name[name].read_image()
        level = as_levels(model.predict(picture), evaluation.protocol)
        return View(picture, by_name[name].read_mask((level.shape[0], level.shape[1])), level)

    return Section(evaluation, view)


def render(sections: Sequence[Section], tables: Sequence[Table], metric: str, comparison: Comparison | None = None) -> str:
    """The page; `metric` decides which images are the best, the median and the worst. Of several methods, `comparison` says how far each
    is behind the best."""
    evaluations = [section.evaluation for section in sections]
    body = [part for table in tables for part in (page.paragraph(title(table)), page.table(table.header, table.cells(), names=2))]
    if comparison:
        body += [page.paragraph(comparison.title), page.table(comparison.header, comparison.cells())]
    body += [_undefined(evaluation) for evaluation in evaluations]
    body += [page.heading("Curves"), page.drawing((11, 3.4), lambda figure: _draw_curves(figure, evaluations))]
    body += [_examples(section, metric) for section in sections]
    body += [_every_image(evaluation, tables[0].metrics) for evaluation in evaluations]
    return page.page(f"Evaluation: {', '.join(evaluation.label for evaluation in evaluations)}", body)


def _undefined(evaluation: Evaluation) -> Markup:
    if not evaluation.undefined:
        return Markup()
    said = ", ".join(f"{LABELS[name]} for {count}" for name, count in evaluation.undefined.items())
    return page.paragraph(f"{evaluation.label}: undefined, and left out of the mean, {said} of {evaluation.count} images.")


def _draw_curves(figure: Figure, evaluations: Sequence[Evaluation]) -> None:
    """Precision over recall, and F-beta and E over the threshold, a line a data set."""
    precision_recall, f_beta, e_measure = figure.subplots(1, 3)
    for evaluation in evaluations:
        curves, thresholds = evaluation.curves, np.arange(255, -1, -1)
        precision_recall.plot(curves["recall"], curves["precision"], label=evaluation.label[-40:])
        f_beta.plot(thresholds, curves["f_beta"])
        e_measure.plot(thresholds, curves["e_measure"])
    labels = (("recall", "precision"), ("threshold", "F (β² = 0.3)"), ("threshold", "E"))
    for axes, (x, y) in zip((precision_recall, f_beta, e_measure), labels, strict=True):
        axes.set(xlabel=x, ylabel=y, ylim=(0, 1.02), xlim=(0, 1.02 if x == "recall" else 255))
    if len(evaluations) > 1:
        figure.legend(loc="outside upper center", ncols=min(4, len(evaluations)))


def _examples(section: Section, metric: str) -> Markup:
    parts = [page.heading(f"{section.evaluation.label}: best, median and worst by {LABELS[metric]}")]
    parts.append(page.paragraph("Errors, at one half of the range: foreground that was missed is blue, background that was marked is red."))
    chosen = best_median_worst(section.evaluation.scores, metric)
    if not chosen:
        parts.append(page.paragraph(f"{LABELS[metric]} is defined for no image."))
    for kind, scores in chosen.items():
        parts += [page.heading(kind, 3), page.cards(_card(score, section.view(score.name), metric) for score in scores)]
    return page.joined(parts)


def best_median_worst(scores: Sequence[Score], metric: str, count: int = EXAMPLES) -> dict[str, list[Score]]:
    """`count` images of each kind, fewer where there are not enough to show each once; none for which the metric is undefined."""
    defined = [score for score in scores if not math.isnan(score.values[metric])]
    order = sorted(defined, key=lambda score: score.values[metric], reverse=metric not in LOWER_IS_BETTER)
    count = min(count, max(1, len(order) // 3))
    middle = (len(order) - count) // 2
    chosen = {"Best": order[:count], "Median": order[middle : middle + count], "Worst": order[::-1][:count]}
    return chosen if len(order) >= 3 else {"Best to worst": order} if order else {}


def _card(score: Score, view: View, metric: str) -> Markup:
    tiles = {} if view.picture is None else {"image": view.picture}
    tiles |= {"truth": view.truth.astype(np.uint8) * 255, "prediction": view.level, "errors": error_map(view)}
    return page.card(score.name, tiles, f"{LABELS[metric]} {number(metric, score.values)}")


def error_map(view: View) -> NDArray[np.uint8]:
    """The image in grey, missed foreground blue and wrongly marked background red."""
    mask = view.level > 127
    ground = cv2.cvtColor(view.picture, cv2.COLOR_RGB2GRAY) if view.picture is not None else view.truth.astype(np.uint8) * 90
    drawn = np.repeat(ground[..., None] // 2 + 60, 3, axis=2)
    for where, colour in ((view.truth & ~mask, MISSED), (mask & ~view.truth, WRONG)):
        drawn[where] = (drawn[where] * 0.35 + np.array(colour) * 0.65).astype(np.uint8)
    return drawn


def _every_image(evaluation: Evaluation, metrics: Sequence[str]) -> Markup:
    """All numbers of all images; a click on a column sorts by it."""
    rows = [[score.name, *(number(name, score.values) for name in metrics)] for score in evaluation.scores]
    parts = [page.heading(f"{evaluation.label}: every image"), page.paragraph("Click a column to sort by it.")]
    return page.joined([*parts, page.sortable(["image", *(LABELS[name] for name in metrics)], rows)])
