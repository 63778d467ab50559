"""Two ground queries, foreground and background, refined by masked attention (docs/method.md, 8; after Mask2Former)."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.schema import DecoderConfig
from .encoder import Features, to_tokens
from .first_mask import first_mask_logits
from .pixel_decoder import PixelFeatures, sine_positions

QUERIES = 2
CLASSES = 3
FOREGROUND, BACKGROUND, NO_OBJECT = range(CLASSES)


class Heads(NamedTuple):
    """Predictions of L decoder heads, the one on the learned queries first, the final one last."""

    class_logits: Tensor
    """`[L, B, 2, 3]`: foreground, background, none."""
    mask_logits: Tensor
    """`[L, B, 2, H/4, W/4]`"""
    boxes: Tensor
    """`[L, B, 2, 4]`: centre x, centre y, width, height before the sigmoid."""


class Perceptron(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        sizes = [width, width, width, out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class DecoderLayer(nn.Module):
    """Masked cross-attention, self-attention between the two queries, feed-forward; a norm after each."""

    def __init__(self, width: int, config: DecoderConfig) -> None:
        super().__init__()
        self.cross_attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.cross_norm = nn.LayerNorm(width)
        self.self_attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.self_norm = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, width)
        self.feedforward_norm = nn.LayerNorm(width)

    def forward(self, queries: Tensor, places: Tensor, keys: Tensor, values: Tensor, blocked: Tensor | None) -> Tensor:
        """Queries `[B, 2, C]` with their positions, keys and values `[B, N, C]`, `blocked` `[B * heads, 2, N]` or None."""
        looked, _ = self.cross_attention(queries + places, keys, values, attn_mask=blocked, need_weights=False)
        queries = self.cross_norm(queries + looked)
        placed = queries + places
        exchanged, _ = self.self_attention(placed, placed, queries, need_weights=False)
        queries = self.self_norm(queries + exchanged)
        return self.feedforward_norm(queries + self.linear2(F.relu(self.linear1(queries))))


class GroundDecoder(nn.Module):
    """`width` is the pixel decoder's."""

    def __init__(self, width: int, config: DecoderConfig) -> None:
        super().__init__()
        self.width, self.attention_heads, self.first_mask = width, config.heads, config.first_mask
        self.query_content = nn.Parameter(torch.randn(QUERIES, width))
        self.query_position = nn.Parameter(torch.randn(QUERIES, width))
        self.level_embed = nn.Parameter(torch.randn(3, width))
        self.layers = nn.ModuleList(DecoderLayer(width, config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.class_head = nn.Linear(width, CLASSES)
        self.mask_head = Perceptron(width, width)
        self.box_head = Perceptron(width, 4)

    def forward(self, pixels: PixelFeatures, features: Features, *, all_heads: bool, shift: Tensor | None = None) -> Heads:
        """Predictions of all heads (training), or of the final one alone. `shift` `[B, 2, C]` is added to the queries."""
        levels = [to_tokens(level) for level in pixels.levels]
        values = [level + embed for level, embed in zip(levels, self.level_embed, strict=True)]
        shapes = [(level.shape[2], level.shape[3]) for level in pixels.levels]
        keys = [value + to_tokens(sine_positions(s, self.width, value.device)) for value, s in zip(values, shapes, strict=True)]
        batch = values[0].shape[0]
        queries = self.query_content.expand(batch, -1, -1)
        if shift is not None:
            queries = queries + shift
        places = self.query_position.expand(batch, -1, -1)
        normed = self.norm(queries)
        outputs, masks = [normed], [self._masks(normed, pixels.mask_features)]
        for index, layer in enumerate(self.layers):
            level = index % len(levels)
            looked_at = self._first_masks(masks[0], features) if index == 0 else masks[-1]
            queries = layer(queries, places, keys[level], values[level], self._blocked(looked_at, shapes[level]))
            outputs.append(self.norm(queries))
            masks.append(self._masks(outputs[-1], pixels.mask_features))
        if not all_heads:
            outputs, masks = outputs[-1:], masks[-1:]
        stacked = torch.stack(outputs)
        return Heads(self.class_head(stacked), torch.stack(masks), self.box_head(stacked))

    def _masks(self, queries: Tensor, mask_features: Tensor) -> Tensor:
        return torch.einsum("bqc,bchw->bqhw", self.mask_head(queries), mask_features)

    def _first_masks(self, predicted: Tensor, features: Features) -> Tensor | None:
        """What the first layer may look at, as logits; None: everything. The release means a PCA mask, but its comparison never
        blocks anything: it starts open while training and from the learned queries' masks in evaluation."""
        if self.first_mask == "pca":
            return first_mask_logits(features.last.detach(), features.grid)
        if self.first_mask == "open" or (self.first_mask == "release" and self.training):
            return None
        return predicted

    def _blocked(self, mask_logits: Tensor | None, shape: tuple[int, int]) -> Tensor | None:
        """True where a query may not look, `[B * heads, 2, N]`. A row that forbids everything is opened."""
        if mask_logits is None:
            return None
        resized = F.interpolate(mask_logits.detach().float(), shape, mode="bilinear", align_corners=False).flatten(2)
        blocked = resized < 0
        blocked = blocked & ~blocked.all(2, keepdim=True)
        return blocked.repeat_interleave(self.attention_heads, 0)


def ground_truth_masks(mask: Tensor) -> Tensor:
    """Labels `[B, H, W]` (1 foreground, 0 background, anything else is neither) to the targets `[B, 2, H, W]` of both queries."""
    return torch.stack([mask == 1, mask == 0], 1)
