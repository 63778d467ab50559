"""Test-time averaging: an image is seen in several views (tiles, mirrored, at several scales), whose maps become one.

Probabilities at the image's own size are averaged, not logits: which of the two queries is the foreground may differ from view to
view, so only the joint map means the same in all of them. Under the hard rule ``release`` the average is a vote. Knows no torch: what
sees the views is a model, or an exported file.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceError, WeightsError

logger = logging.getLogger(__name__)


class Settings(Protocol):
    """`focus_framework.config.schema.PredictionConfig` tells what each means."""

    @property
    def flip(self) -> bool: ...
    @property
    def scales(self) -> Sequence[float]: ...
    @property
    def tile(self) -> int: ...
    @property
    def overlap(self) -> float: ...


class Seer(Protocol):
    """What makes maps of views."""

    @property
    def place(self) -> str:
        """Where it runs, in words."""

    def padded_size(self, height: int, width: int, scale: float = 1.0) -> tuple[int, int]:
        """(height, width) that the network sees of an image of that size."""

    def maps(self, views: Sequence[View]) -> list[NDArray[np.float32]] | None:
        """Maps `[T, h, w]` of views of one prepared size; None where memory does not suffice for so many."""


@dataclass(frozen=True)
class Span:
    """A stretch of one axis of an image, and the weights `[length]` of its pixels: those of all spans add up to 1 everywhere."""

    start: int
    weights: NDArray[np.float32]

    @property
    def pixels(self) -> slice:
        return slice(self.start, self.start + len(self.weights))


def spans(extent: int, tile: int, overlap: float) -> list[Span]:
    """Cover `extent` pixels evenly by stretches of `tile` pixels (0, or no less than `extent`: by one), neighbours sharing at least
    the share `overlap` of their length up to a pixel. Weights are a Hann window: a tile fades out before it ends, so that no seam
    shows."""
    length = min(tile, extent) or extent
    count = math.ceil((extent - length) / max(1.0, length * (1 - overlap))) + 1
    starts = np.linspace(0, extent - length, count).round().astype(int).tolist()
    window = np.hanning(length + 2)[1:-1]  # without its zeros: every pixel counts
    total = np.zeros(extent)
    for start in starts:
        total[start : start + length] += window
    return [Span(start, (window / total[start : start + length]).astype(np.float32)) for start in starts]


class Canvas:
    """An image `[H, W, 3]` and, for each of several tasks, the sum of the maps of its views so far."""

    def __init__(self, picture: NDArray[np.uint8], settings: Settings, tasks: int = 1) -> None:
        self.picture = picture
        self.total = np.zeros((tasks, *picture.shape[:2]), np.float32)
        height, width = picture.shape[:2]
        rows, columns = (spans(extent, settings.tile, settings.overlap) for extent in (height, width))
        mirrored = (False, True) if settings.flip else (False,)
        self.averaged = len(settings.scales) * len(mirrored)
        self.views = [
            View(self, row, column, scale, flipped)
            for scale in settings.scales
            for flipped in mirrored
            for row in rows
            for column in columns
        ]

    @property
    def probability(self) -> NDArray[np.float32]:
        """`[T, H, W]`, 0..1, once all views have been added."""
        return (self.total / np.float32(self.averaged)).clip(0, 1)  # weights add up to 1 but for rounding


@dataclass(frozen=True)
class View:
    """One tile of an image, or all of it, as it goes through the network."""

    canvas: Canvas
    rows: Span
    columns: Span
    scale: float
    flipped: bool

    @property
    def size(self) -> tuple[int, int]:
        return len(self.rows.weights), len(self.columns.weights)

    def pixels(self) -> NDArray[np.uint8]:
        """`[h, w, 3]`"""
        tile = self.canvas.picture[self.rows.pixels, self.columns.pixels]
        return tile[:, ::-1] if self.flipped else tile

    def add(self, probability: NDArray[np.float32]) -> None:
        """Blend its maps `[T, h, w]` into the image's."""
        values = probability[..., ::-1] if self.flipped else probability
        self.canvas.total[:, self.rows.pixels, self.columns.pixels] += values * self.rows.weights[:, None] * self.columns.weights


class BatchSize:
    """How many views go through the network together: as many as asked for, or half of it as often as memory is short."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._told = True

    def halve(self, tried: Sequence[View], place: str) -> None:
        """Raises `DeviceError` where a single view was too much."""
        if len(tried) == 1:
            height, width = tried[0].size
            raise DeviceError(
                f"the memory of {place} is too small for {height}x{width} pixels; cut images into smaller tiles, e.g. --tile "
                f"{max(64, min(1024, max(height, width) // 2))}, or use --device cpu"
            )
        self.size = len(tried) // 2
        self._told = False

    def found(self) -> None:
        """The last batch has fitted: say once what size that was."""
        if not self._told:
            logger.warning("memory is short: predicting in batches of %d from here on", self.size)
            self._told = True


def predict_maps(
    model: Seer, settings: Settings, pictures: Iterable[NDArray[np.uint8]], batch_size: int, *, tasks: int = 1
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Images and their maps of interest `[T, H, W]` for so many tasks, in order, by the views of the settings. Images are read as they are
    needed, just as many at a time as fill a batch; only their tiles go to the device."""
    batches = BatchSize(batch_size)
    for canvases in _filling_batches(pictures, settings, batch_size, tasks):
        _see([view for canvas in canvases for view in canvas.views], model, batches)
        for canvas in canvases:
            if not np.isfinite(canvas.probability).all():
                raise WeightsError("the network gives NaN for an image: its weights, or the precision of this device, are at fault")
            yield canvas.picture, canvas.probability


def _filling_batches(pictures: Iterable[NDArray[np.uint8]], settings: Settings, batch_size: int, tasks: int) -> Iterator[list[Canvas]]:
    waiting: list[Canvas] = []
    for picture in pictures:
        waiting.append(Canvas(picture, settings, tasks))
        if sum(len(canvas.views) for canvas in waiting) >= batch_size * len(settings.scales):  # each scale has batches of its own
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _see(views: Sequence[View], model: Seer, batches: BatchSize) -> None:
    """Send all views through the network, those of one prepared shape together."""

    def shape(view: View) -> tuple[int, int]:
        return model.padded_size(*view.size, view.scale)

    for _, alike in groupby(sorted(views, key=shape), key=shape):
        pending = list(alike)
        while pending:
            batch = pending[: batches.size]
            maps = model.maps(batch)
            if maps is None:
                batches.halve(batch, model.place)
                continue
            batches.found()
            for view, probability in zip(batch, maps, strict=True):
                view.add(probability)
            del pending[: len(batch)]
