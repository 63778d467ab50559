"""What rendered practice images are made of: photographed surfaces and panoramas, all of them CC0 1.0.

They lie beside this file, shrunk to what images of a few hundred pixels need. `assets/LICENSE.txt` says who gave them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np

from .ablation import left_out, scrambled, turned_about
from .mesh import Array

FOLDER = Path(__file__).parent / "assets"
BRIGHTEST = 60.0
"""Radiance above which a panorama is cut off, where its median is 1: lamps and the sun are put in by `light`."""
OUTDOORS = ("city", "dawn", "forest", "night", "park", "sky", "sunrise", "sunset", "venice")
INDOORS = ("apartment", "bridge", "esplanade", "hall", "lab", "lobby", "studio", "warehouse", "workshop")


def surface(name: str) -> Array:
    """A photographed surface `[384, 384, 3]` uint8 RGB that repeats without a seam."""
    return _scrambled(name) if left_out("surfaces") else photographed(name)


def panorama(name: str) -> Array:
    """A panorama `[256, 512, 3]` float32 of linear radiance at least 0, median about 1; the first row looks straight up."""
    around = _panorama(name)
    return turned_about(around) if left_out("panoramas") else around


@cache
def photographed(name: str) -> Array:
    """The same as `surface`, whatever is left out."""
    return _read(FOLDER / "surfaces" / f"{name}.jpg")


@cache
def _scrambled(name: str) -> Array:
    return scrambled(photographed(name), name)


@cache
def _panorama(name: str) -> Array:
    code = _read(FOLDER / "panoramas" / f"{name}.jpg").astype(np.float32) / 255
    return (np.exp2(code * np.float32(np.log2(1 + 16 * BRIGHTEST))) - 1) / 16  # the inverse of how it was stored


@cache
def surfaces() -> tuple[str, ...]:
    """The names of all surfaces."""
    return tuple(sorted(path.stem for path in (FOLDER / "surfaces").glob("*.jpg")))


def _read(path: Path) -> Array:
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
