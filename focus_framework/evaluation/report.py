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
from .errors import WORDS
from .samples import Grey, Mask, Predicted, Sample
from .scoring import Evaluation, Score, as_levels
from .tables import LABELS, Table, number, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .comparison import Comparison

EXAMPLES, WORST = 4, 20
"""Images shown as best and as median, each, and as worst."""
PARTS = 6
"""Parts of a mask; those of more are counted together."""
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


def render(sections: Sequence[Section], tables: Sequence[Table], metric: str, comparisons: Sequence[Comparison] = ()) -> str:
    """The page; `metric` decides which images are the worst, the median and the best. `comparisons` say how far each of several methods is
    behind the best."""
    evaluations = [section.evaluation for section in sections]
    body = [part for table in tables for part in (page.paragraph(title(table)), page.table(table.header, table.cells(), names=2))]
    for comparison in comparisons:
        body += [page.paragraph(comparison.title), page.table(comparison.header, comparison.cells())]
    body += [_undefined(evaluation) for evaluation in evaluations]
    body += [page.heading("Curves"), page.drawing((11, 3.4), lambda figure: _draw_curves(figure, evaluations))]
    body += [_where(evaluation, metric) for evaluation in evaluations]
    body += [_examples(section, metric) for section in sections]
    body += [_every_image(evaluation, tables[0].metrics, metric) for evaluation in evaluations]
    return page.page(f"Evaluation: {', '.join(evaluation.label for evaluation in evaluations)}", body)


def _where(evaluation: Evaluation, metric: str) -> Markup:
    """What the scores depend on, and what the levels of the maps say."""
    levels = evaluation.levels
    if not levels:
        return Markup()
    threshold, iou, gain = levels.best_threshold
    order = sorted(levels.error_shares.items(), key=lambda item: -item[1])
    gained = f"{gain:.3f} more than at one half" if gain >= 0.0005 else "no more than at one half"
    said = (
        f"Of the error of an image, on average: {', '.join(f'{share:.0%} {WORDS[kind]}' for kind, share in order)}.",
        f"Calibration error (ECE): {levels.calibration_error:.3f}, the mean distance of the curve below from the diagonal over all pixels.",
        f"Threshold with the highest mean IoU on these images: {threshold:.2f}, IoU {iou:.3f}, {gained}. It was chosen "
        "on these very images, so it gains less on others.",
    )
    return page.joined(
        [
            page.heading(f"{evaluation.label}: what the scores depend on"),
            *map(page.paragraph, said),
            page.drawing((11, 3.1), lambda figure: _draw_scores(figure, evaluation, metric)),
        ]
    )


