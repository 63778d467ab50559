"""Practice images out of photographs: for each task a way to make its cue from two images with the masks of things in them.

``first`` and ``second`` are examples: an image `[H, W, 3]` uint8 RGB and its mask `[H, W]` bool. Light is mixed and blurred in
linear values, as `focus_framework.plugin.kit.practice` does.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from focus_framework.plugin.kit import PracticePair
from focus_framework.plugin.kit.practice import blur, jpeg, mix, of_fair_share

Random: TypeAlias = np.random.Generator
Array: TypeAlias = NDArray[np.float32]
SOFT_EDGE = 0.7
"""Pixels by which the edge of a cut-out is blurred, as wide as a lens leaves it."""
THIN = (0.003, 0.8)
"""The part of an image that a thing covers: somebody's things may be cracks or ropes."""


def salient(random: Random, size: int, first: PracticePair, second: PracticePair) -> PracticePair:
    """The first's thing, large, on the second's ground."""
    ground = empty_ground(random, *second, size)
    colours, coverage = paste(random, *first, size, scale=(0.5, 0.95))
    return developed(mix(ground, colours, coverage)), coverage > 0.5


def camouflage(random: Random, size: int, first: PracticePair, second: PracticePair) -> PracticePair:
    """The first's thing on the second's ground, in its colours and pattern; its own shading, faint, is what is left of it."""
    ground = empty_ground(random, *second, size)
    colours, coverage = paste(random, *first, size, scale=(0.35, 0.8))
    inside = coverage > 0.5
    mirrored = np.concatenate([ground, ground[::-1]])
    top, left = random.integers(0, size, 2)
    skin = np.concatenate([mirrored, mirrored[:, ::-1]], axis=1)[top : top + size, left : left + size]
    wanted = blur(ground, size * 0.06)
    skin = np.clip(skin + wanted - blur(skin, size * 0.06), 0.001, 1)  # the pattern of elsewhere, the colours of here
    shade = colours.mean(axis=2)
    relief = np.clip(shade / max(float(shade[inside].mean()), 0.02), 0.3, 2.5) ** random.uniform(0.25, 0.5)
    relief /= relief[inside].mean()
    return developed(mix(ground, skin * relief[..., None], coverage)), inside


def defocus(random: Random, size: int, first: PracticePair, second: PracticePair) -> PracticePair:
    """The first image with a shallow depth of field: all but its thing is out of focus. It should be sharp all over."""
    light, inside = frame(random, *first, size)
    coverage = blur(inside.astype(np.float32), SOFT_EDGE)
    behind = blur(filled(light, inside), size * random.uniform(0.015, 0.045))
    grain = random.uniform(0.004, 0.015) * random.standard_normal(light.shape, dtype=np.float32)  # blur has wiped it out behind
    return developed(mix(behind, light, coverage), grain), inside


def shadow(random: Random, size: int, first: PracticePair, second: PracticePair) -> PracticePair:
    """The shadow of the first's thing, standing outside the image, on the second's ground."""
    ground = empty_ground(random, *second, size)
    outline = cut_out(*first)[1]
    cut = bool(first[1][-1].any())
    cast = of_fair_share(lambda: thrown(random, outline, size, foot_outside=cut), shares=THIN, attempts=200)
    far = np.linspace(1, 0, size, dtype=np.float32)[:, None]  # the foot is below, and what is far from it is softer
    softness = size * random.uniform(0.01, 0.03)
    cast = mix(blur(cast, 0.25 * softness)[..., None], blur(cast, softness)[..., None], np.broadcast_to(far, cast.shape))[..., 0]
    sky = random.uniform(0.12, 0.4) * np.array([0.85, 0.95, 1.15], np.float32)  # what still comes from the sky, which is blue
    return developed(ground * (1 - cast[..., None] * (1 - sky))), cast > 0.5


def forgery(random: Random, size: int, first: PracticePair, second: PracticePair) -> PracticePair:
    """The first's thing spliced into the second image, with another history of grain and compression, or (a quarter) the same."""
    host = developed(frame(random, *second, size)[0])
    colours, coverage = paste(random, *first, size, scale=(0.25, 0.7))
    donor = developed(colours)
    history = random.choice(["compressed", "grainy", "smooth", "same"])
    if history == "compressed":
        donor = jpeg(donor, int(random.integers(35, 70)))
    elif history == "grainy":
        donor = developed(colours, random.uniform(0.02, 0.05) * random.standard_normal(colours.shape, dtype=np.float32))
    elif history == "smooth":
        donor = np.asarray(cv2.medianBlur(donor, 3), np.uint8)
    if random.random() < 0.5:
        host = jpeg(host, int(random.integers(80, 98)))
    spliced = np.rint(mix(host.astype(np.float32), donor.astype(np.float32), coverage)).astype(np.uint8)
    return spliced if random.random() < 0.5 else jpeg(spliced, int(random.integers(85, 98))), coverage > 0.5


def linear(image: NDArray[np.uint8]) -> Array:
    """Light of an image, 0 to 1, by the gamma of 2 of `practice.photograph`."""
    return np.square(image.astype(np.float32) / 255)


def developed(light: Array, grain: Array | float = 0.0) -> NDArray[np.uint8]:
    """The inverse of `linear`, with grain added in what the eye sees."""
    return np.clip(np.rint((np.sqrt(np.clip(light, 0, 1)) + grain) * 255), 0, 255).astype(np.uint8)


