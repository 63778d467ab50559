"""Refiner `clip-release`: the loss of the authors' release, on crops that do show one region each.

Kept: soft targets, projection heads that are trained along, fourteen templates around every prompt. Not rebuilt: the release
normalises the image twice, so that CLIP sees an almost constant one, and its masks leave half of the other region visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focus_framework import Prompts
from focus_framework.plugin.kit.image_text import Fill, Precision, load_encoder
from focus_framework.plugin.kit.prompts import with_templates

from .contrast import ClipRefiner

TEMPLATES = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)


class ProjectionHead(nn.Module):
    """Features `[N, 2, D]` to features of the same shape; the two regions are the channels of the batch norm, as in the release."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, width)
        self.fc = nn.Linear(width, width)
        self.bn1 = nn.BatchNorm1d(2)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.projection(x)
        return self.layer_norm(x + self.bn1(self.fc(F.gelu(x))))


class ReleaseRefiner(ClipRefiner):
    """The release's loss. Its two projection heads are trained along with the network."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        width = self.text.shape[-1]
        self.image_embed, self.text_embed = ProjectionHead(width), ProjectionHead(width)

    def loss(self, features: Tensor) -> Tensor:
        """Each decoder head's features pass the batch norms on their own, as the release runs them."""
        text = self.text.expand(features.shape[1], -1, -1)
        heads = [soft_contrastive_loss(self.image_embed(head), self.text_embed(text), self.temperature) for head in features]
        return torch.stack(heads).mean()


def soft_contrastive_loss(image: Tensor, text: Tensor, temperature: float) -> Tensor:
    """The release's loss of features `[N, 2, D]`, which it does not normalise: `softmax((I I' + T T') / 2 * temperature)` are the
    targets of `T I' / temperature`, in both directions; gradients flow through the targets too."""
    logits = text @ image.mT / temperature
    targets = ((image @ image.mT + text @ text.mT) / 2 * temperature).softmax(-1)
    text_to_image = -(targets * logits.log_softmax(-1)).sum(-1)
    image_to_text = -(targets.mT * logits.mT.log_softmax(-1)).sum(-1)
    return (text_to_image + image_to_text).mean() / 2


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
) -> ReleaseRefiner:
    """Options as those of refiner `clip`; each prompt is put into every one of `TEMPLATES`."""
    encoder = load_encoder(model, weights, precision=precision, checkpointing=checkpointing)
    pairs = with_templates(prompts, TEMPLATES)
    return ReleaseRefiner(encoder, pairs, mean=mean, std=std, fill=fill, temperature=temperature)
