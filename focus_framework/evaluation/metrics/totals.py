"""From the values of images to those of a data set, in constant size.

Of a data set every metric is the mean over the images for which it is defined; ``e_measure_max`` and ``f_beta_max`` are the
maximum of the mean curve, as the field prints them, and so the curves are summed too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .protocol import CURVE_OF_MAXIMUM, CURVES, check_names


@dataclass(frozen=True)
class Totals:
    """Sums over images, added to in place."""

    names: tuple[str, ...]
    sums: Tensor
    """`[names]` float64, of the values that are defined."""
    defined: Tensor
    """`[names]` int64, how many of them there are."""
    images: Tensor
    """Scalar, int64."""
    curves: Tensor
    """`[4, 256]` float64, in the order of `CURVES`."""

    @classmethod
    def of(cls, names: Sequence[str]) -> Totals:
        """No images yet. Raises `ConfigError` where a name is no metric."""
        check_names(names)
        zeros = torch.zeros(len(names), dtype=torch.float64)
        return cls(tuple(names), zeros, zeros.long(), torch.zeros((), dtype=torch.int64), torch.zeros(len(CURVES), 256).double())

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add images whose values `focus_framework.metrics.compute` has given."""
        table = torch.stack([values[name] for name in self.names]).to(self.sums)
        defined = ~table.isnan()
        self.sums.add_(table.masked_fill(~defined, 0).sum(1))
        self.defined.add_(defined.sum(1))
        self.images.add_(table.shape[1])
        if "curves" in values:
            self.curves.add_(values["curves"].sum(0).to(self.curves))

    def values(self) -> dict[str, Tensor]:
        """Every metric over all images."""
        return {name: self.value(name) for name in self.names}

    def value(self, name: str) -> Tensor:
        """One metric over all images, NaN where no image defines it. Maxima need the curves of every image."""
        if name in CURVE_OF_MAXIMUM:
            return self.mean_curves[CURVES.index(CURVE_OF_MAXIMUM[name])].max()
        place = self.names.index(name)
        return self.sums[place] / self.defined[place]

    @property
    def mean_curves(self) -> Tensor:
        """`CURVES` `[4, 256]` at the thresholds 255, 254, ..., 0."""
        return self.curves / self.images

    @property
    def undefined(self) -> dict[str, int]:
        """For how many images a metric is undefined, where there are any."""
        missing = (self.images - self.defined).tolist()
        return {name: count for name, count in zip(self.names, missing, strict=True) if count}
