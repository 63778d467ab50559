"""Refiner `clip`: the two regions of an image and the task's two prompts must find each other (docs/method.md, 11)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from focus_framework import ConfigError, Prompts
from focus_framework.plugin.kit.image_text import Fill, Precision, RegionRefiner, load_encoder


class ClipRefiner(RegionRefiner):
    """The paper's symmetric contrastive loss. Nothing here is trained or saved."""

    def __init__(self, *args: Any, temperature: float = 0.07, **kwargs: Any) -> None:
        """All but `temperature` as `RegionRefiner`."""
        super().__init__(*args, **kwargs)
        if not temperature > 0:
            raise ConfigError(f"refiner option temperature = {temperature!r}; it must be above 0")
        self.temperature = temperature

    def loss(self, features: Tensor) -> Tensor:
        return contrastive_loss(features, self.text, self.temperature)


def contrastive_loss(image: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Cross entropy from image to text and from text to image over the two pairs of each image, halves averaged.

    `image` `[..., 2, D]` and `text` `[2, D]` of length one, foreground first.
    """
    similarity = (image @ text.mT / temperature).flatten(0, -3)  # [N, 2 regions, 2 prompts]
    own = torch.arange(2, device=image.device).expand(len(similarity), 2)
    image_to_text = F.cross_entropy(similarity.mT, own)  # classes, the prompts, are the second dimension
    text_to_image = F.cross_entropy(similarity, own)
    return (image_to_text + text_to_image) / 2


def build(
    prompts: Sequence[Prompts],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    model: str = "ViT-B-16",
    weights: str = "openai",
    precision: Precision = "auto",
    checkpointing: bool = False,
    fill: Fill = "mean",
    temperature: float = 0.07,
) -> ClipRefiner:
    """See `load_encoder` for `model` and `weights`, `ImageTextEncoder` for `precision` and `checkpointing`, `show_regions` for `fill`."""
    encoder = load_encoder(model, weights, precision=precision, checkpointing=checkpointing)
    return ClipRefiner(encoder, prompts, mean=mean, std=std, fill=fill, temperature=temperature)
