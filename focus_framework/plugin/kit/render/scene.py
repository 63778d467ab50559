"""What a scene is: things with materials, light and a camera; no engine yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .bodies import Body, Part
from .light import Light
from .materials import Material, colour, of_part
from .mesh import Array, grid

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A body in its place, what its parts are made of, and a label for the mask."""

    body: Body
    materials: Mapping[str, Material]
    label: int = 0
    """Which mask it belongs to; 0 is the ground and all that stands about."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Where the picture is taken from, in metres, z up."""

    eye: Array
    target: Array
    fov: float = 40.0
    """Degrees across."""
    roll: float = 0.0
    """Degrees."""
    aperture: float = 0.0
    """Radius of the lens in metres; 0 has all in focus."""
    focus: float | None = None
    """Distance in focus in metres; None is the target's."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    things: list[Thing]
    light: Light
    camera: Camera
    depth: int = 4
    """How often light is followed."""


def dressed(random: np.random.Generator, body: Body, *, label: int = 0, materials: Mapping[str, Material] | None = None) -> Thing:
    """A body whose parts are given materials by their names; `materials` says some of them, ``*`` all others."""
    base = colour(random)
    given = dict(materials or {})
    names = dict.fromkeys(part.material for part in body)
    return Thing(
        body=body, materials={name: given.get(name) or given.get("*") or of_part(random, name, base) for name in names}, label=label
    )


def plane(material: Material, *, at: ArrayLike, across: ArrayLike, up: ArrayLike, label: int = 0, steps: int = 1) -> Thing:
    """A flat rectangle whose sides are 2 `across` and 2 `up` about `at`, with its material at its own size."""
    u, v = np.meshgrid(np.linspace(-1, 1, steps + 1), np.linspace(-1, 1, steps + 1))
    points = np.asarray(at, float) + u[..., None] * np.asarray(across, float) + v[..., None] * np.asarray(up, float)
    uv = np.stack([u * np.linalg.norm(across), v * np.linalg.norm(up)], -1)
    return Thing(body=[Part(grid(points, uv, smooth=steps > 1), "plane")], materials={"plane": material}, label=label)


def towards(random: np.random.Generator, camera: Camera, low: Array, high: Array, *, share: float, drift: float = 0.09) -> Camera:
    """The camera moved along its line of sight until a box takes about `share` of the picture, and the box moved off the
    middle a little."""
    size = float(np.linalg.norm(high - low)) * 0.62
    reach = size * math.sqrt(0.55 / share) / (2 * math.tan(math.radians(camera.fov / 2)))
    centre = (low + high) / 2
    way = (camera.eye - camera.target) / np.linalg.norm(camera.eye - camera.target)
    eye = centre + way * reach
    eye[2] = max(eye[2], 0.06)
    side = np.cross(way, [0, 0, 1.0])
    side /= np.linalg.norm(side) + 1e-9
    offset = random.normal(0, drift, 2) * reach * 2 * math.tan(math.radians(camera.fov / 2))
    shift = side * offset[0] + np.cross(side, way) * offset[1]
    return replace(camera, eye=eye, target=centre + shift, focus=float(np.linalg.norm(eye - centre)))
