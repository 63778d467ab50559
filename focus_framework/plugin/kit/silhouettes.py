"""Outlines of things, for practice images: lists of polygons in a unit box, y down, feet at y = 0.5."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

TURN = np.linspace(0, 2 * np.pi, 64, endpoint=False)
ROUND = np.stack([np.cos(TURN), np.sin(TURN)], axis=1)
CIRCLE = ROUND[::2]
WAVES = np.arange(2.0, 7.0)
"""Waves around a blob."""

Polygon: TypeAlias = "NDArray[np.floating[Any]]"
Silhouette: TypeAlias = "list[Polygon]"
"""Polygons `[n, 2]` (x, y); what any of them covers belongs to the thing."""


def ellipse(centre: ArrayLike, radii: Sequence[float], angle: float = 0.0) -> Polygon:
    """A turned ellipse of 32 points."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.asarray(centre) + CIRCLE @ [[radii[0] * cosine, radii[0] * sine], [-radii[1] * sine, radii[1] * cosine]]


def limb(points: Sequence[ArrayLike] | NDArray[Any], widths: ArrayLike) -> Polygon:
    """A bent strip through `points` `[n, 2]` that is as wide at each as `widths` `[n]` says."""
    return limbs(np.asarray(points, float)[None], widths)[0]


def limbs(points: ArrayLike, widths: ArrayLike) -> list[Polygon]:
    """Several limbs at once, through `points` `[m, n, 2]`, of `widths` `[n]` or `[m, n]`."""
    lines = np.asarray(points, float)
    direction = np.empty_like(lines)  # np.gradient is slow for so few points
    direction[:, 1:-1] = lines[:, 2:] - lines[:, :-2]
    direction[:, 0], direction[:, -1] = lines[:, 1] - lines[:, 0], lines[:, -1] - lines[:, -2]
    side = direction[..., ::-1] * [-0.5, 0.5]
    side *= (np.asarray(widths, float) / (np.hypot(direction[..., 0], direction[..., 1]) + 1e-9))[..., None]
    return list(np.concatenate([lines + side, (lines - side)[:, ::-1]], axis=1))


def blob(random: np.random.Generator) -> Silhouette:
    """A smooth closed curve: a circle with a few waves of the radius."""
    return list(_blobs(random, 1))


def _blobs(random: np.random.Generator, count: int) -> Polygon:
    """So many smooth closed curves `[count, 64, 2]`."""
    heights = 0.35 / WAVES * random.standard_normal((count, len(WAVES)))
    shifts = random.uniform(0, 2 * np.pi, (count, len(WAVES)))
    radius = 1 + np.einsum("nw,nwp->np", heights, np.sin(WAVES[:, None] * TURN + shifts[..., None]))
    stretch = np.stack([random.uniform(0.7, 1.2, count), np.ones(count)], axis=1)
    return 0.4 * np.maximum(radius, 0.25)[..., None] * ROUND * stretch[:, None]


def polygon(random: np.random.Generator) -> Silhouette:
    """Three to seven corners around the centre."""
    corners = random.integers(3, 8)
    turn = (np.arange(corners) + random.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners + random.uniform(0, 6)
    radius = random.uniform(0.3, 0.55, corners)
    return [np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)]


def animal(random: np.random.Generator) -> Silhouette:
    """Four legs, a body, neck, head with ears or snout, and a tail."""
    body_y, length, girth = random.uniform(-0.1, 0.1), random.uniform(0.22, 0.32), random.uniform(0.1, 0.18)
    head = np.array([length + random.uniform(0.05, 0.12), body_y - random.uniform(0.0, 0.28)])
    size, leg = random.uniform(0.06, 0.1), random.uniform(0.04, 0.08)
    parts = [
        ellipse((0, body_y), (length, girth), random.normal(0, 0.08)),
        ellipse(head, (size * 1.3, size), random.normal(0.2, 0.3)),
    ]
    parts.append(limb([(length * 0.6, body_y - girth * 0.3), (length * 0.95, (body_y + head[1]) / 2), head], [girth, girth * 0.7, size]))
    hips = length * np.array([-0.85, -0.6, 0.55, 0.8])
    across = hips[:, None] + [0, 0.03, 0.05] * random.standard_normal((4, 3))
    down = np.broadcast_to([body_y, (body_y + 0.5) / 2, 0.5], (4, 3))
    parts += limbs(np.stack([across, down], axis=2), [leg * 1.6, leg, leg * 0.8])
    tip = (-length - random.uniform(0.1, 0.22), body_y + random.uniform(-0.3, 0.25))
    parts.append(limb([(-length * 0.8, body_y), (-length - 0.08, body_y - 0.05), tip], [0.06, 0.04, 0.02]))
    ear = size * np.array([(-0.4, -0.5), (0.3, -0.4), (random.uniform(-0.7, 0.1), -random.uniform(1.1, 2.2))])
    parts.append(head + ear)
    return parts


