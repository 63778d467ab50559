"""Which checkpoint is the best so far, and how long nothing has been better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..plugin.interfaces import LOWER_IS_BETTER


@dataclass
class Best:
    """The best checkpoint of a run by the primary metrics of its tasks.

    Each task ranks all checkpoints so far by its primary metric: 1 for the best, equal ones share the mean of their ranks, one without a
    score comes last. A new checkpoint is the best where the mean of its ranks over the tasks is below that of the one that was kept as
    the best. With one task that is the better score.
    """

    metrics: Mapping[str, str]
    """The primary metric of each task, by the name under which `note` finds its score."""
    scores: dict[str, float] = field(default_factory=dict)
    """All scores of the best checkpoint; empty before the first one."""
    stale: int = 0
    """Checkpoints since then."""
    history: list[list[float]] = field(default_factory=list)
    """The primary scores of every checkpoint, in the order of `metrics`; NaN where there is nothing to score on."""
    kept: int = -1
    """Number of the best one among them."""

    def note(self, scores: Mapping[str, float]) -> bool:
        """Remember the scores of a new checkpoint; whether it is the best. Without a score the latest is."""
        self.history.append([scores.get(name, math.nan) for name in self.metrics])
        improved = self._improves()
        self.stale = 0 if improved else self.stale + 1
        if improved:
            self.scores, self.kept = dict(scores), len(self.history) - 1
        return improved

    def _improves(self) -> bool:
        if self.kept < 0 or all(math.isnan(value) for value in self.history[self.kept]):
            return True
        ranks = self.mean_ranks()
        return ranks[-1] < ranks[self.kept]

    def mean_ranks(self) -> list[float]:
        """Of every checkpoint so far, over the tasks; 1 is the best there can be."""
        columns = [
            _ranks([row[column] if metric in LOWER_IS_BETTER else -row[column] for row in self.history])
            for column, metric in enumerate(self.metrics.values())
        ]
        return [sum(ranks) / len(columns) for ranks in zip(*columns, strict=True)]


def _ranks(badness: list[float]) -> list[float]:
    """1 for the smallest; equal ones share the mean of their ranks; NaN comes last."""
    values = [math.inf if math.isnan(value) else value for value in badness]
    return [1 + sum(other < value for other in values) + (sum(other == value for other in values) - 1) / 2 for value in values]
