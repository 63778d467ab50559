"""Forged photographs of rendered scenes and photographed surfaces: splices, copies within an image, moved patches of texture."""

from __future__ import annotations

import math

import cv2
import numpy as np

from . import camera, engine, materials, places
from .assets import surfaces
from .bodies import any_body, standing
from .mesh import Array

FAINT = 10.0
"""Grey levels: where a patch differs by less from what it covers, nobody could find it."""


def _scene(random: np.random.Generator, size: int, *, share: float) -> tuple[Array, Array]:
    """Linear light `[size, size, 3]` of any scene and the mask `[size, size]` of what stands in it."""
    while True:
        body = standing(any_body(random), angle=random.uniform(0, 2 * math.pi))
        stage = engine.Stage(places.of_things(random, [body], share=share), size)
        seed = int(random.integers(2**31))
        seen = stage.seen(seed=seed)
        mask = seen.share(1) >= 0.5
        if 0.02 <= mask.mean() <= 0.6:
            return stage.light(seen, samples=4, seed=seed), mask


def history(random: np.random.Generator, light: Array) -> Array:
    """A photograph `[H, W, 3]` uint8 of linear light, with its own noise, sharpness and compression."""
    image = camera.photograph(random, light, noise=(0.001, 0.04), rough=False)
    for _ in range(int(random.choice([0, 1, 2], p=[0.3, 0.55, 0.15]))):
        image = camera.jpeg(image, int(random.integers(35, 98)))
    return image


def resized(random: np.random.Generator, image: Array, factor: float) -> Array:
    """The image at `factor` of its size, by any of the usual filters."""
    way = [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4][random.integers(4)]
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=int(way))


def pasted(random: np.random.Generator, host: Array, part: Array, mask: Array, *, soft: float) -> tuple[Array, Array]:
    """`part` laid over `host` where `mask` is, with an edge of `soft` pixels; the last file is saved once more, or not."""
    cover = mask.astype(np.float32)
    if soft > 0.2:
        cover = cv2.GaussianBlur(cover, (0, 0), soft)
    image = np.round(host + (part.astype(np.float32) - host) * cover[..., None]).astype(np.uint8)
    if random.random() < 0.75:
        image = camera.jpeg(image, int(random.integers(70, 99)))
    return image, cover > 0.5


