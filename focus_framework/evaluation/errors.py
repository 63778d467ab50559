"""Where a map is wrong, and in what way: foreground that was missed, background that was marked, and the border."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .samples import Grey, Mask

BORDER = 0.01
"""Half the width of the border, as a share of the longer side of the image; two pixels at least."""
FOUND = 0.5
"""Share of a part's pixels that a mask has to have for the part to count as found."""
WORDS = {"missed": "missed foreground", "wrong": "marked background", "border": "along the border"}


@dataclass(frozen=True)
class Errors:
    """The absolute error of one map, ``|p - truth|`` summed over pixels, by kind."""

    total: float
    """Of all pixels: the MAE of the map as it is given, times their number."""
    shares: dict[str, float]
    """Of `total`, adding up to 1 (all 0 where there is none): ``missed`` foreground and marked background (``wrong``) farther than `width`
    pixels from the true border, and what lies along the ``border``."""
    width: int
    """Pixels on either side of the true border that count as the border."""
    parts: int
    """Connected parts of the true mask."""
    found: int
    """Those of which the mask at one half has at least half of the pixels."""

    @property
    def line(self) -> str:
        """In words, the largest share first."""
        if not self.total:
            return "no error"
        order = sorted(self.shares.items(), key=lambda item: -item[1])
        said = ", ".join(f"{share:.0%} {WORDS[kind]}" for kind, share in order if share >= 0.005)
        return f"of the error: {said}" + (f"; {self.found} of {self.parts} parts found" if self.parts > 1 else "")


def errors_by_kind(level: Grey, truth: Mask) -> Errors:
    """What is wrong with a map `[H, W]` of levels 0..255 beside its mask."""
    width = border_width(truth)
    near = near_border(truth, width)
    wrong = np.where(truth, 255 - level, level).astype(np.float64) / 255
    total = float(wrong.sum())
    regions = {"missed": truth & ~near, "wrong": ~truth & ~near, "border": near}
    shares = {kind: float(wrong[region].sum()) / total if total else 0.0 for kind, region in regions.items()}
    parts, found = _parts(level > 127, truth)
    return Errors(total, shares, width, parts, found)


def border_width(truth: Mask) -> int:
    """Pixels on either side of the border of a mask that count as the border."""
    return max(2, round(BORDER * max(truth.shape)))


def near_border(truth: Mask, width: int) -> NDArray[np.bool_]:
    """Pixels at most `width` from a pixel of the other class; the frame of the image is no border."""
    inside = truth.astype(np.uint8)
    if truth.all() or not truth.any():
        return np.zeros(truth.shape, bool)
    distance = np.maximum(*(cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for part in (inside, 1 - inside)))
    near: NDArray[np.bool_] = distance <= width
    return near


def _parts(mask: Mask, truth: Mask) -> tuple[int, int]:
    count, labels = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
    sizes = np.bincount(labels.ravel(), minlength=count)[1:]
    inside = np.bincount(labels.ravel(), weights=mask.ravel(), minlength=count)[1:]
    return count - 1, int((inside >= FOUND * sizes).sum())
