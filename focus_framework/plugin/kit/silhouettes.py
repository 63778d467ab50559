"""Outlines of things, for practice images: lists of polygons in a unit box, y down, feet at y = 0.5."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Polygon: TypeAlias = "NDArray[np.floating[Any]]"
Silhouette: TypeAlias = "list[Polygon]"
"""Polygons `[n, 2]` (x, y); what any of them covers belongs to the thing."""


def ellipse(centre: ArrayLike, radii: Sequence[float], angle: float = 0.0) -> Polygon:
    """A turned ellipse of 32 points."""
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    x, y = radii[0] * np.cos(turn), radii[1] * np.sin(turn)
    turned = np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], axis=1)
    return np.asarray(centre) + turned


def limb(points: Sequence[ArrayLike] | NDArray[Any], widths: ArrayLike) -> Polygon:
    """A bent strip through `points` `[n, 2]` that is as wide at each as `widths` `[n]` says."""
    line, width = np.asarray(points, float), np.asarray(widths, float)
    direction = np.gradient(line, axis=0)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1) / (np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9)
    side = normal * width[:, None] / 2
    return np.concatenate([line + side, (line - side)[::-1]])


def blob(random: np.random.Generator) -> Silhouette:
    """A smooth closed curve: a circle with a few waves of the radius."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.ones_like(turn)
    for wave in range(2, 7):
        radius += random.normal(0, 0.35 / wave) * np.sin(wave * turn + random.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.25, None) * 0.4
    return [np.stack([radius * np.cos(turn) * random.uniform(0.7, 1.2), radius * np.sin(turn)], axis=1)]


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
    for place in (-0.85, -0.6, 0.55, 0.8):
        knee, foot = place * length + random.normal(0, 0.03), place * length + random.normal(0, 0.05)
        parts.append(limb([(place * length, body_y), (knee, (body_y + 0.5) / 2), (foot, 0.5)], [leg * 1.6, leg, leg * 0.8]))
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
    for side in (-1, 1):
        elbow = (side * (width / 2 + random.uniform(0, 0.1)), shoulder + 0.17)
        hand = (elbow[0] + random.uniform(-0.1, 0.12) * side, hip + random.uniform(-0.25, 0.05))
        parts.append(limb([(side * width * 0.4, shoulder + 0.03), elbow, hand], [0.07, 0.055, 0.04]))
        foot = side * random.uniform(0.02, 0.16)
        parts.append(limb([(side * width * 0.22, hip - 0.03), (foot * 0.7, 0.27), (foot, 0.5)], [0.11, 0.08, 0.06]))
    return parts


def plant(random: np.random.Generator) -> Silhouette:
    """A bent stem with pointed leaves on both sides."""
    bend, sway = random.normal(0, 0.15), np.linspace(0, 1, 8)
    stem = np.stack([bend * sway**2, 0.5 - sway], axis=1)
    parts = [limb(stem, np.linspace(0.05, 0.02, 8))]
    for start in random.uniform(0.15, 1, random.integers(4, 10)):
        root = np.array([bend * start**2, 0.5 - start])
        angle, length = random.choice([-1, 1]) * random.uniform(0.3, 1.4), random.uniform(0.2, 0.4)
        along = np.linspace(0, 1, 7)[:, None] * length * [np.sin(angle), -np.cos(angle)]
        droop = np.linspace(0, 1, 7) ** 2 * random.uniform(0, 0.15)
        parts.append(
            limb(
                root + along + np.stack([0 * droop, droop], axis=1),
                random.uniform(0.06, 0.13) * np.array([0.2, 0.7, 1, 1, 0.8, 0.4, 0]),
            )
        )
    return parts


def tree(random: np.random.Generator) -> Silhouette:
    """A trunk, and a crown of clumps."""
    parts = [limb([(0, 0.5), (random.normal(0, 0.03), 0.1), (0, -0.2)], [0.1, 0.06, 0.04])]
    for _ in range(random.integers(5, 11)):
        centre = np.array([0, -0.18]) + random.normal(0, 0.13, 2)
        parts.append(blob(random)[0] * random.uniform(0.25, 0.5) + centre)
    return parts


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
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * scale
    mirror = np.array([-1.0 if flip else 1.0, 1.0])
    return [part * mirror @ turn + np.asarray(centre) for part in silhouette]


def draw(silhouette: Silhouette, size: int) -> NDArray[np.float32]:
    """Coverage `[size, size]` in 0..1 of a silhouette placed in the unit square, with smooth edges."""
    canvas = np.zeros((size, size), np.uint8)
    for part in silhouette:
        corners = np.round(np.clip((part * size - 0.5) * 16, -(2**20), 2**20)).astype(np.int32)  # 4 fractional bits
        cv2.fillPoly(canvas, [corners], 255, lineType=cv2.LINE_AA, shift=4)
    return canvas.astype(np.float32) / np.float32(255)
