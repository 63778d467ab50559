"""The structure measure S: likeness of objects and of regions between a soft map and the truth.

Source: Fan et al., "Structure-measure: A New Way to Evaluate Foreground Maps", ICCV 2017, alpha = 0.5. Equal to ``Smeasure``
of PySODMetrics 1.6 on the map stretched to its minimum and maximum.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .maps import Maps, per_image
from .pairs import EPS, Pairs

NEARLY_CONSTANT = 1e-12
"""A variance below that of one 8-bit step in a single pixel of any image that fits into memory."""


def s_measure(probability: Maps, truth: Maps) -> Tensor:
    """S of soft maps, `[B]` in 0..1, higher is better; NaN where undefined.

    Undefined where the foreground's centre, rounded, is the last row or column (every map of one row is such a case): a quadrant of
    the image is then empty and has no statistics. PySODMetrics gives NaN there too. An empty truth scores one minus the mean
    of the map, a full one the mean.
    """
    return per_image(of_pairs, probability, truth)


def of_pairs(pairs: Pairs) -> Tensor:
    counts, sums, squares = pairs.moments
    score = 0.5 * _objects(counts, sums, squares) + 0.5 * _regions(pairs, counts, sums, squares)
    score = torch.where(pairs.foreground == 0, 1 - pairs.mean, score.clamp(min=0))
    return torch.where(pairs.background == 0, pairs.mean, score)


def _objects(counts: Tensor, sums: Tensor, squares: Tensor) -> Tensor:
    """Likeness of the foreground and of the inverted background, weighted by their shares; NaN where one is missing."""
    count, total, square = counts.sum(2), sums.sum(2), squares.sum(2)
    mean = total / count
    deviation = ((square - total * mean).clamp(min=0) / (count - 1).clamp(min=1)).sqrt()
    mean = torch.stack((1 - mean[:, 0], mean[:, 1]), dim=1)
    return (2 * mean / (mean.square() + 1 + deviation + EPS) * count).sum(1) / count.sum(1)


def _regions(pairs: Pairs, counts: Tensor, sums: Tensor, squares: Tensor) -> Tensor:
    """Structural similarity in the four quadrants, weighted by their areas; NaN where a quadrant is empty."""
    count = counts.sum(1)
    mean, truth_mean = sums.sum(1) / count, counts[:, 1] / count
    unbiased = count / (count - 1 + EPS)
    variance = (squares.sum(1) / count - mean.square()).clamp(min=0) * unbiased
    truth_variance = truth_mean * (1 - truth_mean) * unbiased
    covariance = (sums[:, 1] / count - mean * truth_mean) * unbiased
    spread = (mean.square() + truth_mean.square()) * (variance + truth_variance)
    score = 4 * mean * truth_mean * covariance / (spread + EPS)
    # Where the truth has one class the score is 1 if the map is constant and 0 if it is not.
    one_class = truth_variance == 0
    score = torch.where(one_class, (spread == 0).double(), score)
    for image, quadrant in (one_class & (variance < NEARLY_CONSTANT) & (mean > 0) & (mean < 1)).nonzero().tolist():
        score[image, quadrant] = float(_has_no_variance(pairs, image, quadrant))
    score = torch.where(count == 0, torch.nan, score)
    return (score * count).sum(1) / pairs.pixels


def _has_no_variance(pairs: Pairs, image: int, quadrant: int) -> bool:
    """Whether PySODMetrics sees a constant quadrant as constant.

    The mean that numpy computes of equal numbers may differ from them in the last place; then their variance is not quite 0 and the
    reference scores 0 in place of 1. The only way to agree is to sum in its order.
    """
    row, column = (int(x[image]) for x in pairs.centre)
    rows, columns = (slice(None, row), slice(row, None)), (slice(None, column), slice(column, None))
    block = pairs.normalised[image].cpu().numpy()[rows[quadrant // 2], columns[quadrant % 2]]
    return bool(np.square(block - block.mean()).sum() == 0)
