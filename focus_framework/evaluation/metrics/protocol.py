"""By which rules a number was made. Numbers of different protocols never share a column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ConfigError, did_you_mean
from ...plugin.interfaces import METRICS
from . import enhanced_alignment, pooled, structure, thresholds, weighted
from .maps import Maps, each_batch
from .pairs import Pairs

OF_PAIRS: Mapping[str, Callable[[Pairs], Tensor]] = {
    "s_measure": structure.of_pairs,
    "e_measure_mean": enhanced_alignment.mean_of_pairs,
    "e_measure_max": enhanced_alignment.max_of_pairs,
    "e_measure_adaptive": enhanced_alignment.adaptive_of_pairs,
    "weighted_f": weighted.of_pairs,
    "f_beta_mean": thresholds.mean_of_pairs,
    "f_beta_max": thresholds.max_of_pairs,
    "f_beta_adaptive": thresholds.adaptive_of_pairs,
    "mae": pooled.mae_of_pairs,
    "ber": pooled.ber_of_pairs,
    "f1": pooled.f1_of_pairs,
    "auc": pooled.auc_of_pairs,
    "iou": pooled.iou_of_pairs,
}
CURVES = ("precision", "recall", "f_beta", "e_measure")
CURVE_OF_MAXIMUM = {"e_measure_max": "e_measure", "f_beta_max": "f_beta"}
"""Metrics that are, of a data set, the maximum of a mean curve, and the curve."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that has to be said beside a number."""

    name: str
    map: str
    normalisation: str
    truth: str = "foreground above 128 of 255"
    size: str = "the size of the mask"
    aggregation: str = "mean over images; max: maximum of the mean curve; undefined values are left out and counted"
    note: str = ""
    binarise: bool = False
    ber_factor: float = 1.0


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="standard",
            map="soft, thresholds 0..255 for curves; BER, F1, IoU at one half",
            normalisation="each map stretched to its own minimum and maximum, but for F1, AUC and IoU",
            note="PySODMetrics 1.6; F1, AUC and IoU as scikit-learn",
        ),
        Protocol(
            name="release",
            map="binary, above one half",
            normalisation="no map is stretched",
            note="what the authors' evaluation prints: BER is 0.75 of the usual one, AUC is balanced accuracy",
            binarise=True,
            ber_factor=0.75,
        ),
    )
}


def protocol_named(name: str) -> Protocol:
    """Raises `ConfigError` where there is no such protocol."""
    if name not in PROTOCOLS:
        raise ConfigError(f"there is no protocol {name!r}; {did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def check_names(names: Sequence[str]) -> None:
    """Raises `ConfigError` where one is no metric."""
    for name in names:
        if name not in OF_PAIRS:
            raise ConfigError(f"there is no metric {name!r}; {did_you_mean(name, OF_PAIRS)}")


def compute(
    probability: Maps, truth: Maps, names: Sequence[str] = METRICS, *, protocol: str = "standard", curves: bool = False
) -> dict[str, Tensor]:
    """All metrics in one call: what they share (normalised maps, histograms) is computed once.

    Args:
        probability: a batch `[B, H, W]` in 0..1 (or 8-bit levels), or a list of maps of different sizes.
        truth: masks of the same sizes, bool (or 8-bit).
        names: metrics out of `METRICS`.
        protocol: ``standard`` or ``release``.
        curves: also return ``curves``, `[B, 4, 256]`: `CURVES` at the thresholds 255, 254, ..., 0.

    Returns:
        For each name one value an image, float64 `[B]`, NaN where it is undefined.
    """
    check_names(names)
    rules = protocol_named(protocol)
    collected: list[dict[str, Tensor]] = []
    for pairs in each_batch(probability, truth, binarise=rules.binarise):
        values = {name: OF_PAIRS[name](pairs) for name in names}
        if "ber" in values:
            values["ber"] = values["ber"] * rules.ber_factor
        if curves:
            values["curves"] = torch.stack((*pairs.once(thresholds.curves_of_pairs), pairs.once(enhanced_alignment.curve_of_pairs)), 1)
        collected.append(values)
    keys = [*names, *(["curves"] if curves else [])]
    return {key: torch.cat([values[key] for values in collected]) if collected else torch.empty(0) for key in keys}
