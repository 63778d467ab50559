"""What the levels of maps say beside the metrics: whether a probability means what it says, and which threshold would suit it best.

Every image counts the same, whatever its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .errors import Errors, errors_by_kind
from .samples import Grey, Mask

LEVELS = 256
BINS = 16
"""Of the reliability curve, of 16 levels each."""
HALF = 128
"""The first level above one half: where masks are cut unless somebody says otherwise."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """What one map and its mask are like."""

    area: float
    """Share of the image that is foreground."""
    errors: Errors
    inside: Floats
    """Share of the image's pixels that are foreground and have each of the 256 levels."""
    outside: Floats
    """The same of the background; both together add up to 1."""

    @classmethod
    def at(cls, level: Grey, mask: Mask) -> Self:
        """That of a map `[H, W]` of levels 0..255."""
        inside = np.bincount(level[mask], minlength=LEVELS) / level.size
        outside = np.bincount(level[~mask], minlength=LEVELS) / level.size
        return cls(float(mask.mean()), errors_by_kind(level, mask), inside, outside)

    @property
    def iou(self) -> Floats:
        """Intersection over union of the mask with the map cut at each level, which itself is foreground; 0 where both are empty,
        as in the metric of that name."""
        found, wrong = (np.cumsum(counts[::-1])[::-1] for counts in (self.inside, self.outside))
        union = self.area + wrong
        return np.divide(found, union, out=np.zeros(LEVELS), where=union > 0)


class Levels:
    """Sums over the images of a data set."""

    def __init__(self) -> None:
        self.images = 0
        self.errors = {"missed": 0.0, "wrong": 0.0, "border": 0.0}
        self._inside, self._outside = np.zeros(LEVELS), np.zeros(LEVELS)
        self._iou = np.zeros(LEVELS)

    def add(self, look: Look) -> None:
        """One image more."""
        self.images += 1
        for kind, share in look.errors.shares.items():
            self.errors[kind] += share
        self._inside += look.inside
        self._outside += look.outside
        self._iou += look.iou

    @property
    def error_shares(self) -> dict[str, float]:
        """The mean over images of the share of each kind of error, see `Errors.shares`."""
        return {kind: total / max(self.images, 1) for kind, total in self.errors.items()}

    def reliability(self) -> tuple[Floats, Floats, Floats]:
        """Of each of the `BINS` the mean probability, the share of foreground, and the share of all pixels; NaN where a bin is empty."""
        probability = np.arange(LEVELS) / (LEVELS - 1)
        every = self._inside + self._outside
        pixels, said, true = (part.reshape(BINS, -1).sum(1) for part in (every, every * probability, self._inside))
        with np.errstate(invalid="ignore", divide="ignore"):
            return said / pixels, true / pixels, pixels / max(self.images, 1)

    @property
    def calibration_error(self) -> float:
        """The expected calibration error in 0..1: the mean over pixels of how far, in its bin, probability and share of foreground lie
        apart (Naeini et al., AAAI 2015)."""
        said, true, pixels = self.reliability()
        return float(np.nansum(np.abs(said - true) * pixels))

    def mean_iou(self) -> Floats:
        """Over all images, at each level as a threshold."""
        return self._iou / max(self.images, 1)

    @property
    def best_threshold(self) -> tuple[float, float, float]:
        """The threshold in 0..1 of the highest mean IoU, that IoU, and how much higher it is than that of one half. It was chosen on these
        very images: on others it gains less."""
        iou = self.mean_iou()
        best = HALF if iou[HALF] == iou.max() else int(iou.argmax())
        return (best - 0.5) / (LEVELS - 1), float(iou[best]), float(iou[best] - iou[HALF])
