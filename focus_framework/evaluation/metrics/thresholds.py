"""Precision, recall and F-beta over the 256 thresholds of an 8-bit map and at its adaptive threshold.

Source: Achanta et al., "Frequency-tuned Salient Region Detection", CVPR 2009; beta² = 0.3. Equal to ``Fmeasure`` and
``FmeasureV2`` of PySODMetrics 1.6: the map is stretched to its minimum and maximum, its levels are cut off to 8 bits, and a
pixel is positive where its level is at or above the threshold. What would divide by zero is 0, so an empty truth scores 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .maps import Maps, per_image
from .pairs import Pairs

BETA_SQUARED = 0.3


def precision_recall(counts: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor]:
    """Precision and recall from the positives of each class `[B, 2, ...]` and the foreground pixels of the truths `[B]`."""
    false_positives, true_positives = counts.unbind(1)
    foreground = foreground.view(-1, *[1] * (true_positives.ndim - 1))
    return true_positives / (true_positives + false_positives).clamp(min=1), true_positives / foreground.clamp(min=1)


def f_beta(precision: Tensor, recall: Tensor, beta_squared: float = BETA_SQUARED) -> Tensor:
    """The weighted harmonic mean of precision and recall, 0 where either is 0."""
    numerator = (1 + beta_squared) * precision * recall
    return numerator / (beta_squared * precision + recall).masked_fill(numerator == 0, 1)


def curves_of_pairs(pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Precision, recall and F-beta `[B, 256]` at the thresholds 255, 254, ..., 0 (descending, as PySODMetrics has them)."""
    precision, recall = precision_recall(pairs.at_least, pairs.foreground)
    return precision, recall, f_beta(precision, recall)


def mean_of_pairs(pairs: Pairs) -> Tensor:
    return pairs.once(curves_of_pairs)[2].mean(1)


def max_of_pairs(pairs: Pairs) -> Tensor:
    return pairs.once(curves_of_pairs)[2].amax(1)


def adaptive_of_pairs(pairs: Pairs) -> Tensor:
    return f_beta(*precision_recall(pairs.adaptive, pairs.foreground))


def f_beta_curve(probability: Maps, truth: Maps) -> Tensor:
    """F-beta at the thresholds 255, 254, ..., 0, `[B, 256]` in 0..1."""
    return per_image(lambda pairs: curves_of_pairs(pairs)[2], probability, truth)


def precision_recall_curve(probability: Maps, truth: Maps) -> Tensor:
    """Precision and recall at the thresholds 255, 254, ..., 0, `[B, 2, 256]` in 0..1."""
    return per_image(lambda pairs: torch.stack(curves_of_pairs(pairs)[:2], dim=1), probability, truth)


def f_beta_mean(probability: Maps, truth: Maps) -> Tensor:
    """The mean of F-beta over the 256 thresholds, `[B]` in 0..1, higher is better.

    PySODMetrics: ``Fmeasure``, the mean of ``fm["curve"]``.
    """
    return per_image(mean_of_pairs, probability, truth)


def f_beta_max(probability: Maps, truth: Maps) -> Tensor:
    """The largest F-beta over the 256 thresholds, `[B]` in 0..1, higher is better.

    Of a whole data set the field prints the maximum of the mean curve, not the mean of the maxima: average `f_beta_curve`
    over the images first, as the class `FBetaMax` does. PySODMetrics: the maximum of ``fm["curve"]``.
    """
    return per_image(max_of_pairs, probability, truth)


def f_beta_adaptive(probability: Maps, truth: Maps) -> Tensor:
    """F-beta where the normalised map is at least twice its own mean (at most 1), `[B]` in 0..1, higher is better.

    PySODMetrics: ``fm["adp"]``. The threshold applies to the normalised map itself, before it is cut to 8 bits.
    """
    return per_image(adaptive_of_pairs, probability, truth)