def resized(array: NDArray[np.generic], height: int, width: int) -> Array:
    """Float of another size, averaged where it shrinks."""
    shrinks = height * width < array.shape[0] * array.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.asarray(array, np.float32), (width, height), interpolation=method), np.float32)


def frame(random: Random, image: NDArray[np.uint8], mask: NDArray[np.bool_], size: int) -> tuple[Array, NDArray[np.bool_]]:
    """A square part of an image around its thing: linear light `[size, size, 3]` and the mask."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    largest = min(mask.shape)
    spans = [(int(at[0]), int(at[-1]) + 1) if len(at) else (0, length) for at, length in zip((rows, columns), mask.shape, strict=True)]
    side = min(largest, int(max(high - low for low, high in spans) * random.uniform(1.2, 2.2)) + 1)
    corner = []
    for (low, high), length in zip(spans, mask.shape, strict=True):
        at = (low + high) / 2 - side / 2 + random.uniform(-0.1, 0.1) * side
        corner.append(int(np.clip(at, 0, length - side)))
    part = np.s_[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
    return np.clip(resized(linear(image[part]), size, size), 0, 1), resized(mask[part], size, size) > 0.5


def filled(light: Array, inside: NDArray[np.bool_]) -> Array:
    """The image without its thing: the hole takes the mean of what surrounds it, from coarse to fine."""
    hole = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    weight = (~hole).astype(np.float32)
    out = np.where(hole[..., None], light[~hole].mean(axis=0) if (~hole).any() else 0.5, light).astype(np.float32)
    for sigma in (len(light) / d for d in (6, 12, 24, 48)):
        near = blur(weight, sigma)
        around = blur(light * weight[..., None], sigma) / np.maximum(near, 1e-6)[..., None]
        known = np.where(hole, np.clip(near / 0.3, 0, 1), 0)[..., None]  # little by little, so that no line shows where it ends
        out = out + (around - out) * known
    return out


def empty_ground(random: Random, image: NDArray[np.uint8], mask: NDArray[np.bool_], size: int) -> Array:
    """Linear light `[size, size, 3]` of a square part without thing, as large as can be; the thing is filled in where all are small."""
    sums = np.pad(np.cumsum(np.cumsum(mask, axis=0, dtype=np.int64), axis=1), ((1, 0), (1, 0)))
    for side in (int(min(mask.shape) * share) for share in (1, 0.8, 0.65, 0.5, 0.4, 0.3)):
        if side < size // 4:
            break  # so few pixels would look blurred
        count = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        free = np.argwhere(count == 0)
        if len(free):
            top, left = free[random.integers(len(free))]
            return np.clip(resized(linear(image[top : top + side, left : left + side]), size, size), 0, 1)
    return filled(*frame(random, image, mask, size))


def cut_out(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The part of an image that its thing spans; all of it where there is none."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return image, np.ones_like(mask)
    if min(len(rows), len(columns)) > 40:  # its rim has the colours of the ground it came from
        mask = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1) > 0
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return image[part], mask[part]


def paste(
    random: Random, image: NDArray[np.uint8], mask: NDArray[np.bool_], size: int, *, scale: tuple[float, float]
) -> tuple[Array, Array]:
    """A thing on an empty square, at the edge where the edge of its own image cut it off: linear light `[size, size, 3]` and
    coverage `[size, size]`, 0 to 1."""
    if random.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    cut = {"left": mask[:, 0].any(), "right": mask[:, -1].any(), "top": mask[0].any(), "bottom": mask[-1].any()}
    thing, outline = cut_out(image, mask)
    light = linear(thing)

    def placed() -> Array:
        factor = random.uniform(*scale) * size / max(outline.shape)
        height, width = (min(max(round(side * factor), 4), size) for side in outline.shape)
        top, left = (int(random.integers(0, max(size - side, 0) + 1)) for side in (height, width))
        top = size - height if cut["bottom"] else 0 if cut["top"] else top
        left = size - width if cut["right"] else 0 if cut["left"] else left
        canvas[:], coverage = 0, np.zeros((size, size), np.float32)
        coverage[top : top + height, left : left + width] = resized(outline, height, width)
        canvas[top : top + height, left : left + width] = resized(light, height, width)
        return np.clip(blur(coverage, SOFT_EDGE), 0, 1)

    canvas = np.zeros((size, size, 3), np.float32)
    coverage = of_fair_share(placed, shares=THIN)
    return np.clip(canvas, 0, 1), coverage


def thrown(random: Random, outline: NDArray[np.bool_], size: int, *, foot_outside: bool) -> Array:
    """An outline laid on the ground by low light: sheared and stretched, its foot at or behind the lower or the upper edge,
    `[size, size]`."""
    height, width = outline.shape
    across = size * random.uniform(0.35, 0.9) / max(width, height)
    along = across * random.uniform(0.8, 1.8) * random.choice([1, 1, -1])
    slant = random.uniform(-0.8, 0.8)
    edge = random.uniform(1.0 if foot_outside else 0.7, 1.3)
    foot = size * np.array([random.uniform(0.1, 0.9), edge if along > 0 else 1 - edge])
    matrix = np.array([[across, slant * along, 0], [0, along, 0]])
    matrix[:, 2] = foot - matrix[:, :2] @ [width / 2, height]
    return np.clip(cv2.warpAffine(outline.astype(np.float32), matrix, (size, size), flags=cv2.INTER_LINEAR), 0, 1)
