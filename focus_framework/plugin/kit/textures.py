"""Textures as functions of place, for practice images.

A pattern takes coordinates `x, y` (float32 `[H, W]`, in units of the image's side) and gives values in 0..1 of that shape; a
texture gives linear RGB `[H, W, 3]` in 0..1. Being functions of place, they can be turned, shifted, stretched and tilted
without resampling pixels: the same texture under other coordinates has the same statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = "NDArray[np.floating[Any]]"
"""float32 throughout; numpy's annotations cannot follow that through arithmetic with Python numbers."""
Pattern: TypeAlias = Callable[[Array, Array], Array]
Texture: TypeAlias = Callable[[Array, Array], Array]

LATTICE = 32
"""Random values a side of the lattice behind noise and cells; both repeat after so many."""
DETAIL = 8
"""Steps between two lattice values; `cv2.remap` interpolates linearly between them."""


def coordinates(
    size: int, *, angle: float = 0.0, scale: float = 1.0, shift: ArrayLike = (0.0, 0.0), tilt: float = 0.0
) -> tuple[Array, Array]:
    """Coordinates of the `size` x `size` pixel centres, turned by `angle` (radians), multiplied by `scale`, then shifted.

    `tilt` in 0..1 leans the plane back: at 1 the top row is five times as far away as the bottom row.
    """
    y, x = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) / size - 0.5
    depth = 1 / (1 - 0.8 * float(tilt) * (0.5 - y))
    x, y = x * depth, y * depth
    across, along = np.asarray(shift, np.float32)
    cosine, sine = float(scale) * math.cos(angle), float(scale) * math.sin(angle)
    return cosine * x - sine * y + across, sine * x + cosine * y + along


def lean(random: np.random.Generator, size: int, *, tilt: float = 0.0) -> tuple[Array, Array]:
    """Coordinates of a plane seen from any side."""
    return coordinates(size, angle=random.uniform(0, 2 * np.pi), shift=random.uniform(0, LATTICE, 2), tilt=tilt)


def fractal(random: np.random.Generator, *, frequency: float = 4.0, octaves: int = 4, persistence: float = 0.55) -> Pattern:
    """Value noise summed over octaves: clouds and soil at low frequencies, sand at high ones."""
    period = LATTICE * DETAIL
    lattice = np.pad(random.random((LATTICE, LATTICE), dtype=np.float32), 2, mode="wrap")
    smooth = cv2.resize(lattice, None, fx=DETAIL, fy=DETAIL, interpolation=cv2.INTER_CUBIC)
    smooth = smooth[2 * DETAIL : 2 * DETAIL + period + 1, 2 * DETAIL : 2 * DETAIL + period + 1]
    shifts = random.uniform(0, period, (octaves, 2)).astype(np.float32)
    weights = persistence ** np.arange(octaves)
    gain = np.float32(0.9 / np.sqrt((weights**2).sum()))  # brings the sum's spread to about 0.22 whatever the octaves

    def pattern(x: Array, y: Array) -> Array:
        total = np.zeros_like(x)
        for octave, (weight, shift) in enumerate(zip(weights, shifts, strict=True)):
            step = np.float32(frequency * 2**octave * DETAIL)
            u, v = x * step + shift[0], y * step + shift[1]
            u -= period * np.floor(u / np.float32(period))  # remap's own BORDER_WRAP takes four times as long
            v -= period * np.floor(v / np.float32(period))
            value = cv2.remap(smooth, u, v, cv2.INTER_LINEAR)
            total += np.float32(weight) * (value - 0.5)
        return np.clip(0.5 + gain * total, 0, 1)

    return pattern


def warped(random: np.random.Generator, pattern: Pattern, *, amount: float, frequency: float = 2.0) -> Pattern:
    """A pattern whose lines are bent by up to about `amount` of the image's side."""
    bend = fractal(random, frequency=frequency, octaves=2)
    return lambda x, y: pattern(x + amount * (bend(x, y) - 0.5), y + amount * (bend(y, x) - 0.5))


