"""Deformable-attention encoder over 1/32, 1/16, 1/8 and a step up to 1/4 (docs/method.md, 7; after Mask2Former)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.schema import PixelDecoderConfig
from .deformable_attention import DeformableAttention, grid_references
from .encoder import to_map, to_tokens

GROUPS = 32


class PixelFeatures(NamedTuple):
    """Mask features `[B, C, H/4, W/4]` and the three maps for the ground queries, 1/32 first."""

    mask_features: Tensor
    levels: list[Tensor]


def sine_positions(shape: tuple[int, int], width: int, device: torch.device) -> Tensor:
    """Fixed position encoding `[1, width, H, W]` of a map: y in the first half of the channels, x in the second; positions run to
    2 pi, wavelengths to 10,000 times that (Carion et al. 2020)."""
    half = width // 2
    exponents = 2 * torch.div(torch.arange(half, device=device, dtype=torch.float32), 2, rounding_mode="floor") / half
    wavelengths = 10_000.0**exponents

    def axis(length: int) -> Tensor:
        places = torch.arange(1, length + 1, device=device, dtype=torch.float32)
        places = places / (length + 1e-6) * (2 * math.pi)
        angles = places[:, None] / wavelengths
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], 2).flatten(1)

    height, columns = shape
    y = axis(height)[:, None].expand(-1, columns, -1)
    x = axis(columns)[None].expand(height, -1, -1)
    return torch.cat([y, x], 2).permute(2, 0, 1)[None]


class EncoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward network, each followed by its norm."""

    def __init__(self, config: PixelDecoderConfig) -> None:
        super().__init__()
        width = config.width
        self.attention = DeformableAttention(width, heads=config.heads, levels=3, points=config.points)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, positions: Tensor, references: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        tokens = self.norm1(tokens + self.attention(tokens + positions, references, tokens, shapes))
        return self.norm2(tokens + self.linear2(F.relu(self.linear1(tokens))))


class PixelDecoder(nn.Module):
    """`widths` are those of the four maps it gets, 1/4 first."""

    def __init__(self, widths: Sequence[int], config: PixelDecoderConfig) -> None:
        super().__init__()
        self.width = width = config.width
        self.inputs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1), nn.GroupNorm(GROUPS, width)) for channels in reversed(widths[1:])
        )
        self.level_embed = nn.Parameter(torch.randn(3, width))
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.lateral = nn.Sequential(nn.Conv2d(widths[0], width, 1, bias=False), nn.GroupNorm(GROUPS, width))
        self.output = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, width), nn.ReLU())
        self.mask_features = nn.Conv2d(width, width, 1)
        for module in self.inputs.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(cast(Tensor, module.bias))

    def forward(self, maps: Sequence[Tensor]) -> PixelFeatures:
        """Four maps, 1/4 first."""
        levels = [project(level) for project, level in zip(self.inputs, reversed(maps[1:]), strict=True)]
        shapes = [(level.shape[2], level.shape[3]) for level in levels]
        device = levels[0].device
        tokens = torch.cat([to_tokens(level) for level in levels], 1)
        positions = torch.cat(
            [to_tokens(sine_positions(shape, self.width, device)) + embed for shape, embed in zip(shapes, self.level_embed, strict=True)],
            1,
        )
        references = grid_references(shapes, device)
        for layer in self.layers:
            tokens = layer(tokens, positions, references, shapes)
        parts = tokens.split([height * width for height, width in shapes], 1)
        levels = [to_map(part, shape) for part, shape in zip(parts, shapes, strict=True)]
        fine = self.lateral(maps[0])
        fine = fine + F.interpolate(levels[-1], fine.shape[-2:], mode="bilinear", align_corners=False)
        return PixelFeatures(self.mask_features(self.output(fine)), levels)
