"""Which foreground is meant: what a network of several tasks is told beside the image (docs/architecture.md)."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Examples(NamedTuple):
    """N examples for each image of a batch."""

    images: Tensor
    """`[B, N, 3, H, W]`, normalised."""
    masks: Tensor
    """`[B, N, H, W]`: 1 foreground, 0 background, any other value neither."""

    def regions(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """How much of each place of a map of that size is foreground, and background, `[B, N, *size]` in 0..1."""
        inside, outside = (F.interpolate((self.masks == side).float(), size, mode="area") for side in (1, 0))
        return inside, outside


class Condition(NamedTuple):
    """What is known of the task of each image of a batch: one of the three."""

    tasks: Tensor | None = None
    """`[B]`, the numbers of tasks that the network knows."""
    vectors: Tensor | None = None
    """`[B, 2, D]`, those of the two queries."""
    examples: Examples | None = None
