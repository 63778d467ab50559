"""Parameters that no loss depends on: a layer of a network of somebody else's that is there and is not run."""

from __future__ import annotations

import torch
from torch import nn


def without_gradient(network: nn.Module, size: int) -> list[str]:
    """Names of the trained parameters that all heads together, for one image of `size`, do not depend on. Modes, chance, buffers and
    gradients stay as they are."""
    modes = [(part, part.training) for part in network.modules()]
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    device = next(network.parameters()).device
    network.eval()  # norms of several processes would wait for one another
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
            heads = network(torch.rand(1, 3, size, size, device=device) - 0.5, all_heads=True)
            total = torch.stack([output.float().sum() for output in heads]).sum()
            found = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
    finally:
        for part, mode in modes:
            part.training = mode
    return [name for name, gradient in zip(trained, found, strict=True) if gradient is None]
