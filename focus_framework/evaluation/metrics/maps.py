"""What the metric functions accept, and how it becomes `Pairs`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from .pairs import DensePairs, GreyPairs, Pairs

Maps: TypeAlias = "Tensor | np.ndarray | Sequence[Tensor | np.ndarray]"
"""A batch `[B, H, W]`, one map `[H, W]`, or a list of maps `[H, W]` of different sizes."""


def per_image(measure: Callable[[Pairs], Tensor], probability: Maps, truth: Maps) -> Tensor:
    """One value an image, in the order of the maps, float64 `[B]` on the device of the maps."""
    return torch.cat([measure(pairs) for pairs in each_batch(probability, truth)])


def each_batch(probability: Maps, truth: Maps, *, binarise: bool = False) -> Iterator[Pairs]:
    """The maps as batches of one size: a tensor is one batch, a list is as many batches as it has maps.

    With `binarise` a map is read as 1 where it is above one half and as 0 elsewhere.
    """
    if isinstance(probability, list | tuple) or isinstance(truth, list | tuple):
        if len(probability) != len(truth):
            raise DataError(f"{len(probability)} predictions for {len(truth)} masks")
        if not len(probability):
            raise DataError("there are no maps: both lists are empty")
        for one, its_truth in zip(probability, truth, strict=True):
            yield _pairs(one, its_truth, binarise)
    else:
        yield _pairs(probability, truth, binarise)


def _pairs(probability: Maps, truth: Maps, binarise: bool) -> Pairs:
    values, mask = (torch.as_tensor(x) for x in (probability, truth))
    values, mask = (x[None] if x.ndim == 2 else x for x in (values, mask))
    for what, given in (("prediction", values), ("mask", mask)):
        if given.ndim != 3 or given.numel() == 0:
            raise DataError(f"the {what} has shape {list(given.shape)}; needed is [batch, height, width] or [height, width], no side 0")
    if values.shape != mask.shape:
        raise DataError(
            f"prediction {list(values.shape)} and mask {list(mask.shape)} must have the same size, [batch, height, width]; "
            "resize the prediction to the size of its mask"
        )
    mask = _as_truth(mask)
    if not values.is_floating_point():
        grey = _as_grey(values)
    else:
        low, high = torch.aminmax(values)
        if not (float(low) >= 0 and float(high) <= 1):  # true for NaN as well
            raise DataError(f"probabilities must lie in 0..1; these span {float(low):g} to {float(high):g} (sigmoid missing?)")
        if not binarise:
            return _from_floating_point(values.detach(), mask)
        grey = _as_grey(values > 0.5)
    return GreyPairs((grey > 127).to(torch.uint8) * 255 if binarise else grey, mask)


def _from_floating_point(values: Tensor, truth: Tensor) -> Pairs:
    """A float32 that was made from 8 bits is not exactly k/255, and levels are cut off, not rounded: where all of a map lies within
    its precision of k/255 it is read as 8-bit."""
    scaled = (values if values.dtype == torch.float64 else values.float()) * 255
    grey = scaled.round()
    tolerance = 1e-9 if values.dtype == torch.float64 else 5e-5
    if float(scaled.sub_(grey).abs_().max()) < tolerance:
        return GreyPairs(grey.to(torch.uint8), truth)
    return DensePairs(values.double(), truth)


def _as_grey(levels: Tensor) -> Tensor:
    """8-bit levels; a map of nothing but 0 and 1 is a binary one."""
    binary = levels.dtype == torch.bool or int(levels.max()) <= 1
    return levels.to(torch.uint8) * 255 if binary else levels.to(torch.uint8)


def _as_truth(truth: Tensor) -> Tensor:
    """A mask as bool: numbers of floating point are foreground above 0.5, 8-bit ones above 128 (0 and 1 are understood)."""
    if truth.dtype == torch.bool:
        return truth
    if truth.is_floating_point():
        return truth > 0.5
    return truth > 128 if int(truth.max()) > 1 else truth > 0
