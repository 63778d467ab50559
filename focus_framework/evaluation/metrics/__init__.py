"""The metrics of the field as batched tensor functions: one float64 value an image, on the device of the maps.

Every function takes ``(probability, truth)``: a batch `[B, H, W]`, or two lists of maps of different sizes; probabilities in
0..1 (or 8-bit levels), masks as bool (or 8-bit). `compute` gives many of them at once and shares what they have in common.
The classes (`SMeasure`, ..., and `MetricSet` for many at once) are torchmetrics over a whole data set.
"""

from .classes import (
    F1,
    Auc,
    Ber,
    EMeasureAdaptive,
    EMeasureMax,
    EMeasureMean,
    FBetaAdaptive,
    FBetaMax,
    FBetaMean,
    Iou,
    Mae,
    MetricSet,
    SMeasure,
    WeightedF,
)
from .enhanced_alignment import e_measure_adaptive, e_measure_curve, e_measure_max, e_measure_mean
from .pooled import auc, ber, f1, iou, mae
from .protocol import CURVES, PROTOCOLS, Protocol, compute
from .structure import s_measure
from .thresholds import f_beta_adaptive, f_beta_curve, f_beta_max, f_beta_mean, precision_recall_curve
from .totals import Totals
from .weighted import weighted_f

__all__ = [
    "CURVES", "F1", "PROTOCOLS", "Auc", "Ber", "EMeasureAdaptive", "EMeasureMax", "EMeasureMean", "FBetaAdaptive", "FBetaMax",
    "FBetaMean", "Iou", "Mae", "MetricSet", "Protocol", "SMeasure", "Totals", "WeightedF", "auc", "ber", "compute", "e_measure_adaptive",
    "e_measure_curve", "e_measure_max", "e_measure_mean", "f1", "f_beta_adaptive", "f_beta_curve", "f_beta_max", "f_beta_mean",
    "iou", "mae", "precision_recall_curve", "s_measure", "weighted_f",
]  # fmt: skip
