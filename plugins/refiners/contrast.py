"""Refiner `clip`: the two regions of a picture and the task's two prompts must find each other (paper, eq. of the CLIP refiner)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focus_framework import ConfigError, Prompts
from focus_framework.image_text import Fill, ImageTextEncoder, Precision, column, encode_prompts, load_encoder, show_regions


class ClipRefiner(nn.Module):
    """Symmetric contrastive loss between what two masks show of a picture and two prompts. Nothing here is trained or saved."""

    text: Tensor

    def __init__(
        self,
        encoder: ImageTextEncoder,
        prompts: Sequence[Prompts],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        fill: Fill = "mean",
        temperature: float = 0.07,
    ) -> None:
        """`mean` and `std` undo the normalisation of the pictures to come; several `prompts` are averaged after encoding."""
        super().__init__()
        if not temperature > 0:
            raise ConfigError(f"refiner option temperature = {temperature!r}; it must be above 0")
        self.encoder = encoder
        self.mean, self.std = tuple(mean), tuple(std)
        self.fill: Fill = fill
        self.temperature = temperature
        self.register_buffer("text", encode_prompts(encoder, prompts), persistent=False)

    def forward(self, image: Tensor, mask_logits: Tensor) -> Tensor:
        """Normalised pictures `[B, 3, H, W]` and mask logits `[L, B, 2, h, w]` to the mean loss of heads and pictures."""
        with torch.autocast(image.device.type, enabled=False):
            return self.loss(self.features(image, mask_logits.float().sigmoid()).flatten(0, 1))

    def features(self, image: Tensor, visibility: Tensor) -> Tensor:
        """Features `[..., B, R, D]` of the regions `[..., B, R, h, w]` of normalised pictures, all in one pass of the encoder."""
        image = image.float()
        pictures = image * column(self.std, image) + column(self.mean, image)
        encoder = self.encoder
        crops = show_regions(pictures, visibility, size=encoder.size, mean=encoder.mean, fill=self.fill)
        return encoder.encode_image(crops.flatten(0, -4)).unflatten(0, crops.shape[:-3])

    def loss(self, features: Tensor) -> Tensor:
        """The loss of image features `[N, 2, D]` against the prompts."""
        return contrastive_loss(features, self.text, self.temperature)

    @torch.no_grad()
    def region_features(self, image: Tensor, visibility: Tensor) -> Tensor:
        """See `focus_framework.interfaces.PromptJudge`."""
        return F.normalize(self.features(image, visibility), dim=-1)

    def prompt_features(self, pairs: Sequence[Prompts]) -> Tensor:
        """See `focus_framework.interfaces.PromptJudge`."""
        return torch.stack([encode_prompts(self.encoder, [pair]) for pair in pairs])


def contrastive_loss(image: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Cross entropy from image to text and from text to image over the two pairs of each picture, halves averaged.

    `image` `[N, 2, D]`, `text` `[2, D]`, foreground first; neither need be of length one.
    """
    similarity = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).mT / temperature  # [N, 2 regions, 2 prompts]
    own = torch.arange(2, device=image.device).expand(len(similarity), 2)
    image_to_text = F.cross_entropy(similarity.flatten(0, 1), own.flatten())
    text_to_image = F.cross_entropy(similarity.mT.flatten(0, 1), own.flatten())
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
