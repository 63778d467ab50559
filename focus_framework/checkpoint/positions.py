"""Tables of positions that were trained for one grid or window, resized to another one."""

from __future__ import annotations

import math

from timm.layers import resample_abs_pos_embed, resample_abs_pos_embed_nhwc, resize_rel_pos_bias_table
from torch import Tensor

MOST_PREFIX_TOKENS = 16


def resized_positions(name: str, table: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """A table of `shape` with the values of `table`, by timm's own interpolation; None for a tensor that is no table of positions, or
    of another width."""
    leaf = name.rpartition(".")[2]
    if leaf == "relative_position_bias_table" and table.dim() == len(shape) == 2 and table.shape[1] == shape[1]:
        side = math.isqrt(shape[0])
        return resize_rel_pos_bias_table(table, ((side + 1) // 2,) * 2, shape) if side * side == shape[0] else None
    if leaf != "pos_embed" or table.dim() != len(shape) or table.shape[-1] != shape[-1]:
        return None
    if len(shape) == 4:  # [1, rows, columns, C]
        return resample_abs_pos_embed_nhwc(table, list(shape[1:3]))
    return _resized_sequence(table, shape[1]) if len(shape) == 3 else None


def _resized_sequence(table: Tensor, length: int) -> Tensor | None:
    """`[1, N, C]` to `[1, length, C]`: both are a square grid behind the same number of prefix tokens."""
    for prefix in range(MOST_PREFIX_TOKENS):
        before, after = (math.isqrt(max(count - prefix, 0)) for count in (table.shape[1], length))
        if before * before + prefix == table.shape[1] and after * after + prefix == length and min(before, after) > 0:
            return resample_abs_pos_embed(table, [after, after], old_size=[before, before], num_prefix_tokens=prefix)
    return None
