"""A temperature for the soft map, fitted on images that were not trained on (Guo et al. 2017, "On calibration of modern neural networks").

The joint probability of a network that was trained for minutes is too soft: nearer to one half than it is often right. One number mends
most of that. It never moves a pixel across one half, so binary masks stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch.nn.functional import binary_cross_entropy_with_logits

from ..config.schema import MAX_TEMPERATURE, MIN_TEMPERATURE

PIXELS = 4096
"""Of each image, at equal steps: all images count the same, whatever their size."""
NEAREST = 1e-6
"""Probabilities this near to 0 and 1 count as that far away: a single wrong pixel of an exact 0 would decide alone."""


@dataclass(frozen=True)
class Calibration:
    """A temperature and what it was fitted by: the mean cross entropy a pixel, in nats, without it and with it."""

    temperature: float
    images: int
    before: float
    after: float


def fit_temperature(maps: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> Calibration:
    """The temperature of least cross entropy for probabilities `[H, W]` and masks `[H, W]` of images, at least one of them."""
    odds, truths = [], []
    for probability, mask in maps:
        pixels = np.linspace(0, mask.size - 1, min(PIXELS, mask.size)).astype(np.int64)
        odds.append(torch.from_numpy(probability.ravel()[pixels]).double().clamp(NEAREST, 1 - NEAREST).logit())
        truths.append(torch.from_numpy(mask.ravel()[pixels]).double())
    all_odds, truth = torch.cat(odds), torch.cat(truths)

    def cross_entropy(log_temperature: float) -> float:
        return float(binary_cross_entropy_with_logits(all_odds / math.exp(log_temperature), truth))

    bounds = (math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE))
    found = minimize_scalar(cross_entropy, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return Calibration(round(math.exp(found.x), 3), len(odds), cross_entropy(0.0), float(found.fun))
