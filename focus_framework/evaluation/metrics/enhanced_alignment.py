"""The enhanced-alignment measure E: agreement of a binary map with the truth, pixel by pixel and as a whole.

Source: Fan et al., "Enhanced-alignment Measure for Binary Foreground Map Evaluation", IJCAI 2018. Equal to ``Emeasure`` of
PySODMetrics 1.6, its divisor ``pixels - 1`` included: a perfect map of N pixels scores N / (N - 1) at most, and an image of
one pixel has no meaningful value. Maps are stretched and cut to 8 bits as for F-beta.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .maps import Maps, per_image
from .pairs import EPS, Pairs


def alignment(counts: Tensor, pairs: Pairs) -> Tensor:
    """E `[B, ...]` from the positives of each class `[B, 2, ...]`.

    A binary map and a binary truth have four kinds of pixels, and all pixels of a kind have the same alignment value: the sum
    over the image is four products.
    """
    false_positives, true_positives = counts.unbind(1)
    foreground = pairs.foreground.view(-1, *[1] * (true_positives.ndim - 1))
    positives = true_positives + false_positives
    negatives = pairs.pixels - positives
    map_mean, truth_mean = positives / pairs.pixels, foreground / pairs.pixels
    false_negatives = foreground - true_positives
    kinds = torch.stack((true_positives, false_positives, false_negatives, negatives - false_negatives))
    of_map = torch.stack((1 - map_mean, -map_mean)).repeat_interleave(2, 0)
    of_truth = torch.stack((1 - truth_mean, -truth_mean)).repeat(2, *[1] * foreground.ndim)
    aligned = 2 * of_map * of_truth / (of_map.square() + of_truth.square() + EPS)
    total = ((aligned + 1).square() / 4 * kinds).sum(0)
    total = torch.where(foreground == 0, negatives, torch.where(foreground == pairs.pixels, positives, total))
    return total / (pairs.pixels - 1 + EPS)


def curve_of_pairs(pairs: Pairs) -> Tensor:
    return alignment(pairs.at_least, pairs)


def mean_of_pairs(pairs: Pairs) -> Tensor:
    return pairs.once(curve_of_pairs).mean(1)


def max_of_pairs(pairs: Pairs) -> Tensor:
    return pairs.once(curve_of_pairs).amax(1)


def adaptive_of_pairs(pairs: Pairs) -> Tensor:
    return alignment(pairs.adaptive, pairs)


def e_measure_curve(probability: Maps, truth: Maps) -> Tensor:
    """E at the thresholds 255, 254, ..., 0, `[B, 256]`."""
    return per_image(curve_of_pairs, probability, truth)


def e_measure_mean(probability: Maps, truth: Maps) -> Tensor:
    """The mean of E over the 256 thresholds, `[B]`, higher is better. PySODMetrics: the mean of ``em["curve"]``.

    Even a perfect binary mask stays below 1: at threshold 0 every pixel is positive.
    """
    return per_image(mean_of_pairs, probability, truth)


def e_measure_max(probability: Maps, truth: Maps) -> Tensor:
    """The largest E over the 256 thresholds, `[B]`, higher is better.

    Of a whole data set the field prints the maximum of the mean curve, as the class `EMeasureMax` does. PySODMetrics: the
    maximum of ``em["curve"]``.
    """
    return per_image(max_of_pairs, probability, truth)


def e_measure_adaptive(probability: Maps, truth: Maps) -> Tensor:
    """E where the normalised map is at least twice its own mean (at most 1), `[B]`, higher is better.

    PySODMetrics: ``em["adp"]``.
    """
    return per_image(adaptive_of_pairs, probability, truth)
