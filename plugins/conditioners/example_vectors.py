"""Vectors of tasks out of examples: the network's own features, averaged inside and outside of masks (after Spider, Zhao et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from focus_framework.plugin.kit.conditioning import QueryConditioner

LEAST = 1e-6
"""Of the share of a region: an example without foreground says nothing of it, and divides nothing by zero."""


class ExampleVectors(QueryConditioner):
    """Nothing is learned for a single task: what there is of it are its examples."""

    def __init__(self, tasks: Sequence[str], *, width: int) -> None:
        super().__init__(len(tasks), features=width, width=width, learned=False)

    def example_vectors(self, features: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
        """See `focus_framework.plugin.interfaces.ReadsExamples`. All places of a region count the same, of whichever example."""
        regions = torch.stack([inside, outside], -4).float()  # [..., 2, N, h, w]
        sums = torch.einsum("...nchw,...qnhw->...qc", features.float(), regions)
        return sums / regions.sum((-3, -2, -1)).clamp_min(LEAST).unsqueeze(-1)


def build(tasks: Sequence[str], *, width: int) -> ExampleVectors:
    """Vectors are as long as the queries are wide."""
    return ExampleVectors(tasks, width=width)