def stretched(pattern: Pattern, factor: float) -> Pattern:
    """A pattern drawn out along y, e.g. noise into fibres."""
    return lambda x, y: pattern(x, y / np.float32(factor))


def stripes(random: np.random.Generator, *, frequency: float = 10.0) -> Pattern:
    """Lines along y, from soft waves to hard bars, thin or broad."""
    hardness, share = random.uniform(1, 8), random.uniform(-0.5, 0.5)
    return lambda x, y: np.clip(0.5 + hardness * 0.5 * (np.sin(2 * np.pi * frequency * x) + share), 0, 1)


def checks(random: np.random.Generator, *, frequency: float = 5.0) -> Pattern:
    """Squares of two tones, or woven lines."""
    hardness, woven = random.uniform(1, 8), random.random() < 0.5

    def pattern(x: Array, y: Array) -> Array:
        across, along = np.sin(2 * np.pi * frequency * x), np.sin(2 * np.pi * frequency * y)
        return np.clip(0.5 + hardness * 0.5 * (np.maximum(across, along) - 0.5 if woven else across * along), 0, 1)

    return pattern


def bricks(random: np.random.Generator, *, frequency: float = 8.0) -> Pattern:
    """Courses of bricks or tiles, each with a tone of its own, and joints between them."""
    length, joint, offset = random.uniform(1, 3), random.uniform(0.05, 0.12), 0.5 * (random.random() < 0.7)
    tones = random.uniform(0.35, 1, (LATTICE, LATTICE)).astype(np.float32)

    def pattern(x: Array, y: Array) -> Array:
        v = y * np.float32(frequency)
        u = x * np.float32(frequency / length) + offset * (np.floor(v) % 2)
        row, column = np.floor(v).astype(np.intp) % LATTICE, np.floor(u).astype(np.intp) % LATTICE
        inside = np.minimum(np.minimum(u % 1, 1 - u % 1) * length, np.minimum(v % 1, 1 - v % 1))
        return tones[row, column] * np.clip(inside / joint, 0, 1)

    return pattern


def cells(random: np.random.Generator, *, frequency: float = 8.0, kind: str = "tone") -> Pattern:
    """Voronoi cells of jittered lattice points: a ``tone`` each, dark ``joint`` lines between them, or round ``spot``."""
    tables = np.pad(random.random((3, LATTICE, LATTICE), dtype=np.float32), ((0, 0), (1, 1), (1, 1)), mode="wrap").reshape(3, -1)
    points_x, points_y, tones = 0.1 + 0.8 * tables[0], 0.1 + 0.8 * tables[1], tables[2]

    def pattern(x: Array, y: Array) -> Array:
        u, v = x * np.float32(frequency), y * np.float32(frequency)
        column, row = np.floor(u), np.floor(v)
        u, v = u - column, v - row
        home = ((row % LATTICE + 1) * (LATTICE + 2) + column % LATTICE + 1).astype(np.int32)
        nearest, second, tone = np.full_like(u, 9), np.full_like(u, 9), np.zeros_like(u)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                cell = home + (down * (LATTICE + 2) + right)
                distance = (u - np.take(points_x, cell) - right) ** 2 + (v - np.take(points_y, cell) - down) ** 2
                if kind == "tone":
                    tone = np.where(distance < nearest, np.take(tones, cell), tone)
                elif kind == "joint":
                    second = np.minimum(second, np.maximum(distance, nearest))
                nearest = np.minimum(nearest, distance)
        if kind == "tone":
            return tone
        if kind == "spot":
            return np.clip(2 * (0.5 - np.sqrt(nearest)) + 0.5, 0, 1)
        return np.clip(3 * (np.sqrt(second) - np.sqrt(nearest)), 0, 1)

    return pattern


