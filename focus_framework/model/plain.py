"""The network and its losses as plain torch, for a training loop of one's own."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config.schema import LossConfig, RunConfig
from ..errors import DataError
from .build import build_network
from .ground_decoder import Heads
from .losses import LossTerms, Targets
from .losses import losses as ordered_losses
from .network import Network


def build(config: RunConfig) -> Network:
    """The network of a configuration (`configure` makes one), an `nn.Module` in training mode with the weights that the configuration
    names for its backbone.

    ``network(images, all_heads=True)`` takes images `[B, 3, H, W]`, normalised with ``network.encoder.backbone.mean`` and ``.std``, H
    and W multiples of 32, and returns class logits `[L, B, 2, 3]`, mask logits `[L, B, 2, H/4, W/4]` and boxes `[L, B, 2, 4]` of its L
    heads. Raises `PluginError`, `ConfigError` or `WeightsError`.
    """
    return build_network(config)


def losses(heads: Heads, masks: Tensor, config: LossConfig | None = None, *, generator: torch.Generator | None = None) -> LossTerms:
    """The three terms ``label``, ``mask`` and ``box`` as scalars, weighted as in the paper: their sum is the loss without the refiner's.

    Args:
        heads: what the network returned with ``all_heads=True``.
        masks: the truth `[B, H, W]`: 1 (or true) foreground, 0 background, any other value neither.
        config: weights and numbers of points, by default the paper's.
        generator: where the random points come from, on the device of `heads`; by default torch's global stream.

    Raises `DataError` where the masks are not those of the images.
    """
    batch = heads.mask_logits.shape[1]
    if masks.dim() != 3 or not masks.numel() or len(masks) != batch:
        raise DataError(f"masks have the shape {list(masks.shape)}; needed is [{batch}, H, W] for {batch} images, no side 0")

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=heads.mask_logits.device)

    return ordered_losses(heads, Targets.of(masks), config or LossConfig(), draw)[0]
