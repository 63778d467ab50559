"""The two public functions: they check what came, settle the number types, and hand on to the implementation in use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from . import reference
from .choice import backend

SpatialShapes = Sequence[tuple[int, int]]


def deform_attn(value: Tensor, spatial_shapes: SpatialShapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Multi-scale deformable attention: each query sums weighted bilinear samples of each level.

    Args:
        value: `[B, S, heads, D]`, the levels one after another, rows first; float32, float64, bfloat16 or float16.
        spatial_shapes: (height, width) of each level on the host; their areas add up to S. A level may be empty.
        locations: `[B, Q, heads, levels, points, 2]`, (x, y) in 0..1 over each level, pixel centres at (i + 0.5) / size. Samples
            outside are 0; NaN and infinite locations give 0 too. float32 (float64 for a float64 value): half types would
            cost whole per cents.
        weights: `[B, Q, heads, levels, points]`, any floating type.

    Returns:
        `[B, Q, heads * D]` in the type of `value`; under autocast, in autocast's type.

    Raises:
        ValueError: a shape or type does not fit; the message names what came and what is needed.
    """
    value = _autocast(value)
    precision = torch.promote_types(value.dtype, torch.float32)
    if locations.dtype != precision:
        raise ValueError(f"locations are {locations.dtype}, but must be {precision} for a value in {value.dtype}; convert them")
    _check(value, spatial_shapes, {"locations": (locations, (2,)), "weights": (weights, ())})
    if backend(value.device) == "native":
        return torch.ops.focus_ops.deform_attn(value, _flat(spatial_shapes), locations, weights.to(precision))
    with torch.autocast(value.device.type, enabled=False):
        return reference.deform_attn(value, spatial_shapes, locations, weights)


def deform_attn_from_logits(
    value: Tensor, spatial_shapes: SpatialShapes, reference_points: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """Deformable attention from what a network predicts: softmax, sampling locations and sampling in one.

    The weights are the softmax of `logits` over levels and points together; the locations are
    ``reference_points + offsets / (width, height)``. Both are computed in float32 (float64 for a float64 value).

    Args:
        value, spatial_shapes: as in `deform_attn`.
        reference_points: `[B or 1, Q, levels, 2]`, (x, y) in 0..1.
        offsets: `[B, Q, heads, levels, points, 2]`, (x, y) in pixels of each level.
        logits: `[B, Q, heads, levels, points]`.

    Returns:
        `[B, Q, heads * D]` in the type of `value`; under autocast, in autocast's type.

    Raises:
        ValueError: a shape does not fit; the message names what came and what is needed.
    """
    value = _autocast(value)
    _check(value, spatial_shapes, {"offsets": (offsets, (2,)), "logits": (logits, ())})
    batch, queries, levels = offsets.shape[0], offsets.shape[1], len(spatial_shapes)
    if reference_points.shape[0] not in (1, batch) or reference_points.shape[1:] != (queries, levels, 2):
        need = f"[{batch} or 1, {queries}, {levels}, 2] (batch, queries, levels, xy)"
        raise ValueError(f"reference_points have shape {list(reference_points.shape)}, needed is {need}")
    if backend(value.device) == "native":
        precision = torch.promote_types(value.dtype, torch.float32)
        # The compiled op reads what the network predicted in the value's own half type, or else in the type it computes in.
        kept = value.dtype if offsets.dtype == logits.dtype == value.dtype else precision
        return torch.ops.focus_ops.deform_attn_from_logits(
            value, _flat(spatial_shapes), reference_points.to(precision), offsets.to(kept), logits.to(kept)
        )
    with torch.autocast(value.device.type, enabled=False):
        return reference.deform_attn_from_logits(value, spatial_shapes, reference_points, offsets, logits)


def _autocast(value: Tensor) -> Tensor:
    """Under autocast the value, and it alone, takes autocast's type; float64 stays, as everywhere in autocast."""
    kind = value.device.type
    if torch.is_autocast_enabled(kind) and value.dtype != torch.float64:
        return value.to(torch.get_autocast_dtype(kind))
    return value


def _flat(spatial_shapes: SpatialShapes) -> list[int]:
    return [side for shape in spatial_shapes for side in shape]


def _check(value: Tensor, spatial_shapes: SpatialShapes, predicted: dict[str, tuple[Tensor, tuple[int, ...]]]) -> None:
    """That the shapes fit one another; `predicted` maps a name to a tensor and the sizes it has after the points."""
    if value.dim() != 4:
        raise ValueError(f"value has shape {list(value.shape)}, needed is [batch, sum of areas, heads, channels of a head]")
    batch, length, heads, _ = value.shape
    _check_shapes(spatial_shapes)
    if any(side < 0 or side >= 2**31 for shape in spatial_shapes for side in shape):
        raise ValueError(f"spatial_shapes {[tuple(shape) for shape in spatial_shapes]} have a side that is negative or above 2^31 - 1")
    area = sum(height * width for height, width in spatial_shapes)
    if area != length:
        shapes = [tuple(shape) for shape in spatial_shapes]
        raise ValueError(f"value has {length} positions (shape {list(value.shape)}), but spatial_shapes {shapes} have {area}")
    first, _ = next(iter(predicted.values()))
    queries, points = (first.shape[1], first.shape[4]) if first.dim() == 6 else ("queries", "points")
    for name, (tensor, tail) in predicted.items():
        need = (batch, queries, heads, len(spatial_shapes), points, *tail)
        if tuple(tensor.shape) != need:
            axes = "(batch, queries, heads, levels, points" + (", xy)" if tail else ")")
            raise ValueError(
                f"{name} have shape {list(tensor.shape)}, needed is [{', '.join(map(str, need))}] {axes} "
                f"for a value of shape {list(value.shape)} and {len(spatial_shapes)} levels"
            )


def _check_shapes(spatial_shapes: SpatialShapes) -> None:
    """That they are pairs of whole numbers on the host."""
    given: object = spatial_shapes
    right = isinstance(given, list | tuple) and all(
        isinstance(shape, list | tuple | torch.Size)
        and len(shape) == 2
        and all(isinstance(side, int | np.integer | torch.SymInt) for side in shape)
        for shape in given
    )
    if not right:
        raise ValueError(f"spatial_shapes must be a list of (height, width) in whole numbers, one for each level; they are {given!r:.80}")
