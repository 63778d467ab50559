"""Multi-scale deformable attention in plain PyTorch: runs everywhere, and says what the compiled op has to compute."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def deform_attn(value: Tensor, spatial_shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Bilinear samples of every level, weighted and summed (Zhu et al., Deformable DETR, equation 3).

    Shapes are those of `focus_framework.ops.deform_attn`. Half-precision values are sampled in float32: `grid_sample` wants
    values and locations of one type, and locations cannot be half.
    """
    batch, length, heads, width = value.shape
    queries = locations.shape[1]
    samples = value.to(locations.dtype).permute(0, 2, 3, 1).reshape(batch * heads, width, length)
    grids = _grids(locations).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # [levels, batch * heads, queries, points, 2]
    weights = weights.to(locations.dtype).permute(3, 0, 2, 1, 4).flatten(1, 2).unsqueeze(2)

    output = samples.new_zeros(batch * heads, width, queries)
    areas = [height * columns for height, columns in spatial_shapes]
    if length == 0:  # nothing is sampled; the inputs have gradients all the same, of zeros
        output = output + 0 * (samples.sum() + grids.sum() + weights.sum((0, 4)))
    for (height, columns), level, grid, weight in zip(spatial_shapes, samples.split(areas, dim=2), grids, weights, strict=True):
        if height * columns == 0:
            continue
        image = level.unflatten(2, (height, columns))
        sampled = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        output = output + (sampled * weight).sum(-1)
    return output.view(batch, heads * width, queries).transpose(1, 2).to(value.dtype).contiguous()


def deform_attn_from_logits(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], reference_points: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """The same from what a network predicts; shapes are those of `focus_framework.ops.deform_attn_from_logits`."""
    precision = torch.promote_types(value.dtype, torch.float32)
    weights = logits.to(precision).flatten(3).softmax(-1).view_as(logits)
    # An empty level has no pixels to measure offsets in; it is not sampled either.
    sizes = [(max(columns, 1), max(height, 1)) for height, columns in spatial_shapes]
    size = torch.tensor(sizes, dtype=precision, device=offsets.device).view(len(sizes), 1, 2)
    locations = reference_points.to(precision)[:, :, None, :, None] + offsets.to(precision) / size
    return deform_attn(value, spatial_shapes, locations, weights)


def _grids(locations: Tensor) -> Tensor:
    """Locations in 0..1 as `grid_sample` takes them (-1..1).

    Beyond one image's width outside of the image nothing can be sampled any more, so clamping there changes no sample and
    keeps infinities out of the arithmetic; NaN goes there too.
    """
    return (2 * locations - 1).clamp(-3, 3).nan_to_num(nan=-3)
