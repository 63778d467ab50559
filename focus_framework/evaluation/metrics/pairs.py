"""A batch of predicted maps beside their truths, with every intermediate result that several metrics share.

How a map is read follows PySODMetrics 1.6 (``validate_and_normalize_input``): the truth is foreground above 128 of 255, the
map is divided by 255 and stretched to its own minimum and maximum; a constant map stays as it is. Metrics that other fields
define without that stretching (F1, AUC, IoU) read the values as they are given.

A map of 8 bits has 256 values at most: after one histogram nearly every metric is a sum over 256 numbers (`GreyPairs`). Any
other map is read pixel by pixel (`DensePairs`). Both give the same numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Part = TypeVar("Part")
LEVELS = 256
EPS = float(np.spacing(1))
"""The epsilon of PySODMetrics, 2.2e-16."""


class Pairs(ABC):
    """Maps and truths `[B, H, W]` of one size; each part is computed when it is first asked for, in float64.

    Counts by class have the background first and the foreground second.
    """

    def __init__(self, truth: Tensor) -> None:
        self.truth = truth
        self.height, self.width = truth.shape[1:]
        self.pixels = self.height * self.width
        self._made: dict[Callable[[Pairs], Any], Any] = {}

    @property
    @abstractmethod
    def normalised(self) -> Tensor:
        """Every map stretched to its own minimum and maximum `[B, H, W]`; constant maps unchanged."""

    @property
    @abstractmethod
    def at_least(self) -> Tensor:
        """Pixels of each class at or above each of the 256 levels `[B, 2, 256]`, highest level first.

        A level is the whole part of 255 times the normalised value, as in PySODMetrics.
        """

    @property
    @abstractmethod
    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels, sum and sum of squares of the normalised map `[B, 2, 4]` by class in the four quadrants around `centre`."""

    @property
    @abstractmethod
    def in_order(self) -> Tensor:
        """How many pairs of a foreground and a background pixel each map puts in the right order `[B]`; ties count half."""

    @abstractmethod
    def count(self, positive: Callable[[Tensor], Tensor], *, stretched: bool) -> Tensor:
        """Pixels of each class `[B, 2]` for which `positive` is true; it is asked about values `[B, N]`, normalised ones or
        those that were given."""

    def once(self, measure: Callable[[Pairs], Part]) -> Part:
        """What a function makes of these pairs, computed when it is first asked for."""
        if measure not in self._made:
            self._made[measure] = measure(self)
        return self._made[measure]

    @cached_property
    def profiles(self) -> tuple[Tensor, Tensor]:
        """Foreground pixels in each row `[B, H]` and each column `[B, W]`; float32, which sums quickest and counts exactly up to 2^24."""
        truth = self.truth.float()
        return truth.sum(2), truth.sum(1)

    @cached_property
    def foreground(self) -> Tensor:
        """Foreground pixels of each truth `[B]`."""
        return self.profiles[0].sum(1, dtype=torch.float64)

    @cached_property
    def background(self) -> Tensor:
        """Background pixels of each truth `[B]`."""
        return self.pixels - self.foreground

    @cached_property
    def mean(self) -> Tensor:
        """Mean of each normalised map `[B]`. On the CPU numpy sums it, in the order in which PySODMetrics sums: twice this
        number is a threshold, and on small maps pixels lie exactly on it."""
        flat = self.normalised.flatten(1)
        return torch.from_numpy(flat.numpy().mean(axis=1)) if flat.device.type == "cpu" else flat.mean(1)

    @cached_property
    def adaptive(self) -> Tensor:
        """Pixels of each class `[B, 2]` that reach the adaptive threshold, twice the mean of the map, 1 at most."""
        threshold = (2 * self.mean).clamp(max=1).unsqueeze(1)
        return self.count(lambda values: values >= threshold, stretched=True)

    @cached_property
    def half(self) -> Tensor:
        """Pixels of each class `[B, 2]` whose value, as given, is above one half."""
        return self.count(lambda values: values > 0.5, stretched=False)

    @cached_property
    def centre(self) -> tuple[Tensor, Tensor]:
        """Row and column `[B]` where the second half of each image begins: one after the foreground's rounded centre."""
        device = self.truth.device
        rows, columns = (torch.arange(n, device=device, dtype=torch.float64) for n in (self.height, self.width))
        count = self.foreground.clamp(min=1)
        row, column = ((profile * places).sum(1) / count for profile, places in zip(self.profiles, (rows, columns), strict=True))
        return row.round() + 1, column.round() + 1

    @cached_property
    def halves(self) -> tuple[Tensor, Tensor]:
        """True from the centre on: for rows `[B, H]` and for columns `[B, W]`."""
        row, column = self.centre
        device = self.truth.device
        below = torch.arange(self.height, device=device) >= row.unsqueeze(1)
        return below, torch.arange(self.width, device=device) >= column.unsqueeze(1)


