"""Several methods on the same images: how far each is behind the best, with an interval that says how sure that is.

The interval is a paired bootstrap over images (Efron and Tibshirani, 1993, chapter 13): images are drawn with replacement, for both methods
the same, and the mean difference is taken of each draw. An interval without zero says that the difference would hold on other images of
this kind; it says nothing of other kinds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..plugin.interfaces import LOWER_IS_BETTER
from .tables import LABELS, latex_escaped

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from .scoring import Evaluation

RESAMPLES = 2000
SHARE = 0.95
"""Of the resampled differences, so many lie in the interval."""
OF_CURVES = ("e_measure_max", "f_beta_max")
"""Maxima of a mean curve: no means over images, so they are left out here."""


@dataclass(frozen=True)
class Difference:
    """A method minus the best one, over the images that define the metric for both."""

    mean: float
    low: float
    high: float

    @property
    def text(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True)
class Comparison:
    """Every method beside the best one of each metric."""

    data: str
    metrics: tuple[str, ...]
    images: int
    """Those that all methods have maps of."""
    best: dict[str, str]
    """The best method by each metric."""
    rows: dict[str, dict[str, Difference]]
    """By method and metric; nothing for the best one itself."""

    @property
    def title(self) -> str:
        return (
            f"{self.data}: difference to the best by mean over the {self.images} images common to all, and the {SHARE:.0%} interval of a "
            f"paired bootstrap over images ({RESAMPLES} draws)"
        )

    @property
    def header(self) -> list[str]:
        return ["source", *(f"{LABELS[name]} - best" for name in self.metrics)]

    def cells(self) -> list[list[str]]:
        return [[source, *(self._cell(source, name) for name in self.metrics)] for source in self.rows]

    def _cell(self, source: str, metric: str) -> str:
        if self.best[metric] == source:
            return "best"
        return self.rows[source][metric].text if metric in self.rows[source] else "-"

    def columns(self) -> dict[str, dict[str, float]]:
        """By method: the columns that a CSV gets besides the metrics, full precision."""
        return {
            source: {f"{metric}_{what}": value for metric, one in values.items() for what, value in _parts(one).items()}
            for source, values in self.rows.items()
        }

    def as_json(self) -> dict[str, Any]:
        differences = {source: {name: vars(one) for name, one in values.items()} for source, values in self.rows.items()}
        return {"data": self.data, "images": self.images, "best": self.best, "share": SHARE, "difference_to_best": differences}


def _parts(one: Difference) -> dict[str, float]:
    return {"minus_best": one.mean, "minus_best_low": one.low, "minus_best_high": one.high}


def compare(evaluations: Sequence[Evaluation], metrics: Sequence[str], *, seed: int = 0) -> Comparison:
    """Methods on one data set, by their scores of each image. Raises `ConfigError` where two have no image in common."""
    scores = {one.source: {score.name: score.values for score in one.scores} for one in evaluations}
    common = sorted(set.intersection(*(set(by_name) for by_name in scores.values())))
    if not common:
        raise ConfigError(f"{', '.join(scores)} have no image in common, so they cannot be compared")
    names = tuple(name for name in metrics if name not in OF_CURVES)
    random = np.random.default_rng(seed)
    best: dict[str, str] = {}
    rows: dict[str, dict[str, Difference]] = {source: {} for source in scores}
    for metric in names:
        values = {source: np.array([by_name[image][metric] for image in common]) for source, by_name in scores.items()}
        best[metric] = _best(values, lower=metric in LOWER_IS_BETTER)
        for source, its in values.items():
            if source != best[metric] and (difference := _difference(its - values[best[metric]], random)):
                rows[source][metric] = difference
    return Comparison(evaluations[0].data, names, len(common), best, rows)


def _best(values: dict[str, NDArray[np.float64]], *, lower: bool) -> str:
    defined = {source: float(np.nanmean(its)) for source, its in values.items() if np.isfinite(its).any()}
    return (min if lower else max)(defined, key=lambda source: defined[source], default=next(iter(values)))


def _difference(differences: NDArray[np.float64], random: np.random.Generator) -> Difference | None:
    differences = differences[np.isfinite(differences)]
    if not len(differences):
        return None
    means = [differences[random.integers(0, len(differences), len(differences))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Difference(float(differences.mean()), float(low), float(high))


def rich_table(comparison: Comparison) -> RichTable:
    """The comparison for a terminal, without its title."""
    from rich.table import Table as RichTable

    drawn = RichTable(*comparison.header)
    for cells in comparison.cells():
        drawn.add_row(*cells)
    return drawn


def as_latex(comparison: Comparison) -> str:
    """A ``tabular`` (package booktabs), its title in a comment above."""
    lines = ([latex_escaped(name), *map(_in_mathematics, rest)] for name, *rest in (comparison.header, *comparison.cells()))
    rows = [" & ".join(line) + r" \\" for line in lines]
    begin = rf"\begin{{tabular}}{{l{'r' * len(comparison.metrics)}}}"
    return "\n".join([f"% {comparison.title}", begin, r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule", r"\end{tabular}", ""])


def _in_mathematics(cell: str) -> str:
    """Escaped, with minus signs in place of hyphens."""
    return re.sub(r"[+-]\d\.\d+", r"$\g<0>$", latex_escaped(cell)).replace(" - ", " $-$ ")
