"""The whole network: encoder, pixel decoder, ground decoder."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from ..config.schema import DecoderConfig, EnhancerConfig, PixelDecoderConfig
from ..errors import DataError
from ..plugin.interfaces import Prior, StagedBackbone
from .encoder import EnhancedEncoder, PlainEncoder
from .ground_decoder import GroundDecoder, Heads
from .pixel_decoder import PixelDecoder

MULTIPLE = 32  # height and width of network input


class Network(nn.Module):
    """Normalised images to the predictions of the decoder's heads.

    `backbone` and `prior` are what the plugins built; without a prior the backbone's own pyramid is used. The width of a prior is
    `prior_width(backbone, pixel_decoder)`.
    """

    def __init__(
        self,
        backbone: StagedBackbone,
        prior: Prior | None,
        *,
        enhancer: EnhancerConfig,
        pixel_decoder: PixelDecoderConfig,
        decoder: DecoderConfig,
    ) -> None:
        super().__init__()
        self.frozen = False
        self.encoder: PlainEncoder | EnhancedEncoder
        if prior is None:
            self.encoder = PlainEncoder(backbone)
        else:
            width = prior_width(backbone, pixel_decoder)
            heads = pixel_decoder.heads if backbone.pyramid else backbone.heads
            self.encoder = EnhancedEncoder(backbone, prior, width=width, heads=heads, config=enhancer)
        self.pixel_decoder = PixelDecoder(self.encoder.widths, pixel_decoder)
        self.decoder = GroundDecoder(pixel_decoder.width, decoder)

    def freeze_backbone(self) -> None:
        """Train only what the framework adds to the backbone (paper, Table 4)."""
        self.frozen = True
        self.encoder.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """A frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.backbone.eval()
        return self

    def forward(self, image: Tensor, *, all_heads: bool = False) -> Heads:
        """Images `[B, 3, H, W]`, normalised with the backbone's mean and std, H and W multiples of 32. Raises `DataError` for others."""
        if not torch.compiler.is_compiling():  # there a look at a size would fix it
            _check(image)
        features = self.encoder(image)
        pixels = self.pixel_decoder(features.maps)
        return self.decoder(pixels, features, all_heads=all_heads)


def _check(image: Tensor) -> None:
    shape = tuple(image.shape)
    if len(shape) != 4 or shape[1] != 3 or not image.numel() or shape[2] % MULTIPLE or shape[3] % MULTIPLE:
        raise DataError(f"images have the shape {list(shape)}; needed is [B, 3, H, W] with H and W multiples of {MULTIPLE}, none of them 0")


def prior_width(backbone: StagedBackbone, pixel_decoder: PixelDecoderConfig) -> int:
    """Width at which prior and backbone meet: a plain transformer's own, the pixel decoder's for a pyramid of several widths."""
    return pixel_decoder.width if backbone.pyramid else backbone.widths[-1]
