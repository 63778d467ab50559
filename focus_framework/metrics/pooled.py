"""Metrics that count pixels without regard to where they lie: MAE, BER, F1, IoU, and the area under the ROC curve."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .maps import Maps, Pairs, per_image


def mae(probability: Maps, truth: Maps) -> Tensor:
    """The mean absolute error of soft maps, `[B]` in 0..1, lower is better.

    Equal to ``MAE`` of PySODMetrics 1.6, on the map stretched to its minimum and maximum.
    """
    return per_image(mae_of_pairs, probability, truth)


def mae_of_pairs(pairs: Pairs) -> Tensor:
    return (pairs.normalised - pairs.truth.double()).abs_().mean((1, 2))


def ber(probability: Maps, truth: Maps) -> Tensor:
    """The balanced error rate in percent, `[B]` in 0..100, lower is better; NaN where the truth has one class only.

    The mean of the missed share of the foreground and the wrongly marked share of the background. Equal to 100 times
    ``BERHandler`` of PySODMetrics 1.6: the map stretched to its minimum and maximum is positive above one half. Where a class
    is missing PySODMetrics counts its error as whole; there is none, and the value is undefined here.
    """
    return per_image(ber_of_pairs, probability, truth)


def ber_of_pairs(pairs: Pairs) -> Tensor:
    false_positives, true_positives = pairs.count(pairs.normalised > 0.5).unbind(1)
    recall, specificity = true_positives / pairs.foreground, 1 - false_positives / pairs.background
    return 100 * (1 - (recall + specificity) / 2)  # 0 / 0 is NaN, as it should be


def f1(probability: Maps, truth: Maps) -> Tensor:
    """F1 of the pixels whose probability is above one half, `[B]` in 0..1, higher is better.

    Equal to ``sklearn.metrics.f1_score(truth, probability > 0.5)``. The map is read as it is: stretching would turn an
    authentic picture into a tampered one. Truth and prediction both empty score 0, as in scikit-learn.
    """
    return per_image(f1_of_pairs, probability, truth)


def f1_of_pairs(pairs: Pairs) -> Tensor:
    true_positives = pairs.half[:, 1]
    return 2 * true_positives / (pairs.half.sum(1) + pairs.foreground).clamp(min=1)


def iou(probability: Maps, truth: Maps) -> Tensor:
    """Intersection over union of the pixels whose probability is above one half, `[B]` in 0..1, higher is better.

    Equal to ``sklearn.metrics.jaccard_score(truth, probability > 0.5)``, and to ``IOUHandler`` of PySODMetrics 1.6 on maps
    that reach from 0 to 1: the map is read as it is, as for F1. Truth and prediction both empty score 0.
    """
    return per_image(iou_of_pairs, probability, truth)


def iou_of_pairs(pairs: Pairs) -> Tensor:
    false_positives, true_positives = pairs.half.unbind(1)
    return true_positives / (false_positives + pairs.foreground).clamp(min=1)


def auc(probability: Maps, truth: Maps) -> Tensor:
    """The area under the ROC curve over all pixels, `[B]` in 0..1, higher is better; NaN where the truth has one class only.

    Equal to ``sklearn.metrics.roc_auc_score(truth, probability)``: exact, every distinct value is a threshold and ties count
    half. A constant map scores 0.5.
    """
    return per_image(auc_of_pairs, probability, truth)


def auc_of_pairs(pairs: Pairs) -> Tensor:
    if pairs.grey is not None:
        below, ordered = pairs.grey_histogram.cumsum(2)[:, 0], pairs.grey_histogram
        pairs_in_order = (ordered[:, 1] * (below - ordered[:, 0] / 2)).sum(1)
    else:
        both = zip(pairs.values.flatten(1), pairs.truth.flatten(1), strict=True)
        pairs_in_order = torch.stack([_pairs_in_order(values, truth) for values, truth in both])
    return pairs_in_order / (pairs.foreground * pairs.background)


def _pairs_in_order(values: Tensor, truth: Tensor) -> Tensor:
    """How many pairs of one foreground and one background pixel of an image the map puts in the right order; ties are half."""
    # Numbers of 0 and more have the order of their bits; the class is a further, lowest bit, and nothing but keys is sorted.
    keys = (values.view(torch.int64) << 1) | truth
    # numpy's vectorised sort is ten times as fast as torch's on a CPU.
    keys = torch.from_numpy(np.sort(keys.numpy())) if keys.device.type == "cpu" else keys.sort().values
    foreground = (keys & 1).cumsum(0)
    last = torch.cat((torch.diff(keys >> 1) != 0, foreground.new_ones(1, dtype=torch.bool))).nonzero().squeeze(1)
    up_to = torch.stack((last + 1 - foreground[last], foreground[last])).double()
    here = torch.diff(up_to, dim=1, prepend=up_to.new_zeros(2, 1))
    return (here[1] * (up_to[0] - here[0] / 2)).sum()
