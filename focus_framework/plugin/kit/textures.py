"""Textures as functions of place, for practice images.

A pattern takes coordinates `x, y` (float32 `[H, W]`, in units of the image's side) and gives values in 0..1 of that shape; a
texture gives linear RGB `[H, W, 3]` in 0..1. Being functions of place, they can be turned, shifted, stretched and tilted
without resampling pixels: the same texture under other coordinates has the same statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np

from .tiles import Kind, numbers, tile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = "NDArray[np.floating[Any]]"
"""float32 throughout; numpy's annotations cannot follow that through arithmetic with Python numbers."""
Pattern: TypeAlias = Callable[[Array, Array], Array]
Texture: TypeAlias = Callable[[Array, Array], Array]

THIRDS = np.array([0.0, 2 / 3, 1 / 3])
"""Where red, green and blue lie around the circle of hues."""
FAR = 32.0
"""Planes are shifted by up to so many of the image's sides."""


def coordinates(
    size: int, *, angle: float = 0.0, scale: float = 1.0, shift: ArrayLike = (0.0, 0.0), tilt: float = 0.0
) -> tuple[Array, Array]:
    """Coordinates of the `size` x `size` pixel centres, turned by `angle` (radians), multiplied by `scale`, then shifted.

    `tilt` in 0..1 leans the plane back: at 1 the top row is five times as far away as the bottom row.
    """
    x, y = centres(size)
    if tilt:
        depth = 1 / (1 - np.float32(0.8 * tilt) * (0.5 - y))
        x, y = x * depth, y * depth
    across, along = np.asarray(shift, float)
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    return cv2.addWeighted(x, cosine, y, -sine, across), cv2.addWeighted(x, sine, y, cosine, along)


@lru_cache(8)
def centres(size: int) -> tuple[Array, Array]:
    """Coordinates of the `size` x `size` pixel centres, -0.5 to 0.5, not to be written to."""
    y, x = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) / size - 0.5
    x.flags.writeable = y.flags.writeable = False
    return x, y


def lean(random: np.random.Generator, size: int, *, tilt: float = 0.0) -> tuple[Array, Array]:
    """Coordinates of a plane seen from any side."""
    return coordinates(size, angle=random.uniform(0, 2 * np.pi), shift=random.uniform(0, FAR, 2), tilt=tilt)


def tiled(random: np.random.Generator, kind: Kind, *, frequency: float) -> Pattern:
    """A kind of `tiles.KINDS`, any of its tiles, with so many of its parts on the image's side; it repeats where that is more than the
    tile holds."""
    found = tile(kind, int(random.integers(numbers(kind))))
    (right, down), across, along = random.random(2), frequency / found.across, frequency / found.along
    return lambda x, y: found(cv2.addWeighted(x, across, x, 0, right), cv2.addWeighted(y, along, y, 0, down))


def warped(random: np.random.Generator, pattern: Pattern, *, amount: float, frequency: float = 2.0) -> Pattern:
    """A pattern whose lines are bent by up to about `amount` of the image's side."""
    bend, other = (tiled(random, "bends", frequency=frequency) for _ in range(2))
    return lambda x, y: pattern(x + np.float32(amount) * (bend(x, y) - 0.5), y + np.float32(amount) * (other(x, y) - 0.5))


def weathered(random: np.random.Generator, pattern: Pattern, *, amount: float = 0.3) -> Pattern:
    """A pattern under the uneven tones that years, light and dirt leave."""
    worn = tiled(random, "waves", frequency=random.uniform(0.3, 0.8))
    return lambda x, y: cv2.addWeighted(pattern(x, y), 1 - amount, worn(x, y), amount, 0)


def stripes(random: np.random.Generator, *, frequency: float = 10.0) -> Pattern:
    """Lines along y, from soft waves to hard bars, thin or broad."""
    gain, share = np.float32(random.uniform(0.5, 4)), np.float32(random.uniform(-0.5, 0.5))
    return lambda x, y: np.clip(0.5 + gain * (_wave(x, frequency) + share), 0, 1)


