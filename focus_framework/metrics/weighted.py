"""The weighted F-measure: errors count by where they lie and by what lies around them.

Source: Margolin et al., "How to Evaluate Foreground Maps?", CVPR 2014, beta = 1. Equal to ``WeightedFmeasure`` of
PySODMetrics 1.6 on the map stretched to its minimum and maximum; an empty truth scores 0.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .maps import Maps, per_image
from .pairs import EPS, Pairs

RADIUS = 3
"""Half of the 7x7 window in which errors inside the foreground are smoothed."""
CORNER = RADIUS * math.sqrt(2)
"""From the middle of that window to its corner."""
SIGMA = 5.0
HALF_DISTANCE = 5.0
"""Pixels from the foreground at which the extra weight of a false positive has grown to a half."""
CHUNK = 1 << 16
"""Pixels whose nearest foreground is looked up at a time: bounds the memory, 60 places each."""


def weighted_f(probability: Maps, truth: Maps) -> Tensor:
    """The weighted F-measure of soft maps, `[B]` in 0..1, higher is better. PySODMetrics: ``wfm``."""
    return per_image(of_pairs, probability, truth)


def of_pairs(pairs: Pairs) -> Tensor:
    truth = pairs.truth.double()
    distance = _distance(pairs.truth)
    error = (pairs.normalised - truth).abs_()
    smooth = _smooth(_with_error_of_nearest_foreground(error, pairs.truth, distance))
    inside = torch.minimum(error, smooth).mul_(truth).sum((1, 2))
    # The weight of a false positive is 1 beside the foreground and nearly 2 far from it.
    weight = 2 - torch.exp2(distance / -HALF_DISTANCE)
    outside = error.masked_fill_(pairs.truth, 0).mul_(weight).sum((1, 2))
    true_positives = pairs.foreground - inside
    recall = 1 - inside / pairs.foreground
    precision = true_positives / (true_positives + outside + EPS)
    score = 2 * recall * precision / (recall + precision + EPS)
    return score.masked_fill(pairs.foreground == 0, 0)


def _distance(truth: Tensor) -> Tensor:
    """Pixels from each pixel to the nearest foreground `[B, H, W]`, float32.

    The exact transform is OpenCV's, on the CPU; it depends on the truth alone.
    """
    background = (~truth).to("cpu", torch.uint8).numpy()
    distance = np.stack([cv2.distanceTransform(image, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for image in background])
    return torch.from_numpy(distance).to(truth.device)


def _with_error_of_nearest_foreground(error: Tensor, truth: Tensor, distance: Tensor) -> Tensor:
    """The errors, padded by `RADIUS`, where background takes over the error of the nearest foreground pixel.

    Only background within the smoothing window of some foreground is read later, and only that is looked up. Of several
    nearest pixels scipy's transform takes the leftmost, then the topmost one; the order of `_neighbours` does so.
    """
    near = (distance > 0) & (distance < CORNER + 0.01)
    margin = 2 * RADIUS  # so that all neighbours of a pixel at the border have a place
    padded, error, near = (F.pad(x, (margin,) * 4) for x in (truth, error, near))
    places = near.flatten().nonzero().squeeze(1)
    neighbours = torch.tensor([dy * padded.shape[2] + dx for dy, dx in _neighbours()], device=truth.device)
    flat_truth, flat_error = padded.flatten(), error.flatten()
    found = torch.empty_like(places)
    for start in range(0, len(places), CHUNK):
        candidates = places[start : start + CHUNK, None] + neighbours
        first = flat_truth[candidates].to(torch.uint8).argmax(1, keepdim=True)
        found[start : start + CHUNK] = candidates.gather(1, first).squeeze(1)
    flat_error[places] = flat_error[found]
    trim = margin - RADIUS
    return flat_error.view_as(error)[:, trim:-trim, trim:-trim]


def _neighbours() -> list[tuple[int, int]]:
    """Offsets (row, column) by distance, then column, then row: all that can be nearest from within the window."""
    reach = math.isqrt(2 * RADIUS**2)
    offsets = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1) if y * y + x * x <= 2 * RADIUS**2]
    return sorted(offsets, key=lambda offset: (offset[0] ** 2 + offset[1] ** 2, offset[1], offset[0]))


def _smooth(padded: Tensor) -> Tensor:
    """A Gaussian of 7x7 pixels over errors `[B, H + 6, W + 6]`, row by row and column by column, to `[B, H, W]`."""
    steps = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64)
    kernel = torch.exp(-steps.square() / (2 * SIGMA**2))
    for dim in (2, 1):
        length = padded.shape[dim] - 2 * RADIUS
        smooth = torch.zeros_like(padded.narrow(dim, 0, length))
        for start, weight in enumerate((kernel / kernel.sum()).tolist()):
            smooth.add_(padded.narrow(dim, start, length), alpha=weight)
        padded = smooth
    return padded