def person(random: np.random.Generator) -> Silhouette:
    """Somebody standing or walking."""
    hip, shoulder, head = 0.05, -0.27, -0.42
    parts = [ellipse((random.normal(0, 0.015), head), (0.055, 0.075))]
    width = random.uniform(0.15, 0.22)
    parts.append(limb([(0, head), (0, shoulder - 0.04), (0, shoulder + 0.02), (0, hip)], [0.05, 0.09, width, width * 0.8]))
    arms, legs = [], []
    for side in (-1, 1):
        elbow = (side * (width / 2 + random.uniform(0, 0.1)), shoulder + 0.17)
        hand = (elbow[0] + random.uniform(-0.1, 0.12) * side, hip + random.uniform(-0.25, 0.05))
        arms.append([(side * width * 0.4, shoulder + 0.03), elbow, hand])
        foot = side * random.uniform(0.02, 0.16)
        legs.append([(side * width * 0.22, hip - 0.03), (foot * 0.7, 0.27), (foot, 0.5)])
    return [*parts, *limbs(arms, [0.07, 0.055, 0.04]), *limbs(legs, [0.11, 0.08, 0.06])]


def plant(random: np.random.Generator) -> Silhouette:
    """A bent stem with pointed leaves on both sides."""
    bend, sway = random.normal(0, 0.15), np.linspace(0, 1, 8)
    stem = np.stack([bend * sway**2, 0.5 - sway], axis=1)
    parts = [limb(stem, np.linspace(0.05, 0.02, 8))]
    count = int(random.integers(4, 10))
    start, length, droop = random.uniform(0.15, 1, (count, 1)), random.uniform(0.2, 0.4, (count, 1)), random.uniform(0, 0.15, (count, 1))
    angle = random.choice([-1, 1], (count, 1)) * random.uniform(0.3, 1.4, (count, 1))
    along = np.linspace(0, 1, 7)
    x, y = bend * start**2 + along * length * np.sin(angle), 0.5 - start - along * length * np.cos(angle) + along**2 * droop
    leaves = limbs(np.stack([x, y], axis=2), random.uniform(0.06, 0.13, (count, 1)) * [0.2, 0.7, 1, 1, 0.8, 0.4, 0])
    return [*parts, *leaves]


def tree(random: np.random.Generator) -> Silhouette:
    """A trunk, and a crown of clumps."""
    parts = [limb([(0, 0.5), (random.normal(0, 0.03), 0.1), (0, -0.2)], [0.1, 0.06, 0.04])]
    count = int(random.integers(5, 11))
    clumps = _blobs(random, count) * random.uniform(0.25, 0.5, (count, 1, 1)) + random.normal((0, -0.18), 0.13, (count, 1, 2))
    return [*parts, *clumps]


def vessel(random: np.random.Generator) -> Silhouette:
    """A turned body: vase, bottle, lamp, mushroom."""
    height = np.linspace(-0.5, 0.5, 24)
    knots = random.uniform(0.06, 0.36, random.integers(4, 7))
    profile = np.interp(height, np.linspace(-0.5, 0.5, len(knots)), knots)
    radius = np.convolve(np.pad(profile, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    return [np.concatenate([np.stack([radius, height], axis=1), np.stack([-radius, height], axis=1)[::-1]])]


SILHOUETTES: tuple[Callable[[np.random.Generator], Silhouette], ...] = (blob, polygon, animal, person, plant, tree, vessel)
BULKY = (blob, polygon, animal, tree, vessel)
"""Those that are nowhere so thin that a mask of a quarter of the image's size loses most of them."""


def any_silhouette(random: np.random.Generator, *, bulky: bool = False) -> Silhouette:
    """One of all kinds, or of the bulky ones."""
    kinds = BULKY if bulky else SILHOUETTES
    return kinds[random.integers(len(kinds))](random)


def place(silhouette: Silhouette, *, centre: ArrayLike, scale: float, angle: float = 0.0, flip: bool = False) -> Silhouette:
    """The silhouette turned by `angle` (radians), `scale` high, around `centre` (x, y in 0..1 of the image)."""
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    turn = np.array([[-cosine, -sine] if flip else [cosine, sine], [-sine, cosine]])
    middle = np.asarray(centre)
    return [part @ turn + middle for part in silhouette]


def draw(silhouette: Silhouette, size: int) -> NDArray[np.float32]:
    """Coverage `[size, size]` in 0..1 of a silhouette placed in the unit square, with smooth edges."""
    canvas = np.zeros((size, size), np.uint8)
    fill(canvas, silhouette, 255)
    return canvas * np.float32(1 / 255)


def fill(image: NDArray[np.uint8], silhouette: Silhouette, value: int) -> None:
    """Write `value` into a square `[H, H]` or `[H, H, 3]` wherever a silhouette placed in the unit square covers it."""
    if not silhouette:
        return
    scaled = (np.concatenate(silhouette) * len(image) - 0.5) * 16  # 4 fractional bits
    corners = np.rint(np.clip(scaled, -(2**20), 2**20)).astype(np.int32)
    end = 0
    for part in silhouette:  # one by one: fillPoly leaves out what an even number of them covers
        start, end = end, end + len(part)
        cv2.fillPoly(image, [corners[start:end]], (value, value, value), lineType=cv2.LINE_AA, shift=4)
