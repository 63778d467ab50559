"""Chance as a function of (seed, step): a run that is stopped and goes on draws what one that was never stopped draws."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

STEP_STREAM = 1


def seed_step(seed: int, step: int) -> None:
    """Start every global random stream of torch anew for one step (stochastic depth draws from them)."""
    torch.manual_seed(_number(seed, step))


class Draws:
    """Uniform numbers for the loss of one step, on `device`."""

    def __init__(self, seed: int, step: int, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed(_number(seed, step, STEP_STREAM))

    def __call__(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator, device=self._generator.device)


def _number(*key: int) -> int:
    """One 63-bit number out of several."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
