"""Light by rule: a panorama around everything, the sun or a lamp painted into it, lamps that hang in the scene."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .assets import BRIGHTEST, INDOORS, OUTDOORS, panorama
from .materials import noise
from .mesh import Array


@dataclass(frozen=True, kw_only=True)
class Light:
    """Light from all around."""

    panorama: Array
    """Linear radiance `[256, 512, 3]`; the first row looks straight up, columns go round once."""
    sun: Array | None = None
    """The way `[3]` from the scene to the sun, of length 1; None where there is none."""

    @property
    def towards_sun(self) -> Array:
        """The way to the sun, straight up where there is none."""
        return np.array([0.0, 0.0, 1.0]) if self.sun is None else self.sun


def daylight(
    random: np.random.Generator,
    *,
    sun: float = 0.6,
    strength: tuple[float, float] = (0.8, 7.0),
    indoors: bool = False,
    sky_only: bool = False,
    narrow: bool = False,
    clear: float = 0.0,
) -> Light:
    """A panorama turned at random, with the chance `sun` of a sun in it whose light on the ground is `strength` times the
    sky's; low suns are yellow. With the chance `clear` its sky is blue, with clouds."""
    names = INDOORS if indoors else OUTDOORS
    around = np.roll(panorama(str(random.choice(names))), int(random.integers(512)), axis=1)
    if random.random() < 0.5:
        around = around[:, ::-1]
    grey = around.mean(axis=2, keepdims=True)
    around = grey + (around - grey) * np.float32(random.uniform(0.3, 1.0))
    if clear and random.random() < clear:
        around = under_blue(random, around)
    if sky_only:
        around = np.minimum(around, 12)
    if random.random() >= sun:
        return Light(panorama=np.ascontiguousarray(np.minimum(around, BRIGHTEST)))
    height, turn = math.radians(random.choice([random.uniform(12, 40), random.uniform(25, 75)])), random.uniform(0, 2 * math.pi)
    way = np.array([math.cos(height) * math.cos(turn), math.cos(height) * math.sin(turn), math.sin(height)])
    around = np.minimum(around, 8).copy()
    rows, columns = around.shape[:2]
    polar = (np.arange(rows) + 0.5) / rows * math.pi
    ways = directions(rows, columns)
    above = np.maximum(np.cos(polar), 0)[:, None, None] * np.sin(polar)[:, None, None] * (math.pi / rows) * (2 * math.pi / columns)
    sky = float((around * above).sum() / 3)
    nearness = np.maximum(ways @ way, 0)
    broad = math.cos(math.radians(1.0 if narrow else random.choice([1.0, 1.0, 2.0, 5.0])))
    disc = (nearness > broad).astype(np.float32)
    weight = (
        disc[..., None] * np.maximum(ways[..., 2:], 0.05) * np.sin(polar)[:, None, None] * (math.pi / rows) * (2 * math.pi / columns)
    ).sum()
    warm = np.array([1.0, 1 - 0.25 * math.cos(height) ** 2, 1 - 0.5 * math.cos(height) ** 2], np.float32)
    power = sky * math.exp(random.uniform(*np.log(strength))) / max(float(weight), 1e-6)
    around = around + disc[..., None] * warm * np.float32(power)
    return Light(panorama=np.ascontiguousarray(around), sun=way)


def under_blue(random: np.random.Generator, around: Array) -> Array:
    """A panorama `[H, W, 3]` whose sky above a ragged line is blue, darker towards the top, with clouds or without."""
    rows, columns = around.shape[:2]
    above = 1 - 2 * (np.arange(rows) + 0.5)[:, None] / rows  # 1 straight up, 0 at the horizon
    level = float(np.median(around)) * math.exp(random.uniform(-0.3, 0.9))
    blue = np.array([random.uniform(0.12, 0.45), random.uniform(0.3, 0.6), random.uniform(0.7, 1.0)]) * random.uniform(0.5, 1.4)
    haze = np.exp(-np.maximum(above, 0) / random.uniform(0.08, 0.5))[..., None]
    sky = blue * (1 - haze) + np.array([0.85, 0.95, 1.05]) * haze
    if random.random() < 0.65:
        pattern = noise(random, slope=random.uniform(1.3, 2.0), side=columns)[:rows]
        pattern = (pattern - pattern.mean()) / (pattern.std() + 1e-6)
        cloud = np.clip((pattern - random.uniform(-0.5, 1.2)) * random.uniform(0.8, 2.5), 0, 1)[..., None]
        shade = 1 - 0.35 * np.clip(np.roll(pattern, -3, axis=0), 0, 1)[..., None]
        sky = sky * (1 - cloud) + cloud * shade * random.uniform(1.0, 1.8)
    line = random.uniform(0.02, 0.15) * (1 + 0.6 * np.interp(np.arange(columns), np.linspace(0, columns, 24), random.normal(size=24)))
    share = np.clip((above - line) * rows / 4, 0, 1)[..., None]
    return (around * (1 - share) + sky * level * share).astype(np.float32)


def directions(rows: int, columns: int) -> Array:
    """The way `[rows, columns, 3]` in which each pixel of a panorama lies, z up, as `engine` hangs it."""
    polar = ((np.arange(rows) + 0.5) / rows * math.pi)[:, None]
    turn = ((np.arange(columns) + 0.5) / columns * 2 * math.pi)[None]
    x, y, z = np.sin(polar) * np.sin(turn), np.cos(polar) * np.ones_like(turn), -np.sin(polar) * np.cos(turn)
    return np.stack([x, -z, y], -1)  # the engine's envmap has y up; it is turned by 90 degrees about x
