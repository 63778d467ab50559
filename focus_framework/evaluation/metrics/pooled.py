"""Metrics that count pixels without regard to where they lie: MAE, BER, F1, IoU, and the area under the ROC curve."""

from __future__ import annotations

from torch import Tensor

from .maps import Maps, per_image
from .pairs import Pairs


def mae(probability: Maps, truth: Maps) -> Tensor:
    """The mean absolute error of soft maps, `[B]` in 0..1, lower is better.

    Equal to ``MAE`` of PySODMetrics 1.6, on the map stretched to its minimum and maximum.
    """
    return per_image(mae_of_pairs, probability, truth)


def mae_of_pairs(pairs: Pairs) -> Tensor:
    background, foreground = pairs.moments[1].sum(2).unbind(1)
    return (background + pairs.foreground - foreground) / pairs.pixels


def ber(probability: Maps, truth: Maps) -> Tensor:
    """The balanced error rate in percent, `[B]` in 0..100, lower is better; NaN where the truth has one class only.

    The mean of the missed share of the foreground and the wrongly marked share of the background. Equal to 100 times
    ``BERHandler`` of PySODMetrics 1.6: the map stretched to its minimum and maximum is positive above one half. Where a class
    is missing PySODMetrics counts its error as whole; there is none, and the value is undefined here.
    """
    return per_image(ber_of_pairs, probability, truth)


def ber_of_pairs(pairs: Pairs) -> Tensor:
    false_positives, true_positives = pairs.count(lambda values: values > 0.5, stretched=True).unbind(1)
    recall, specificity = true_positives / pairs.foreground, 1 - false_positives / pairs.background
    return 100 * (1 - (recall + specificity) / 2)  # 0 / 0 is NaN, as it should be


def f1(probability: Maps, truth: Maps) -> Tensor:
    """F1 of the pixels whose probability is above one half, `[B]` in 0..1, higher is better.

    Equal to ``sklearn.metrics.f1_score(truth, probability > 0.5)``. The map is read as it is: stretching would turn an
    authentic image into a tampered one. Truth and prediction both empty score 0, as in scikit-learn.
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
    return pairs.in_order / (pairs.foreground * pairs.background)
