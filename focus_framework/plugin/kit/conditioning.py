"""The base of conditioners: a vector for each query of each task, and the small network that turns it into a shift of the query."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class QueryConditioner(nn.Module):
    """``query_i += MLP(vector_i)``. The last layer starts at zero: before training a network is what it is without this.

    Vectors are normalised first: those of sentences that say nearly the same differ little from their mean, and differ all the same.
    """

    def __init__(self, tasks: int, *, features: int, width: int, learned: bool) -> None:
        """`tasks` vectors of `features` numbers for each of the two queries of `width` channels; trained along where `learned`."""
        super().__init__()
        self.options: dict[str, Any] = {}
        self.vectors = nn.Parameter(torch.randn(tasks, 2, features), requires_grad=learned)
        self.norm = nn.LayerNorm(features)
        self.hidden = nn.Linear(features, width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """`[B, 2, features]` to `[B, 2, width]`."""
        shift: Tensor = self.out(nn.functional.gelu(self.hidden(self.norm(vectors))))
        return shift