def _draw_scores(figure: Figure, evaluation: Evaluation, metric: str) -> None:
    """Score over area and parts of the foreground, the reliability curve, and IoU over the threshold."""
    assert evaluation.levels  # _where has seen to it
    area, parts, reliability, threshold = figure.subplots(1, 4)
    shown = [score for score in evaluation.scores if score.errors and not math.isnan(score.values[metric])]
    area.plot([score.area for score in shown], [score.values[metric] for score in shown], ".", alpha=0.5, markersize=5)
    area.set(xscale="symlog", xlabel="share of the image", ylabel=LABELS[metric], xlim=(-0.001, 1))
    area.set_xscale("symlog", linthresh=0.01)
    area.set_xticks([0, 0.01, 0.1, 1], ["0", ".01", ".1", "1"])
    grouped: dict[int, list[float]] = {}
    for score in shown:
        if score.errors:
            grouped.setdefault(min(score.errors.parts, PARTS), []).append(score.values[metric])
    for count, values in sorted(grouped.items()):
        parts.plot([count] * len(values), values, ".", color="C0", alpha=0.3, markersize=5)
        parts.plot([count - 0.3, count + 0.3], [np.mean(values)] * 2, color="C1", linewidth=2)
    parts.set(xlabel="parts of the foreground (line: mean)", ylabel=LABELS[metric])
    parts.set_xticks(sorted(grouped), [f"{count}+" if count == PARTS else str(count) for count in sorted(grouped)])
    said, true, pixels = evaluation.levels.reliability()
    reliability.plot([0, 1], [0, 1], color=page.GREY, linewidth=0.8, linestyle="--")
    reliability.plot(said, true, color="C0", linewidth=1)
    reliability.scatter(said, true, s=6 + 60 * np.nan_to_num(pixels) ** 0.5, color="C0", alpha=0.7)
    reliability.set(xlabel="probability", ylabel="share of foreground", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    best, iou, _ = evaluation.levels.best_threshold
    threshold.plot(np.arange(1, 256) / 255, evaluation.levels.mean_iou()[1:])
    threshold.axvline(0.5, color=page.GREY, linewidth=0.8, linestyle="--")
    threshold.plot([best], [iou], "o", color="C1")
    threshold.set(xlabel="threshold", ylabel="mean IoU", xlim=(0, 1), ylim=(0, 1.02))


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
    parts = [page.heading(f"{section.evaluation.label}: worst, median and best by {LABELS[metric]}")]
    parts.append(page.paragraph("Errors, at one half of the range: foreground that was missed is blue, background that was marked is red."))
    chosen = worst_median_best(section.evaluation.scores, metric)
    if not chosen:
        parts.append(page.paragraph(f"{LABELS[metric]} is defined for no image."))
    for kind, scores in chosen.items():
        parts += [page.heading(kind, 3), page.cards(_card(score, section.view(score.name), metric) for score in scores)]
    return page.joined(parts)


def worst_median_best(scores: Sequence[Score], metric: str, *, count: int = EXAMPLES, worst: int = WORST) -> dict[str, list[Score]]:
    """`worst` images of the one kind and `count` of the others, fewer where there are not enough to show each once; none for which the
    metric is undefined. The worst come first, the best of the best last."""
    order = _worst_first(scores, metric)
    if len(order) < 3:
        return {"Worst to best": order} if order else {}
    count = min(count, len(order) // 3)
    worst = min(worst, len(order) - 2 * count)
    middle = max(worst, (len(order) - count) // 2)
    return {"Worst": order[:worst], "Median": order[middle : middle + count], "Best": order[-count:]}


def _worst_first(scores: Sequence[Score], metric: str) -> list[Score]:
    defined = [score for score in scores if not math.isnan(score.values[metric])]
    return sorted(defined, key=lambda score: score.values[metric], reverse=metric in LOWER_IS_BETTER)


def _card(score: Score, view: View, metric: str) -> Markup:
    tiles = {} if view.picture is None else {"image": view.picture}
    tiles |= {"truth": view.truth.astype(np.uint8) * 255, "prediction": view.level, "errors": error_map(view)}
    caption = f"{score.name}: {score.errors.line}" if score.errors else score.name
    return page.card(caption, tiles, f"{LABELS[metric]} {number(metric, score.values)}")


def error_map(view: View) -> NDArray[np.uint8]:
    """The image in grey, missed foreground blue and wrongly marked background red."""
    mask = view.level > 127
    ground = cv2.cvtColor(view.picture, cv2.COLOR_RGB2GRAY) if view.picture is not None else view.truth.astype(np.uint8) * 90
    drawn = np.repeat(ground[..., None] // 2 + 60, 3, axis=2)
    for where, colour in ((view.truth & ~mask, MISSED), (mask & ~view.truth, WRONG)):
        drawn[where] = (drawn[where] * 0.35 + np.array(colour) * 0.65).astype(np.uint8)
    return drawn


def _every_image(evaluation: Evaluation, metrics: Sequence[str], metric: str) -> Markup:
    """All numbers of all images, the worst first; a click on a column sorts by it."""
    defined = _worst_first(evaluation.scores, metric)
    rest = [score for score in evaluation.scores if math.isnan(score.values[metric])]
    header = ["image", *(LABELS[name] for name in metrics), "foreground", "parts", "found"]
    rows = [[score.name, *(number(name, score.values) for name in metrics), *_mask_facts(score)] for score in (*defined, *rest)]
    said = f"The worst by {LABELS[metric]} first. Click a column to sort by it; foreground is its share of the image."
    return page.joined([page.heading(f"{evaluation.label}: every image"), page.paragraph(said), page.sortable(header, rows)])


def _mask_facts(score: Score) -> list[str]:
    if score.errors is None:
        return ["-", "-", "-"]
    return [f"{score.area:.3f}", str(score.errors.parts), str(score.errors.found)]
