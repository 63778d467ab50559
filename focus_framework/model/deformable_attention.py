"""The module around the deformable-attention op: what Deformable DETR calls MSDeformAttn, with a narrower value if asked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .ops import deform_attn_from_logits


class DeformableAttention(nn.Module):
    """Every query looks at a few learned places of several maps.

    `width` is the queries' and the values' width, `value_ratio` the width of the projected values as a share of it (0.5 in the
    interactions of a ViT adapter), `levels` the number of maps, `points` the places per head and map.
    """

    def __init__(self, width: int, *, heads: int, levels: int, points: int = 4, value_ratio: float = 1.0) -> None:
        super().__init__()
        inner = int(width * value_ratio)
        if inner % heads:
            raise ValueError(f"{heads} heads do not divide the value width {inner} (width {width} x ratio {value_ratio})")
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(width, heads * levels * points * 2)
        self.attention_weights = nn.Linear(width, heads * levels * points)
        self.value_proj = nn.Linear(width, inner)
        self.output_proj = nn.Linear(inner, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each head starts looking in a direction of its own, one pixel further with every point, with even weights."""
        angles = torch.arange(self.heads, dtype=torch.float32) * (2.0 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1, dtype=torch.float32)
        bias = directions[:, None, None] * steps[None, None, :, None]
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias.expand(-1, self.levels, -1, -1).reshape(-1))
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, references: Tensor, value: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        """Queries `[B, Q, width]` with reference points `[1 or B, Q, 1 or levels, 2]` (x, y in 0..1) over flattened maps
        `[B, sum of areas, width]` of the given (height, width); returns `[B, Q, width]`."""
        batch, count, _ = query.shape
        layout = (batch, count, self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(query).view(*layout, 2)
        logits = self.attention_weights(query).view(layout)
        values = self.value_proj(value)
        values = values.view(batch, values.shape[1], self.heads, -1)
        references = references.expand(-1, -1, self.levels, -1)
        return self.output_proj(deform_attn_from_logits(values, list(shapes), references, offsets, logits))


def grid_references(shapes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """Centres of all cells of the maps, `[1, sum of areas, 1, 2]`, (x, y) in 0..1."""
    centres = []
    for height, width in shapes:
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        centres.append(torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).reshape(-1, 2))
    return torch.cat(centres)[None, :, None]
