"""A batch of predicted maps beside their truths, with every intermediate result that several metrics share.

How a map is read follows PySODMetrics 1.6 (``validate_and_normalize_input``): the truth is foreground above 128 of 255, the
map is divided by 255 and stretched to its own minimum and maximum; a constant map stays as it is. Metrics that other fields
define without that stretching (F1, AUC, IoU) read `Pairs.values` instead of `Pairs.normalised`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError

Maps: TypeAlias = "Tensor | np.ndarray | Sequence[Tensor | np.ndarray]"
"""A batch `[B, H, W]`, one map `[H, W]`, or a list of maps `[H, W]` of different sizes."""

LEVELS = 256
EPS = float(np.spacing(1))
"""The epsilon of PySODMetrics, 2.2e-16."""


class Pairs:
    """A batch of maps and truths of one size; each part is computed when it is first asked for.

    `probability` and `truth` are `[B, H, W]` on one device. All numbers are float64.
    """

    def __init__(self, probability: Tensor, truth: Tensor) -> None:
        if probability.shape != truth.shape or probability.ndim != 3 or probability.numel() == 0:
            raise DataError(
                f"prediction {list(probability.shape)} and mask {list(truth.shape)} must have the same size, "
                "[batch, height, width] with no side of length 0; resize the prediction to the size of its mask"
            )
        self.truth = as_truth(truth)
        self.values, self.grey = _as_values(probability)
        """`values`: the maps in 0..1 as given; `grey`: the same as 8-bit levels where they are nothing but that."""
        self.height, self.width = truth.shape[1:]
        self.pixels = self.height * self.width

    @cached_property
    def foreground(self) -> Tensor:
        """Foreground pixels of each truth `[B]`."""
        return self.truth.sum((1, 2)).double()

    @cached_property
    def background(self) -> Tensor:
        """Background pixels of each truth `[B]`."""
        return self.pixels - self.foreground

    @cached_property
    def normalised(self) -> Tensor:
        """Every map stretched to its own minimum and maximum `[B, H, W]`; constant maps unchanged."""
        low, high = torch.aminmax(self.values.flatten(1), dim=1)
        constant = (high == low).view(-1, 1, 1)
        low, span = low.view(-1, 1, 1).masked_fill(constant, 0), (high - low).view(-1, 1, 1).masked_fill(constant, 1)
        return (self.values - low).div_(span)

    @cached_property
    def mean(self) -> Tensor:
        """Mean of each normalised map `[B]`. On the CPU numpy sums it, in the order in which PySODMetrics sums: twice this
        number is a threshold, and on small maps pixels lie exactly on it."""
        flat = self.normalised.flatten(1)
        return torch.from_numpy(flat.numpy().mean(axis=1)) if flat.device.type == "cpu" else flat.mean(1)

    @cached_property
    def at_least(self) -> Tensor:
        """Pixels of each class at or above each of the 256 levels `[B, 2, 256]`, background first, highest level first.

        A level is the whole part of 255 times the normalised value, as in PySODMetrics.
        """
        return self._histogram((self.normalised * 255).to(torch.int16)).flip(2).cumsum(2)

    @cached_property
    def adaptive(self) -> Tensor:
        """Pixels of each class `[B, 2]` that reach the adaptive threshold, twice the mean of the map, 1 at most."""
        return self.count(self.normalised >= (2 * self.mean).clamp(max=1).view(-1, 1, 1))

    @cached_property
    def half(self) -> Tensor:
        """Pixels of each class `[B, 2]` whose value, as given, is above one half."""
        return self.count(self.values > 0.5)

    @cached_property
    def grey_histogram(self) -> Tensor:
        """Pixels of each class and each value `[B, 2, 256]` of maps that are 8-bit."""
        assert self.grey is not None  # asked for by auc alone, after the same question
        return self._histogram(self.grey)

    def count(self, positive: Tensor) -> Tensor:
        """How many of the pixels marked in `positive` `[B, H, W]` lie in the background and in the foreground `[B, 2]`."""
        hit, marked = (positive & self.truth).sum((1, 2)), positive.sum((1, 2))
        return torch.stack((marked - hit, hit), dim=1).double()

    def _histogram(self, level: Tensor) -> Tensor:
        image = torch.arange(len(level), device=level.device).view(-1, 1, 1)
        place = (level.to(torch.int16) + self.truth.to(torch.int16) * LEVELS) + image * (2 * LEVELS)
        return torch.bincount(place.flatten(), minlength=len(level) * 2 * LEVELS).view(-1, 2, LEVELS).double()


def as_truth(truth: Tensor) -> Tensor:
    """A mask as bool: numbers of floating point are foreground above 0.5, 8-bit ones above 128 (0 and 1 are understood)."""
    if truth.dtype == torch.bool:
        return truth
    if truth.is_floating_point():
        return truth > 0.5
    return truth > 128 if int(truth.max()) > 1 else truth > 0


def _as_values(probability: Tensor) -> tuple[Tensor, Tensor | None]:
    """The map in 0..1 as float64, and its 8-bit levels where it has no others.

    A float32 that was made from 8 bits is not exactly k/255, and the levels of `Pairs.at_least` are cut off, not rounded:
    what lies within float32's precision of k/255 is read as k/255.
    """
    if not probability.is_floating_point():
        zero_or_one = probability.dtype == torch.bool or int(probability.max()) <= 1
        grey = probability.to(torch.uint8) * (255 if zero_or_one else 1)
        return grey.double() / 255, grey
    values = probability.detach().double()
    low, high = torch.aminmax(values)
    if not (float(low) >= 0 and float(high) <= 1):  # false for NaN too
        raise DataError(f"probabilities must lie in 0..1; these span {float(low):g} to {float(high):g} (sigmoid missing?)")
    scaled = values * 255
    grey = scaled.round()
    near = scaled.sub_(grey).abs_() < (1e-9 if probability.dtype == torch.float64 else 2e-5)
    if bool(near.all()):
        return grey / 255, grey.to(torch.uint8)
    return torch.where(near, grey / 255, values), None


def each_batch(probability: Maps, truth: Maps) -> Iterator[Pairs]:
    """The maps as batches of one size: a tensor is one batch, a list is as many batches as it has maps."""
    if isinstance(probability, list | tuple) or isinstance(truth, list | tuple):
        if len(probability) != len(truth):
            raise DataError(f"{len(probability)} predictions for {len(truth)} masks")
        for one, its_truth in zip(probability, truth, strict=True):
            yield _pairs(one, its_truth)
    else:
        yield _pairs(probability, truth)


def _pairs(probability: Maps, truth: Maps) -> Pairs:
    maps = [torch.as_tensor(x) for x in (probability, truth)]
    return Pairs(*(x[None] if x.ndim == 2 else x for x in maps))


def per_image(measure: Callable[[Pairs], Tensor], probability: Maps, truth: Maps) -> Tensor:
    """One value an image, in the order of the maps, float64 `[B]` on the device of the maps."""
    return torch.cat([measure(pairs) for pairs in each_batch(probability, truth)])
