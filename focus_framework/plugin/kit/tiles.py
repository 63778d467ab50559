"""Seamless tiles of grey that the patterns of `textures` are looked up in.

A tile is made when it is first wanted, and kept for the process. Its kind and its number alone decide it, so that an image is the same
whatever was drawn before it, and in whichever process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from zlib import crc32

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[np.floating[Any]]"
Kind: TypeAlias = Literal["clouds", "sand", "bends", "waves", "surface", "bricks", "tones", "joints", "spots", "wood", "grass"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SIDE = 512
"""Pixels a side: as many as an image of 256 has for the same part of a surface, or more."""
NUMBERS = 6
"""Tiles of a kind; of ``surface`` there are as many as there are photographs."""
SPREAD = 0.22
"""Standard deviation of tiles that have any tone in between, about 0.5."""


@dataclass(frozen=True)
class Tile:
    """Grey that repeats. Called with places `u, v` (float32 `[H, W]`, one repeat from 0 to 1) it gives values in 0..1."""

    levels: tuple[NDArray[np.uint8], ...]
    """The tile, then halves of halves of it, each with one more pixel of its repeat on all sides."""
    across: float
    """How many parts (cells, bricks, waves of the lowest frequency) it holds along u."""
    along: float

    def __call__(self, u: Array, v: Array) -> Array:
        level: Any = self.levels[self._level(u, v)]
        side = float(len(level) - 2)
        # remap's own BORDER_WRAP takes four times as long; half a pixel back to its centre, one on for the repeat
        column, row = (cv2.addWeighted(place - np.floor(place), side, place, 0, 0.5) for place in (u, v))
        return cv2.remap(level, column, row, cv2.INTER_LINEAR) * np.float32(1 / 255)

    def _level(self, u: Array, v: Array) -> int:
        """Which half of halves has pixels about as large as those of the image, in its middle row."""
        row, column = u.shape[0] // 2, min(1, u.shape[1] - 1)
        step = float(np.hypot(u[row, column] - u[row, 0], v[row, column] - v[row, 0])) * (len(self.levels[0]) - 2)
        return int(np.clip(round(float(np.log2(max(step, 1)) - 0.2)), 0, len(self.levels) - 1))


def numbers(kind: Kind) -> int:
    """How many tiles of that kind there are."""
    if kind != "surface":
        return NUMBERS
    from .render.assets import surfaces

    return len(surfaces())


@cache
def tile(kind: Kind, number: int) -> Tile:
    """A tile of a kind, `number` from 0 to below `numbers`."""
    values, across, along = _MAKERS[kind](np.random.default_rng([crc32(kind.encode()), number]), number)
    grey = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
    levels = [grey]
    while len(levels[-1]) > 8:
        levels.append(np.asarray(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8))
    return Tile(tuple(np.pad(level, 1, mode="wrap") for level in levels), across, along)


def _normal(values: Array) -> Array:
    return 0.5 + SPREAD * (values - values.mean()) / values.std()


def _noise(random: np.random.Generator, across: int, along: int, *, octaves: int, persistence: float = 0.55) -> Array:
    """Value noise `[SIDE, SIDE]`: random values, so many `across` and `along`, with smooth tones between them, and twice as many of
    less weight, and so on."""
    total = np.zeros((SIDE, SIDE), np.float32)
    for octave in range(octaves):
        lattice = np.pad(random.random((along << octave, across << octave), dtype=np.float32), 2, mode="wrap")
        wide, high = SIDE // (across << octave), SIDE // (along << octave)
        smooth = cv2.resize(lattice, None, fx=wide, fy=high, interpolation=cv2.INTER_CUBIC)
        total += persistence**octave * smooth[2 * high : 2 * high + SIDE, 2 * wide : 2 * wide + SIDE]
    return total


def _clouds(random: np.random.Generator, number: int) -> tuple[Array, float, float]:
    return _normal(_noise(random, 8, 8, octaves=5)), 8, 8


def _sand(random: np.random.Generator, number: int) -> tuple[Array, float, float]:
    return _normal(_noise(random, 32, 32, octaves=3, persistence=0.8)), 32, 32


def _bends(random: np.random.Generator, number: int) -> tuple[Array, float, float]:
    return _normal(_noise(random, 8, 8, octaves=2)), 8, 8


def _waves(random: np.random.Generator, number: int) -> tuple[Array, float, float]:
    """What most of nature has: amplitudes that fall with frequency to the power of about 1."""
    from .render.materials import noise

    return _normal(noise(random, slope=0.7 + number / NUMBERS, side=SIDE)), 1, 1


def _surface(random: np.random.Generator, number: int) -> tuple[Array, float, float]:
    from .render.assets import photographed, surfaces

    return _normal(photographed(surfaces()[number]).mean(axis=2, dtype=np.float32)), 1, 1


def _bricks(random: np.random.Generator, number: int) -> tuple[Array, float, float]:
    """Courses of bricks or tiles, each with a tone of its own, and joints between them."""
    courses, count, length = 8, 6, random.uniform(1, 3)
    joint, offset = random.uniform(0.05, 0.12), 0.5 * (random.random() < 0.7)
    tones = random.uniform(0.35, 1, (courses, count)).astype(np.float32)
    y, x = (np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5) / SIDE
    v = y * courses
    u = x * count + offset * (np.floor(v) % 2)
    row, column = np.floor(v).astype(np.intp), np.floor(u).astype(np.intp) % count
    inside = np.minimum(np.minimum(u % 1, 1 - u % 1) * length, np.minimum(v % 1, 1 - v % 1))
    return tones[row, column] * np.clip(inside / joint, 0, 1), count * length, courses


def _cells(random: np.random.Generator, kind: Kind) -> tuple[Array, float, float]:
    """Voronoi cells of jittered points: a tone each, dark joints between them, or round spots."""
    count = 10
    tables = np.pad(random.random((3, count, count), dtype=np.float32), ((0, 0), (1, 1), (1, 1)), mode="wrap")
    points_x, points_y, tones = 0.1 + 0.8 * tables[0], 0.1 + 0.8 * tables[1], tables[2]
    v, u = (np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5) * np.float32(count / SIDE)
    row, column = np.floor(v).astype(np.intp), np.floor(u).astype(np.intp)
    u, v = u - column, v - row
    nearest, second, tone = np.full_like(u, 9), np.full_like(u, 9), np.zeros_like(u)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            cell = row + 1 + down, column + 1 + right
            distance = (u - points_x[cell] - right) ** 2 + (v - points_y[cell] - down) ** 2
            tone = np.where(distance < nearest, tones[cell], tone)
            second = np.minimum(second, np.maximum(distance, nearest))
            nearest = np.minimum(nearest, distance)
    nearest, second = np.sqrt(nearest), np.sqrt(second)
    values = {"tones": tone, "joints": 3 * (second - nearest), "spots": 2 * (0.5 - nearest) + 0.5}[kind]
    return values, count, count


def _wood(random: np.random.Generator, number: int) -> tuple[Array, float, float]:
    """Grown rings cut lengthwise: level lines of long-drawn noise, over fibres."""
    rings, fibres = _normal(_noise(random, 8, 2, octaves=2)), _normal(_noise(random, 64, 8, octaves=2))
    return 0.6 * (rings * np.float32(random.uniform(4, 9)) % 1) + 0.4 * fibres, 8, 12


def _grass(random: np.random.Generator, number: int) -> tuple[Array, float, float]:
    """Blades: fibres in three directions, the brightest on top."""
    row, column = np.mgrid[0:SIDE, 0:SIDE]
    blades = [_normal(_noise(random, 16, 8, octaves=2))[row, (column + slope * row) % SIDE] for slope in random.integers(-2, 3, 3)]
    return np.max(blades, axis=0), 16, 48


_MAKERS: dict[Kind, Callable[[np.random.Generator, int], tuple[Array, float, float]]] = {
    "clouds": _clouds,
    "sand": _sand,
    "bends": _bends,
    "waves": _waves,
    "surface": _surface,
    "bricks": _bricks,
    "tones": lambda random, number: _cells(random, "tones"),
    "joints": lambda random, number: _cells(random, "joints"),
    "spots": lambda random, number: _cells(random, "spots"),
    "wood": _wood,
    "grass": _grass,
}
