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
SIGMA = 5.0
FARTHEST = 2 * RADIUS**2
"""The squared distance from the middle of that window to its corner."""
HALF_DISTANCE = 5.0
"""Pixels from the foreground at which the extra weight of a false positive has grown to a half."""


def weighted_f(probability: Maps, truth: Maps) -> Tensor:
    """The weighted F-measure of soft maps, `[B]` in 0..1, higher is better. PySODMetrics: ``wfm``."""
    return per_image(of_pairs, probability, truth)


def of_pairs(pairs: Pairs) -> Tensor:
    # Where map and truth are both 0 there is no error: all that counts lies in a box, often a small one, and the margin that the
    # smoothing of errors at its border looks at.
    marked = (pairs.normalised.amax(dim) for dim in (2, 1))
    box = _box(*((one > 0) | (profile > 0) for one, profile in zip(marked, pairs.profiles, strict=True)))
    # Two sums over pixels are made on the CPU, where the exact distance transform is.
    truth, values = pairs.truth[box].cpu(), pairs.normalised[box].cpu()
    squared = _squared_distance(truth)
    # The box of the foreground alone, within that.
    inner = _box(*(profile[:, part] > 0 for profile, part in zip(pairs.profiles, box[1:], strict=True)))
    true_positives = pairs.foreground - _error_inside(values[inner], truth[inner], squared[inner]).to(pairs.foreground)
    recall = true_positives / pairs.foreground
    # A false positive weighs 2 - fade, 1 beside the foreground and nearly 2 far from it. In the background the error is the map
    # itself, and its plain sum is known; in the foreground fade is 1, so that those pixels are taken off once more.
    distance = torch.from_numpy(np.sqrt(squared.numpy()))  # torch's is many times as slow at zeros
    fade = distance.div_(-HALF_DISTANCE).exp2_().double().flatten(1)
    near = torch.einsum("bn,bn->b", values.flatten(1), fade).to(pairs.foreground)
    background, foreground = pairs.moments[1].sum(2).unbind(1)
    false_positives = 2 * background + foreground - near
    precision = true_positives / (true_positives + false_positives + EPS)
    score = 2 * recall * precision / (recall + precision + EPS)
    return score.masked_fill(pairs.foreground == 0, 0)


def _box(rows: Tensor, columns: Tensor) -> tuple[slice, slice, slice]:
    """The smallest part of a batch that has all marked rows `[B, H]` and columns `[B, W]`, and `RADIUS` pixels around it."""

    def reach(marked: Tensor) -> slice:
        places = marked.any(0).nonzero()
        return slice(max(int(places[0]) - RADIUS, 0), int(places[-1]) + RADIUS + 1) if len(places) else slice(0, 1)

    return slice(None), reach(rows), reach(columns)


def _squared_distance(truth: Tensor) -> Tensor:
    """The squared distance in pixels from each pixel to the nearest foreground `[B, H, W]`, whole numbers in float32.

    The exact transform is OpenCV's; it depends on the truth alone. The last bits of its square roots depend on where the result lies
    in memory, hence the rounding.
    """
    background = truth.logical_not().view(torch.uint8).numpy()
    batch, height, width = background.shape
    # It goes down the columns: rows that lie a power of two apart would all want the same few places of the processor's cache.
    distance = np.empty((batch, height, width + 16), np.float32)[..., :width]
    for image, its_distance in zip(background, distance, strict=True):
        cv2.distanceTransform(image, cv2.DIST_L2, cv2.DIST_MASK_PRECISE, dst=its_distance)
    return torch.from_numpy(distance).square().round_()


def _error_inside(values: Tensor, truth: Tensor, squared: Tensor) -> Tensor:
    """The sum of errors in the foreground `[B]`, each at most what it is when smoothed with those around it."""
    inside = truth.float()
    error = (values.float() - inside).abs_()
    smooth = _smooth(_with_error_of_nearest_foreground(error, truth, squared))
    return torch.minimum(error, smooth).mul_(inside).sum((1, 2), dtype=torch.float64)


def _with_error_of_nearest_foreground(error: Tensor, truth: Tensor, squared: Tensor) -> Tensor:
    """The errors, padded by `RADIUS`, where background takes over the error of the nearest foreground pixel: for one image, what

        rows, columns = scipy.ndimage.distance_transform_edt(~truth, return_distances=False, return_indices=True)
        error = np.where(truth, error, error[rows, columns])

    gives wherever it is read (a test compares them), in a fraction of the time.
    Only background within the smoothing window of some foreground is read later, and only that is looked up, at the squared distance
    that is known. Of several nearest pixels scipy's transform takes the leftmost, then the topmost one; so does `_rings`.
    """
    margin = 2 * RADIUS  # so that all neighbours of a pixel at the border have a place
    truth, error, squared = (F.pad(x, (margin,) * 4) for x in (truth, error, squared))
    mask, flat, distance = truth.flatten(), error.flatten(), squared.flatten()
    places = _places((distance <= FARTHEST) & (distance > 0))
    ring = distance.index_select(0, places).int()
    # index_select is several times as fast as indexing with brackets, and a maximum as a choice by where.
    for steps in _rings(truth.shape[2]):
        part = _places(steps.any(0).index_select(0, ring))
        its_places, its_ring = places.index_select(0, part), ring.index_select(0, part)
        last = torch.zeros(len(part), dtype=torch.uint8)  # of the steps, the last one that leads to foreground
        for number, step in enumerate(steps[1:], 1):
            there = mask.index_select(0, its_places + step.index_select(0, its_ring))
            last = torch.maximum(last, there.view(torch.uint8) * number)
        nearest = its_places + steps.flatten().index_select(0, its_ring.add_(last, alpha=FARTHEST + 1))
        flat.scatter_(0, its_places, flat.index_select(0, nearest))
    trim = margin - RADIUS
    return flat.view_as(error)[:, trim:-trim, trim:-trim]


def _places(marked: Tensor) -> Tensor:
    """Where a mask `[N]` is true; numpy finds it several times as quickly as torch."""
    return torch.from_numpy(np.flatnonzero(marked.numpy()))


def _rings(width: int) -> list[Tensor]:
    """The steps in memory to the pixels at each squared distance up to `FARTHEST`, for distances with 4 such pixels `[4, 19]` and for
    those with 8 `[8, 19]`, in the reverse of the order in which the nearest is chosen: by column, then by row. Other distances have zeros.
    """
    reach = math.isqrt(FARTHEST)
    rings: list[list[int]] = [[] for _ in range(FARTHEST + 1)]
    for x in range(-reach, reach + 1):
        for y in range(-reach, reach + 1):
            if x * x + y * y <= FARTHEST:
                rings[x * x + y * y].append(y * width + x)
    return [torch.tensor([ring[::-1] if len(ring) == size else [0] * size for ring in rings]).t().contiguous() for size in (4, 8)]


def _smooth(padded: Tensor) -> Tensor:
    """A Gaussian of 7x7 pixels over errors `[B, H + 6, W + 6]`, to `[B, H, W]`."""
    kernel = cv2.getGaussianKernel(2 * RADIUS + 1, SIGMA, cv2.CV_32F)
    inside = slice(RADIUS, -RADIUS)
    return torch.from_numpy(np.stack([cv2.sepFilter2D(image, -1, kernel, kernel)[inside, inside] for image in padded.numpy()]))
