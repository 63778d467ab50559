"""The release's edge image in whole numbers on the device, all images at once: the same bytes as OpenCV's, which works on the host.

Blur and Canny follow OpenCV's arithmetic, not only its idea: weights of the blur in 256ths, the magnitude |dx| + |dy|, directions told
apart by tan 22.5 degrees in 2^-15. Sums of slices, not convolutions, which an accelerator may round.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BLUR = (28, 61, 78, 61, 28)
"""Five weights of sigma 1.4, in 256ths."""
SMOOTH, DIFFERENCE = (1, 2, 1), (-1, 0, 1)
LOW, HIGH = 100, 200
TANGENT = 13573
"""Of 22.5 degrees, times 2^15."""
CHECK_EVERY = 8  # steps of growth between looking whether anything still grows, which waits for the device


def release_edge_images(pictures: Tensor) -> Tensor:
    """Images `[B, 3, H, W]` of whole numbers in 0..255, RGB, to the release's edge images of the same shape and range, BGR."""
    planes = pictures.flip(1).flatten(0, 1)[:, None].float()
    blurred = blur(planes)
    overlaid = 0.7 * blurred.float() + 0.3 * (255.0 * canny(blurred).float())
    return overlaid.round().clamp(0, 255).view_as(pictures)


def blur(planes: Tensor) -> Tensor:
    """Planes `[N, 1, H, W]` of whole numbers in 0..255, float, blurred 5x5; int32."""
    padded = F.pad(planes, (2, 2, 2, 2), mode="reflect").int()
    return (_sum(_sum(padded, BLUR, 3), BLUR, 2) + 2**15) >> 16


def canny(planes: Tensor) -> Tensor:
    """Edges, true or false, of planes `[N, 1, H, W]` of whole numbers in 0..255."""
    padded = F.pad(planes.float(), (1, 1, 1, 1), mode="replicate").int()
    dx = _sum(_sum(padded, DIFFERENCE, 3), SMOOTH, 2)
    dy = _sum(_sum(padded, SMOOTH, 3), DIFFERENCE, 2)
    magnitude = dx.abs() + dy.abs()
    edge = _is_ridge(magnitude, dx, dy) & (magnitude > LOW)
    return _grown(edge & (magnitude > HIGH), edge)


def _sum(padded: Tensor, weights: Sequence[int], dimension: int) -> Tensor:
    """The weighted sum of neighbours along a dimension, which gets shorter by what was padded."""
    length = padded.shape[dimension] - len(weights) + 1
    parts = [weight * padded.narrow(dimension, start, length) for start, weight in enumerate(weights) if weight]
    return torch.stack(parts).sum(0, dtype=torch.int32)


def _is_ridge(magnitude: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Where the magnitude is the largest along the gradient; of two equal neighbours the second one along an axis counts."""
    height, width = magnitude.shape[-2:]
    padded = F.pad(magnitude, (1, 1, 1, 1))

    def beside(down: int, right: int) -> Tensor:
        return padded[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    across = dx.abs() * TANGENT
    steep = dy.abs() << 15
    horizontal = (magnitude > beside(0, -1)) & (magnitude >= beside(0, 1))
    vertical = (magnitude > beside(-1, 0)) & (magnitude >= beside(1, 0))
    falling = (magnitude > beside(-1, -1)) & (magnitude > beside(1, 1))
    rising = (magnitude > beside(-1, 1)) & (magnitude > beside(1, -1))
    diagonal = _either((dx ^ dy) < 0, rising, falling)
    is_vertical = steep > across + (dx.abs() << 16)
    return _either(steep < across, horizontal, _either(is_vertical, vertical, diagonal))


def _either(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`torch.where` of booleans, for which onnxruntime has none."""
    return (condition & yes) | (~condition & no)


def _grown(strong: Tensor, edge: Tensor) -> Tensor:
    """All edges that are connected, over corners too, with a strong one."""
    candidates = edge.float()

    def steps(before: Tensor, grown: Tensor) -> tuple[Tensor, Tensor]:
        before = grown.clone()
        for _ in range(CHECK_EVERY):
            grown = F.max_pool2d(grown, 3, stride=1, padding=1) * candidates
        return before, grown

    def still_growing(before: Tensor, grown: Tensor) -> Tensor:
        return (grown != before).any()

    state = (torch.zeros_like(candidates), strong.float())
    if torch.compiler.is_exporting():
        return torch.while_loop(still_growing, steps, state)[1] > 0
    while still_growing(*state):
        state = steps(*state)
    return state[1] > 0
