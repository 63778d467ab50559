"""Which checkpoint is the best so far, and how long nothing has been better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..plugin.interfaces import LOWER_IS_BETTER


@dataclass
class Best:
    """The best score of a run by its task's primary metric."""

    metric: str
    value: float | None = None
    """None before the first checkpoint, NaN where there is nothing to score on."""
    scores: dict[str, float] = field(default_factory=dict)
    stale: int = 0
    """Checkpoints since then."""

    def note(self, scores: Mapping[str, float]) -> bool:
        """Remember the scores of a new checkpoint; whether it is the best. Without a score the latest is."""
        new = scores.get(self.metric, math.nan)
        improved = self._improves(new)
        self.stale = 0 if improved else self.stale + 1
        if improved:
            self.value, self.scores = new, dict(scores)
        return improved

    def _improves(self, new: float) -> bool:
        if self.value is None or math.isnan(self.value):
            return True
        return new < self.value if self.metric in LOWER_IS_BETTER else new > self.value