def wood(random: np.random.Generator, *, frequency: float = 3.0) -> Pattern:
    """Grown rings cut lengthwise: level lines of long-drawn noise, over fibres."""
    rings, fibres = fractal(random, frequency=frequency, octaves=2), fractal(random, frequency=8 * frequency, octaves=2)
    count = random.uniform(4, 9)
    return lambda x, y: 0.6 * (rings(x, y / 6) * np.float32(count) % 1) + 0.4 * fibres(x, y / 12)


def grass(random: np.random.Generator, *, frequency: float = 14.0) -> Pattern:
    """Blades: fibres in three directions, the brightest on top."""
    blades = [fractal(random, frequency=frequency, octaves=2) for _ in range(3)]
    slopes = random.uniform(-0.8, 0.8, 3)
    return lambda x, y: np.max([blade(x + y * np.float32(slope), y / 6) for blade, slope in zip(blades, slopes, strict=True)], axis=0)


def any_pattern(random: np.random.Generator, *, coarseness: float = 1.0) -> Pattern:
    """One of all patterns, as drawn; `coarseness` above 1 makes its parts larger."""
    frequency = math.exp(random.uniform(-0.35, 0.4)) / coarseness
    makers: list[Callable[[], Pattern]] = [
        lambda: fractal(random, frequency=4 * frequency, octaves=5),
        lambda: fractal(random, frequency=18 * frequency, octaves=3, persistence=0.8),
        lambda: warped(random, stripes(random, frequency=9 * frequency), amount=random.uniform(0, 0.2)),
        lambda: warped(random, checks(random, frequency=5 * frequency), amount=random.uniform(0, 0.06)),
        lambda: bricks(random, frequency=7 * frequency),
        lambda: cells(random, frequency=9 * frequency),
        lambda: cells(random, frequency=9 * frequency, kind="joint"),
        lambda: cells(random, frequency=9 * frequency, kind="spot"),
        lambda: wood(random, frequency=3 * frequency),
        lambda: grass(random, frequency=14 * frequency),
    ]
    return makers[random.integers(len(makers))]()


def colour(hue: float, saturation: float, value: float) -> Array:
    """Linear RGB `[3]` of a hue (0..1 around the circle), saturation and value (0..1)."""
    wheel = np.clip(np.abs((hue + np.array([0.0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1, 0, 1)
    return (value * (1 - saturation * (1 - wheel))).astype(np.float32)


def palette(
    random: np.random.Generator, *, hue: float, saturation: float, value: float, spread: float = 0.06, contrast: float = 0.6
) -> Array:
    """Three related colours `[3, 3]` around a hue; `contrast` is how much darker the darkest is, `spread` moves hues."""
    values = value * np.array([1 - contrast, 1 - contrast * random.uniform(0.3, 0.7), 1.0])
    if random.random() < 0.5:
        values = values[::-1]
    hues = hue + random.normal(0, spread, 3)
    saturations = np.clip(saturation * random.uniform(0.6, 1.3, 3), 0, 1)
    return np.stack([colour(*parts) for parts in zip(hues, saturations, values, strict=True)])


def texture(pattern: Pattern, colours: Array) -> Texture:
    """A pattern whose values run through `colours` `[n, 3]`."""
    ramp = np.linspace(0, 255, len(colours))
    table = np.stack([np.interp(np.arange(256), ramp, channel) for channel in colours.T], axis=1).astype(np.float32)
    return lambda x, y: np.take(table, (pattern(x, y) * 255).astype(np.intp), axis=0)


def any_texture(random: np.random.Generator, *, coarseness: float = 1.0, **colours: Any) -> Texture:
    """One of all patterns in related colours; `colours` are arguments of `palette` that are not left to chance."""
    chance = {
        "hue": random.random(),
        "saturation": random.beta(1.2, 2),
        "value": random.uniform(0.08, 0.9),
        "spread": random.uniform(0.01, 0.1),
        "contrast": random.uniform(0.15, 0.8),
    }
    return texture(any_pattern(random, coarseness=coarseness), palette(random, **(chance | colours)))
