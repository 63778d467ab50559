"""Chance as a function of (seed, sample): neither a restart, nor parts of a batch, nor processes change what a sample meets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

STEP_STREAM = 1


def seed_step(seed: int, sample: int) -> None:
    """Start every global random stream of torch anew (stochastic depth draws from them) for a batch, or a part of one, that begins
    with this sample."""
    torch.manual_seed(_number(seed, sample))


class Draws:
    """Uniform numbers for the losses of `samples`, by their numbers, on `device`."""

    def __init__(self, seed: int, samples: Sequence[int], device: torch.device) -> None:
        self._device = device
        self._generators = [torch.Generator(device).manual_seed(_number(seed, sample, STEP_STREAM)) for sample in samples]

    def __call__(self, heads: int, batch: int, *shape: int) -> Tensor:
        """`[heads, batch, *shape]`; `batch` is the number of samples."""
        assert batch == len(self._generators)
        return torch.stack([torch.rand(heads, *shape, generator=generator, device=self._device) for generator in self._generators], 1)


def _number(*key: int) -> int:
    """One 63-bit number out of several."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
