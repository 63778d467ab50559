"""Masks as COCO writes them: polygons, run lengths down the columns, run lengths packed into a string.

Not by pycocotools: lengths and corners of other people's files are checked against the image before anything is drawn, and three
short functions do without a compiled dependency.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

FARTHEST = 1 << 20
"""Pixels from the origin; what lies farther is no corner of an image's polygon."""
FINER = 4
"""Polygons are drawn this much larger and averaged, so that a pixel is inside where more than half of its area is."""


def draw(shape: Any, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """One segmentation as `[H, W]` bool: a list of polygons, run lengths, or run lengths packed into a string."""
    if isinstance(shape, list):
        return fill([_corners(polygon, where) for polygon in shape], size)
    if not isinstance(shape, dict) or "counts" not in shape:
        raise DataError(f"{where}: a segmentation is neither polygons nor run lengths")
    counts = shape["counts"]
    if not isinstance(counts, str) and not (isinstance(counts, list) and all(type(run) is int for run in counts)):
        raise DataError(f"{where}: run lengths are neither whole numbers nor a string")
    runs = unpack(counts) if isinstance(counts, str) else counts
    own = shape.get("size", size)
    if not isinstance(own, list | tuple) or tuple(own) != size or sum(runs) != size[0] * size[1] or min(runs, default=0) < 0:
        raise DataError(f"{where}: run lengths of {sum(runs)} pixels do not fill {size[1]} x {size[0]}")
    height, width = size
    values = np.arange(len(runs)) % 2 == 1  # the first run is background
    return np.repeat(values, runs).reshape(width, height).T  # columns first


def _corners(polygon: Any, where: str) -> list[float]:
    """The numbers of a polygon, if they are such: x, y of three corners or more."""
    if not isinstance(polygon, list) or len(polygon) % 2 or len(polygon) < 6:
        raise DataError(f"{where}: a polygon has x, y, x, y, ... of three corners or more, this is {polygon!r:.80}")
    for number in polygon:
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= FARTHEST:
            raise DataError(f"{where}: {number!r:.40} among the numbers of a polygon is no place in an image")
    return polygon


def fill(polygons: list[list[float]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Polygons of corners x, y, x, y ... where pixel (0, 0) spans 0 to 1."""
    import cv2

    canvas = np.zeros((size[0] * FINER, size[1] * FINER), np.uint8)
    for corners in polygons:
        points = np.asarray(corners, np.float64).reshape(-1, 2) * FINER - 0.5  # OpenCV counts from pixel centres
        cv2.fillPoly(canvas, [np.rint(points * 16).astype(np.int32)], 1, shift=4)  # 4 bits of a fraction
    return cv2.resize(canvas.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) > 0.5


def unpack(text: str) -> list[int]:
    """Run lengths packed into a string: little-endian groups of five bits, 0x20 says that more follow, 0x10 in the last is the
    sign; from the third on each is the difference to the one two before (cocoapi, maskApi.c, rleFrString)."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of alternating runs of background and foreground down the columns, background first (0 where there is none)."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(np.diff(flat, append=not flat[-1]))
    return np.diff(changes, prepend=0).tolist()
