"""``--precision auto`` in training: one step's work in fp32 and in bf16, before anything else is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from ..config.layers import Resolved
from ..config.schema import RunConfig
from ..inference.device import choose_device
from ..inference.precision import Choice, choose
from ..model.build import build_network
from ..model.losses import Targets, losses
from .processes.team import launched
from .randomness import Draws

IMAGES = 4
"""At most, in a trial: what they cost each differs little from a whole batch."""
ALIKE = 0.02
"""Relative difference of the losses of one batch above which bf16 is worse. Eight bits are 0.004; losses were seen to differ by 0.002."""


def decide(resolved: Resolved) -> tuple[Resolved, Choice | None]:
    """The settings with a precision in the place of ``auto``, and why it is that one; None where a person has chosen."""
    config = resolved.config
    if config.training.precision != "auto":
        return resolved, None
    chosen = _choose(config)
    plan = config.training.model_copy(update={"precision": chosen.precision})
    return replace(resolved, config=config.model_copy(update={"training": plan})), chosen


def _choose(config: RunConfig) -> Choice:
    if launched() > 1:
        return Choice("fp32", "several processes make no trial, since they might disagree; --precision bf16 says it for all")
    device = choose_device(config.training.device)
    random = torch.get_rng_state()
    try:
        call = _work(config, device)
        return choose(call, device, lambda first, second: abs(first - second) / max(abs(first), 1e-9), allowed=ALIKE, what="losses")
    finally:
        torch.set_rng_state(random)


def _work(config: RunConfig, device: torch.device) -> Callable[[], float]:
    """Forward pass, losses and backward pass of a few random images; the refiner, which has a precision of its own, is left out."""
    plan, side = config.training, config.preprocessing.size
    count = max(2, min(IMAGES, plan.batch_size // plan.accumulate))
    torch.manual_seed(plan.seed)
    network: nn.Module = build_network(config, weights="none").to(device).train()
    pixels = torch.randn(count, 3, side, side, device=device)
    square = torch.zeros(count, side, side, dtype=torch.uint8, device=device)
    square[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    targets = Targets.of(square)

    def work() -> float:
        torch.manual_seed(plan.seed)
        network.zero_grad(set_to_none=True)
        terms, _ = losses(network(pixels, all_heads=True), targets, config.loss, Draws(plan.seed, range(count), device))
        loss = terms.label + terms.mask + terms.box
        loss.backward()
        return float(loss.detach())

    return work