def splice(random: np.random.Generator, size: int) -> tuple[Array, Array]:
    """A thing of one photograph in another: its light, grain, sharpness and blocks are not the host's."""
    host_light, _ = _scene(random, size, share=random.uniform(0.1, 0.4))
    light, mask = _scene(random, size, share=random.uniform(0.1, 0.5))
    host, donor = history(random, host_light), history(random, light)
    if random.random() < 0.15:  # a region of any shape instead of a thing
        mask = region(random, size)
    factor = random.uniform(0.6, 1.4)
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), random.normal(0, 8), factor)
    matrix[:, 2] += random.normal(0, 0.12, 2) * size
    if random.random() < 0.5:
        donor, mask = donor[:, ::-1], mask[:, ::-1]
    moved = cv2.warpAffine(np.ascontiguousarray(donor), matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    place = cv2.warpAffine(np.ascontiguousarray(mask).astype(np.float32), matrix, (size, size)) > 0.5
    return pasted(random, host, moved, place, soft=random.choice([0, 0.6, random.uniform(0.5, 2)]))


def copy_move(random: np.random.Generator, size: int) -> tuple[Array, Array]:
    """A thing or a region of the photograph a second time, elsewhere."""
    light, mask = _scene(random, size, share=random.uniform(0.05, 0.25))
    host = history(random, light)
    if random.random() < 0.5:
        mask = region(random, size)
    factor = random.choice([1.0, random.uniform(0.7, 1.3)])
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), random.choice([0, random.normal(0, 15)]), factor)
    matrix[:, 2] += random.choice([-1, 1], 2) * random.uniform(0.1, 0.4, 2) * size
    moved = cv2.warpAffine(host, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    place = cv2.warpAffine(mask.astype(np.float32), matrix, (size, size)) > 0.5
    return pasted(random, host, moved, place, soft=random.choice([0, 0.6, 1.2]))


def patch(random: np.random.Generator, size: int) -> tuple[Array, Array]:
    """A photographed surface with a circle, triangle, rectangle or blob of itself elsewhere or of another surface."""
    first = str(random.choice(surfaces()))
    host = of_surface(random, size, first)
    kind = str(random.choice(["moved", "turned", "again", "other"], p=[0.4, 0.15, 0.2, 0.25]))
    if kind == "moved":  # as it is: nothing but the pattern tells, which goes on elsewhere
        donor = np.roll(host, random.integers(size // 8, size - size // 8, 2), (0, 1))
    elif kind == "turned":
        donor = _turned(random, host)
    else:
        donor = of_surface(random, size, first if kind == "again" else str(random.choice(surfaces())))
        donor = _turned(random, donor) if random.random() < 0.5 else donor
    if kind != "moved" and random.random() < 0.4:
        donor = np.clip(donor * random.uniform(0.7, 1.3) + random.uniform(-20, 20), 0, 255).astype(np.uint8)
    mask = region(random, size)
    while np.abs(donor[mask].astype(np.float32) - host[mask]).mean() < FAINT:
        donor = np.roll(of_surface(random, size, str(random.choice(surfaces()))), random.integers(size, size=2), (0, 1))
    return pasted(random, host, donor, mask, soft=random.choice([0, 0.6, 1.5], p=[0.6, 0.25, 0.15]))


def _turned(random: np.random.Generator, image: Array) -> Array:
    """The square image turned and enlarged."""
    size = len(image)
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), random.uniform(0, 360), random.uniform(1, 1.5))
    return np.asarray(cv2.warpAffine(image, turn, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def of_surface(random: np.random.Generator, size: int, name: str) -> Array:
    """A photograph `[size, size, 3]` uint8 that a surface fills."""
    image = materials.tinted(random, name) if random.random() < 0.8 else materials.coat(random)
    tile = np.tile(image, (2, 2, 1))
    part = int(random.uniform(0.4, 1.0) * len(image))
    y, x = random.integers(0, len(image), 2)
    cut = cv2.resize(tile[y : y + part, x : x + part], (size, size), interpolation=cv2.INTER_AREA if part > size else cv2.INTER_CUBIC)
    linear = (cut.astype(np.float32) / 255) ** 2.2
    fall = np.linspace(random.uniform(0.6, 1), 1, size, dtype=np.float32)
    linear = linear * (fall[:, None, None] if random.random() < 0.5 else fall[None, :, None])
    return history(random, linear)


def region(random: np.random.Generator, size: int) -> Array:
    """A circle, triangle, rectangle or blob `[size, size]` bool, anywhere."""
    mask = np.zeros((size, size), np.uint8)
    centre, reach = random.uniform(0.15, 0.85, 2) * size, random.uniform(0.07, 0.3) * size
    kind = random.integers(4)
    if kind == 0:
        axes = [int(v) for v in reach * random.uniform(0.7, 1.2, 2)]
        cv2.ellipse(mask, [int(v) for v in centre], axes, random.uniform(0, 180), 0, 360, 1, -1)
    else:
        corners = {1: 3, 2: 4, 3: 40}[int(kind)]
        turn = np.linspace(0, 2 * math.pi, corners, endpoint=False) + random.uniform(0, 6.3)
        radius = np.full(corners, reach)
        if kind == 3:
            for wave in range(2, 7):
                radius = radius * (1 + random.normal(0, 0.25 / wave) * np.sin(wave * turn + random.uniform(0, 6.3)))
        stretch = random.uniform(0.6, 1.4, 2)
        points = centre + radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], -1) * stretch
        cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
    return mask > 0