class GreyPairs(Pairs):
    """Maps of 8 bits, `grey` `[B, H, W]` uint8."""

    def __init__(self, grey: Tensor, truth: Tensor) -> None:
        super().__init__(truth)
        self.grey = grey

    @cached_property
    def table(self) -> Tensor:
        """The normalised value of each level in each map `[B, 256]`."""
        there = (self.histogram.sum(1) > 0).int()
        ends = there.argmax(1, keepdim=True), LEVELS - 1 - there.flip(1).argmax(1, keepdim=True)
        low, high = (self.given[end] for end in ends)
        given = self.given.expand(len(self.grey), -1)
        return torch.where(high > low, (given - low) / (high - low), given)

    @cached_property
    def given(self) -> Tensor:
        """The value of each level `[256]`."""
        return torch.arange(LEVELS, device=self.grey.device, dtype=torch.float64) / 255

    @cached_property
    def index(self) -> Tensor:
        """The levels as int32, which index and add quickly."""
        return self.grey.int()

    @cached_property
    def normalised(self) -> Tensor:
        values = torch.empty_like(self.grey, dtype=torch.float64)
        for table, index, its_values in zip(self.table, self.index.flatten(1), values.flatten(1), strict=True):
            torch.index_select(table, 0, index, out=its_values)
        return values

    @cached_property
    def cells(self) -> Tensor:
        """Pixels by quadrant, class and level `[B, 4, 2, 256]`: the one pass over all pixels."""
        below, right = self.halves
        rows, columns = below.unsqueeze(2).short() * (4 * LEVELS), right.unsqueeze(1).short() * (2 * LEVELS)
        place = (rows + columns).add_(self.truth, alpha=LEVELS).add_(self.grey)
        if len(place) > 1:
            place = place + torch.arange(0, len(place) * 8 * LEVELS, 8 * LEVELS, device=place.device).view(-1, 1, 1)
        return torch.bincount(place.flatten(), minlength=len(place) * 8 * LEVELS).view(-1, 4, 2, LEVELS).double()

    @cached_property
    def histogram(self) -> Tensor:
        """Pixels by class and level `[B, 2, 256]`."""
        return self.cells.sum(1)

    @cached_property
    def at_least(self) -> Tensor:
        # Levels that the map does not have lie outside 0..1; nothing is counted there.
        level = (self.table * 255).clamp(0, 255).long().unsqueeze(1).expand_as(self.histogram)
        return torch.zeros_like(self.histogram).scatter_add_(2, level, self.histogram).flip(2).cumsum(2)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        cells = self.cells.transpose(1, 2)
        table = self.table[:, None, None]
        return cells.sum(3), (cells * table).sum(3), (cells * table.square()).sum(3)

    @cached_property
    def in_order(self) -> Tensor:
        background, foreground = self.histogram.unbind(1)
        return (foreground * (background.cumsum(1) - background / 2)).sum(1)

    def count(self, positive: Callable[[Tensor], Tensor], *, stretched: bool) -> Tensor:
        return (self.histogram * positive(self.table if stretched else self.given.unsqueeze(0)).unsqueeze(1)).sum(2)


class DensePairs(Pairs):
    """Maps of any values, `values` `[B, H, W]` float64 in 0..1."""

    def __init__(self, values: Tensor, truth: Tensor) -> None:
        super().__init__(truth)
        self.values = values

    @cached_property
    def normalised(self) -> Tensor:
        low, high = (bound.view(-1, 1, 1) for bound in torch.aminmax(self.values.flatten(1), dim=1))
        constant = high == low
        return (self.values - low.masked_fill(constant, 0)).div_((high - low).masked_fill(constant, 1))

    @cached_property
    def at_least(self) -> Tensor:
        image = torch.arange(len(self.values), device=self.values.device, dtype=torch.int32).view(-1, 1, 1)
        place = (self.normalised * 255).int().add_(image * 2 + self.truth, alpha=LEVELS)
        counts = torch.bincount(place.flatten(), minlength=len(self.values) * 2 * LEVELS)
        return counts.view(-1, 2, LEVELS).double().flip(2).cumsum(2)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        # The quadrants differ from image to image; sums over them are products with indicators of rows and columns.
        below, right = self.halves
        rows, columns = torch.stack((~below, below), dim=1).double(), torch.stack((~right, right), dim=2).double()
        truth = self.truth.double()
        square = self.normalised.square()

        def sums(image: Tensor) -> Tensor:
            return (rows @ (image @ columns)).flatten(1)

        def by_class(everywhere: Tensor, inside: Tensor) -> Tensor:
            return torch.stack((everywhere - inside, inside), dim=1)

        areas = (rows.sum(2).unsqueeze(2) * columns.sum(1).unsqueeze(1)).flatten(1)
        return (
            by_class(areas, sums(truth)),
            by_class(sums(self.normalised), sums(self.normalised * truth)),
            by_class(sums(square), sums(square * truth)),
        )

    @cached_property
    def in_order(self) -> Tensor:
        # Numbers of 0 and more have the order of their bits. With the class as a further, lowest bit nothing but keys is sorted;
        # background before foreground counts ties as right, foreground before background as wrong: the mean is half.
        bits = self.values.flatten(1).view(torch.int64) << 1
        truth = self.truth.flatten(1)
        place = torch.arange(self.pixels, device=bits.device)
        ties_right = (place * (_sorted(bits | truth) & 1)).sum(1)
        ties_wrong = (place * (~_sorted(bits | ~truth) & 1)).sum(1)
        return (ties_right + ties_wrong).double() / 2 - self.foreground * (self.foreground - 1) / 2

    def count(self, positive: Callable[[Tensor], Tensor], *, stretched: bool) -> Tensor:
        marked = positive((self.normalised if stretched else self.values).flatten(1))
        hit, both = (marked & self.truth.flatten(1)).sum(1), marked.sum(1)
        return torch.stack((both - hit, hit), dim=1).double()


def _sorted(keys: Tensor) -> Tensor:
    """Integers in order along the last dimension; numpy's vectorised sort is ten times as fast as torch's on a CPU."""
    return torch.from_numpy(np.sort(keys.numpy(), axis=-1)) if keys.device.type == "cpu" else keys.sort().values
