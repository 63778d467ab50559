"""The metrics as torchmetrics classes: constant size whatever the number of images, summed across processes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchmetrics import Metric

from ...plugin.interfaces import METRICS
from .maps import Maps
from .protocol import CURVE_OF_MAXIMUM, compute, protocol_named
from .totals import Totals


class MetricSet(Metric):
    """Many metrics at once, sharing what they have in common. `compute` gives a float64 scalar for each name.

    `names` are out of `METRICS`, `protocol` is ``standard`` or ``release``.
    """

    full_state_update = False
    higher_is_better: bool | None = None
    is_differentiable = False
    sums: Tensor
    defined: Tensor
    images: Tensor
    curves: Tensor

    def __init__(self, names: Sequence[str] = METRICS, *, protocol: str = "standard") -> None:
        super().__init__()
        self.names, self.protocol = tuple(names), protocol_named(protocol)
        for state, start in vars(Totals.of(self.names)).items():
            if isinstance(start, Tensor):
                self.add_state(state, start, dist_reduce_fx="sum")

    @property
    def totals(self) -> Totals:
        """What has been summed up so far."""
        return Totals(self.names, self.sums, self.defined, self.images, self.curves)

    def update(self, probability: Maps, truth: Maps) -> None:
        """Add images, given as to the functions."""
        curves = any(name in CURVE_OF_MAXIMUM for name in self.names)
        self.totals.add(compute(probability, truth, self.names, protocol=self.protocol.name, curves=curves))

    def compute(self) -> dict[str, Tensor]:
        """The value of each metric over all images, NaN where no image defines it."""
        return self.totals.values()


class _Single(MetricSet):
    name: str

    def __init__(self, *, protocol: str = "standard") -> None:
        super().__init__((self.name,), protocol=protocol)

    def compute(self) -> Tensor:  # type: ignore[override]  # one metric is one number
        """The value over all images, a float64 scalar."""
        return self.totals.value(self.name)


class SMeasure(_Single):
    name = "s_measure"
    higher_is_better = True


class EMeasureMean(_Single):
    name = "e_measure_mean"
    higher_is_better = True


class EMeasureMax(_Single):
    name = "e_measure_max"
    higher_is_better = True


class EMeasureAdaptive(_Single):
    name = "e_measure_adaptive"
    higher_is_better = True


class WeightedF(_Single):
    name = "weighted_f"
    higher_is_better = True


class FBetaMean(_Single):
    name = "f_beta_mean"
    higher_is_better = True


class FBetaMax(_Single):
    name = "f_beta_max"
    higher_is_better = True


class FBetaAdaptive(_Single):
    name = "f_beta_adaptive"
    higher_is_better = True


class Mae(_Single):
    name = "mae"
    higher_is_better = False


class Ber(_Single):
    name = "ber"
    higher_is_better = False


class F1(_Single):
    name = "f1"
    higher_is_better = True


class Auc(_Single):
    name = "auc"
    higher_is_better = True


class Iou(_Single):
    name = "iou"
    higher_is_better = True