def checks(random: np.random.Generator, *, frequency: float = 5.0) -> Pattern:
    """Squares of two tones, or woven lines."""
    gain, woven = np.float32(random.uniform(0.5, 4)), random.random() < 0.5

    def pattern(x: Array, y: Array) -> Array:
        across, along = _wave(x, frequency), _wave(y, frequency)
        return np.clip(0.5 + gain * (np.maximum(across, along) - 0.5 if woven else across * along), 0, 1)

    return pattern


def _wave(x: Array, frequency: float) -> Array:
    turns = x * np.float32(frequency)
    turns -= np.floor(turns)  # numpy's sine takes ten times as long beyond the first turns
    return np.sin(np.float32(2 * np.pi) * turns)


def any_pattern(random: np.random.Generator, *, coarseness: float = 1.0) -> Pattern:
    """One of all patterns, as drawn; `coarseness` above 1 makes its parts larger."""
    frequency = math.exp(random.uniform(-0.35, 0.4)) / coarseness
    makers: list[Callable[[], Pattern]] = [
        lambda: tiled(random, "surface", frequency=frequency),
        lambda: tiled(random, "surface", frequency=frequency),
        lambda: tiled(random, "surface", frequency=frequency),
        lambda: tiled(random, "waves", frequency=frequency),
        lambda: tiled(random, "clouds", frequency=4 * frequency),
        lambda: tiled(random, "sand", frequency=18 * frequency),
        lambda: warped(random, stripes(random, frequency=9 * frequency), amount=random.uniform(0, 0.2)),
        lambda: warped(random, checks(random, frequency=5 * frequency), amount=random.uniform(0, 0.06)),
        lambda: tiled(random, "bricks", frequency=7 * frequency),
        lambda: tiled(random, "tones", frequency=9 * frequency),
        lambda: tiled(random, "joints", frequency=9 * frequency),
        lambda: tiled(random, "spots", frequency=9 * frequency),
        lambda: tiled(random, "wood", frequency=3 * frequency),
        lambda: tiled(random, "grass", frequency=14 * frequency),
    ]
    pattern = makers[random.integers(len(makers))]()
    return weathered(random, pattern, amount=random.uniform(0.15, 0.4)) if random.random() < 0.3 else pattern


def colour(hue: float, saturation: float, value: float) -> Array:
    """Linear RGB `[3]` of a hue (0..1 around the circle), saturation and value (0..1)."""
    return _colours(np.array([hue]), np.array([saturation]), np.array([value]))[0]


def _colours(hue: Array, saturation: Array, value: Array) -> Array:
    wheel = np.clip(np.abs((hue[:, None] + THIRDS) % 1 * 6 - 3) - 1, 0, 1)
    return (value[:, None] * (1 - saturation[:, None] * (1 - wheel))).astype(np.float32)


def palette(
    random: np.random.Generator, *, hue: float, saturation: float, value: float, spread: float = 0.06, contrast: float = 0.6
) -> Array:
    """Three related colours `[3, 3]` around a hue; `contrast` is how much darker the darkest is, `spread` moves hues."""
    values = value * np.array([1 - contrast, 1 - contrast * random.uniform(0.3, 0.7), 1.0])
    if random.random() < 0.5:
        values = values[::-1]
    hues = hue + random.normal(0, spread, 3)
    saturations = np.clip(saturation * random.uniform(0.6, 1.3, 3), 0, 1)
    return _colours(hues, saturations, values)


def texture(pattern: Pattern, colours: Array) -> Texture:
    """A pattern whose values run through `colours` `[n, 3]`."""
    table = (_ramp(len(colours)) @ colours).astype(np.float32)

    def look(x: Array, y: Array) -> Array:
        tone = cv2.convertScaleAbs(pattern(x, y), alpha=255)
        return cv2.LUT(cv2.merge([tone, tone, tone]), table[None])

    return look


@cache
def _ramp(count: int) -> Array:
    """How much of each of so many colours the 256 tones between them have `[256, count]`."""
    place = np.linspace(0, count - 1, 256)[:, None]
    return np.maximum(1 - np.abs(place - np.arange(count)), 0).astype(np.float32)


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
