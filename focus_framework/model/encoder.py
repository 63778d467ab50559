"""Backbone and prior together: injector and extractor around every stage, then one pyramid (docs/method.md, 2, 5, 6; after ViT-Adapter)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from ..config.schema import EnhancerConfig
from ..plugin.interfaces import Prior, StagedBackbone
from .deformable_attention import DeformableAttention, grid_references

STRIDES = (4, 8, 16, 32)
LAYER_NORM_EPS = 1e-6


class Features(NamedTuple):
    """What the encoder hands on."""

    maps: list[Tensor]
    """Four maps `[B, C, H/s, W/s]`, s = 4, 8, 16, 32."""
    last: Tensor
    """Output of the last backbone stage `[B, N, C]`, before fusion; the first attention mask is made of it."""
    grid: tuple[int, int]
    """Rows and columns of `last`."""


def to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """`[B, N, C]` to `[B, C, rows, columns]`."""
    return tokens.transpose(1, 2).unflatten(2, grid)


def to_tokens(features: Tensor) -> Tensor:
    """`[B, C, H, W]` to `[B, H*W, C]`."""
    return features.flatten(2).transpose(1, 2)


class ConvFeedForward(nn.Module):
    """Linear, depthwise 3x3 on each of the three maps, GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        parts = self.fc1(tokens).split([height * width for height, width in shapes], 1)
        mixed = [to_tokens(self.depthwise(to_map(part, shape))) for part, shape in zip(parts, shapes, strict=True)]
        return self.fc2(F.gelu(torch.cat(mixed, 1)))


class Injector(nn.Module):
    """Adds what the prior knows to the backbone's tokens; `gamma` starts at zero, so that training starts from the backbone."""

    def __init__(self, width: int, *, heads: int, config: EnhancerConfig) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.prior_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attention = DeformableAttention(width, heads=heads, levels=3, points=config.points, value_ratio=config.ratio)
        self.gamma = nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Tensor, references: Tensor, prior: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        return tokens + self.gamma * self.attention(self.query_norm(tokens), references, self.prior_norm(prior), shapes)


class Extractor(nn.Module):
    """Lets the prior look up what the stage has made of it."""

    def __init__(self, width: int, *, heads: int, config: EnhancerConfig) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.token_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attention = DeformableAttention(width, heads=heads, levels=1, points=config.points, value_ratio=config.ratio)
        self.feedforward_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.feedforward = ConvFeedForward(width, int(width * config.feedforward_ratio))
        self.drop_path = DropPath(config.drop_path)

    def forward(
        self, prior: Tensor, references: Tensor, tokens: Tensor, grid: tuple[int, int], shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        prior = prior + self.attention(self.query_norm(prior), references, self.token_norm(tokens), [grid])
        return prior + self.drop_path(self.feedforward(self.feedforward_norm(prior), shapes))


class PlainEncoder(nn.Module):
    """The ablation without an enhancer: the backbone's stage outputs, resized to the four strides where they share one grid."""

    def __init__(self, backbone: StagedBackbone) -> None:
        super().__init__()
        self.backbone = cast(nn.Module, backbone)
        self.widths = backbone.widths
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in backbone.widths)

    def forward(self, image: Tensor) -> Features:
        backbone = cast(StagedBackbone, self.backbone)
        state = backbone.begin(image)
        maps = []
        for stage, norm in enumerate(self.norms):
            tokens, grid = backbone.enter(state, stage)
            tokens = backbone.run(state, stage, tokens)
            maps.append(norm(_resize(to_map(tokens, grid), image.shape, STRIDES[stage])))
        return Features(maps, tokens, grid)


class EnhancedEncoder(nn.Module):
    """Before every stage the injector adds the prior to the tokens, after it the extractor updates the prior; at the end both meet.

    `width` is the width of the prior and of the result: the backbone's for a plain transformer. Stages of another width (a pyramid)
    are projected to it.
    """

    def __init__(self, backbone: StagedBackbone, prior: Prior, *, width: int, heads: int, config: EnhancerConfig) -> None:
        super().__init__()
        self.backbone = cast(nn.Module, backbone)
        self.prior = cast(nn.Module, prior)
        self.widths = (width,) * 4
        self.level_embed = nn.Parameter(torch.randn(3, width))
        same = [stage_width == width for stage_width in backbone.widths]
        self.inputs = nn.ModuleList(nn.Identity() if s else nn.Linear(w, width) for s, w in zip(same, backbone.widths, strict=True))
        self.injectors = nn.ModuleList(Injector(width, heads=heads, config=config) for _ in range(4))
        extractors = 4 + config.extra_extractors
        self.extractors = nn.ModuleList(Extractor(width, heads=heads, config=config) for _ in range(extractors))
        self.up = nn.ConvTranspose2d(width, width, 2, 2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(4))

    def forward(self, image: Tensor) -> Features:
        first, prior, shapes = self._prior(image)
        references = grid_references(shapes, image.device)
        backbone = cast(StagedBackbone, self.backbone)
        state = backbone.begin(image)
        outputs: list[Tensor] = []
        for stage in range(4):
            tokens, grid = backbone.enter(state, stage)
            tokens = self.injectors[stage](self.inputs[stage](tokens), grid_references([grid], image.device), prior, shapes)
            tokens = backbone.run(state, stage, tokens)
            extractors = self.extractors[stage:] if stage == 3 else self.extractors[stage : stage + 1]
            for extractor in extractors:
                prior = extractor(prior, references, tokens, grid, shapes)
            outputs.append(to_map(tokens, grid))
        return Features(self._fuse(image, first, prior, shapes, outputs), tokens, grid)

    def _prior(self, image: Tensor) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
        """The prior's map at 1/4, the tokens of the other three with their level embedding, and their shapes."""
        first, *others = self.prior(image)
        shapes = [(level.shape[2], level.shape[3]) for level in others]
        tokens = torch.cat([to_tokens(level) + embed for level, embed in zip(others, self.level_embed, strict=True)], 1)
        return first, tokens, shapes

    def _fuse(self, image: Tensor, first: Tensor, prior: Tensor, shapes: list[tuple[int, int]], outputs: list[Tensor]) -> list[Tensor]:
        parts = prior.split([height * width for height, width in shapes], 1)
        levels = [to_map(part, shape) for part, shape in zip(parts, shapes, strict=True)]
        levels.insert(0, self.up(levels[0]) + first)
        resized = [_resize(output, image.shape, stride) for output, stride in zip(outputs, STRIDES, strict=True)]
        return [norm(level + output) for norm, level, output in zip(self.norms, levels, resized, strict=True)]


def _resize(features: Tensor, image_shape: Sequence[int], stride: int) -> Tensor:
    size = (image_shape[-2] // stride, image_shape[-1] // stride)
    if features.shape[-2:] == size:
        return features
    return F.interpolate(features, size, mode="bilinear", align_corners=False)
