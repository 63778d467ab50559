"""Triangle meshes by rule: the simple solids that bodies are put together from, as plain arrays.

Lengths are in metres, z is up. Every solid carries texture coordinates in about those units, so that a pattern has one
size on all parts of a body.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = "NDArray[Any]"


@dataclass(frozen=True)
class Mesh:
    """Triangles: `vertices` `[n, 3]`, `faces` `[m, 3]` (rows of three vertices), `uv` `[n, 2]` (texture coordinates)."""

    vertices: Array
    faces: Array
    uv: Array
    smooth: bool = True
    """Whether light takes the triangles for a bent surface."""

    @property
    def bounds(self) -> Array:
        """The lowest and the highest corner `[2, 3]`."""
        return np.stack([self.vertices.min(axis=0), self.vertices.max(axis=0)])

    def moved(self, offset: ArrayLike) -> Mesh:
        return replace(self, vertices=self.vertices + np.asarray(offset, float))

    def scaled(self, factor: ArrayLike) -> Mesh:
        """Scaled about the origin, by one factor or one for each axis."""
        return replace(self, vertices=self.vertices * np.asarray(factor, float))

    def turned(self, matrix: Array) -> Mesh:
        """Turned about the origin by a rotation matrix `[3, 3]`."""
        return replace(self, vertices=self.vertices @ matrix.T)


def rotation(axis: ArrayLike, angle: float) -> Array:
    """The matrix `[3, 3]` that turns by `angle` (radians) about `axis`."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def join(meshes: Iterable[Mesh]) -> Mesh:
    """All of them as one mesh; it is smooth where the first is."""
    parts = list(meshes)
    starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.uv for part in parts]),
        parts[0].smooth,
    )


def grid(points: Array, uv: Array, *, smooth: bool = True) -> Mesh:
    """A sheet through `points` `[rows, columns, 3]`."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return Mesh(points.reshape(-1, 3), faces, uv.reshape(-1, 2), smooth)


def ellipsoid(radii: ArrayLike, *, squareness: float = 1.0, rows: int = 24, columns: int = 32) -> Mesh:
    """A ball of three radii; `squareness` below 1 makes it a box with round edges, above 1 a double cone."""
    radius = np.asarray(radii, float)
    polar, turn = np.meshgrid(np.linspace(0, math.pi, rows), np.linspace(0, 2 * math.pi, columns), indexing="ij")

    def power(value: Array) -> Array:
        return np.sign(value) * np.abs(value) ** squareness

    unit = np.stack([power(np.sin(polar)) * power(np.cos(turn)), power(np.sin(polar)) * power(np.sin(turn)), power(np.cos(polar))], -1)
    uv = np.stack([turn * radius[:2].mean(), polar * radius.mean()], -1)
    return grid(unit * radius, uv)


def tube(points: Sequence[ArrayLike] | Array, radii: ArrayLike, *, columns: int = 16, flat: float = 1.0, closed: bool = True) -> Mesh:
    """A round sweep along `points` `[n, 3]` with the radius of each; `flat` below 1 presses it flat across its second axis."""
    line, radius = np.asarray(points, float), np.broadcast_to(np.asarray(radii, float), len(points))
    if closed:
        line = np.concatenate([line[:1], line, line[-1:]])
        radius = np.concatenate([[1e-4], radius, [1e-4]])
    direction = np.gradient(line, axis=0)
    if closed:
        direction[0], direction[1] = direction[2], direction[2]
        direction[-1], direction[-2] = direction[-3], direction[-3]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9
    up = np.array([0.0, 0.0, 1.0]) if abs(direction[len(line) // 2, 2]) < 0.8 else np.array([1.0, 0.0, 0.0])
    side = np.cross(direction, up)
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    other = np.cross(side, direction)
    turn = np.linspace(0, 2 * math.pi, columns)
    ring = np.cos(turn)[None, :, None] * side[:, None] + flat * np.sin(turn)[None, :, None] * other[:, None]
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    uv = np.stack(np.broadcast_arrays(turn[None] * radius.mean(), along[:, None]), -1)
    return grid(line[:, None] + radius[:, None, None] * ring, uv)


def curve(points: Sequence[ArrayLike] | Array, count: int = 12) -> Array:
    """`count` points `[count, 3]` of a smooth line near a few points (a Bezier curve through the first and the last)."""
    control = np.asarray(points, float)
    degree, t = len(control) - 1, np.linspace(0, 1, count)[:, None]
    return np.sum([math.comb(degree, i) * t**i * (1 - t) ** (degree - i) * p for i, p in enumerate(control)], axis=0)


def revolve(heights: ArrayLike, radii: ArrayLike, *, columns: int = 40) -> Mesh:
    """A turned profile about z: vases, bottles, columns, plates."""
    z, radius = np.asarray(heights, float), np.asarray(radii, float)
    turn = np.linspace(0, 2 * math.pi, columns)
    points = np.stack(np.broadcast_arrays(radius[:, None] * np.cos(turn), radius[:, None] * np.sin(turn), z[:, None]), -1)
    along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(z), np.diff(radius)))])
    return grid(points, np.stack(np.broadcast_arrays(turn * radius.mean(), along[:, None]), -1))


def box(size: ArrayLike) -> Mesh:
    """A box of three sides about the origin."""
    half = np.asarray(size, float) / 2
    sides = []
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        for sign in (-1, 1):
            corners = np.zeros((2, 2, 3))
            corners[..., axis] = sign * half[axis]
            corners[..., first] = np.array([[-1, -1], [1, 1]]) * half[first]
            corners[..., second] = sign * np.array([[-1, 1], [-1, 1]]) * half[second]
            sides.append(grid(corners, corners[..., [first, second]], smooth=False))
    return join(sides)


def outline(points: ArrayLike, thickness: float) -> Mesh:
    """A flat star-shaped board upright in x and z: `points` `[n, 2]` (x, z) around the origin; y is its thickness."""
    edge = np.asarray(points, float)
    edge = np.concatenate([edge, edge[:1]])
    rings = []
    for shrink, y in ((0.0, -0.5), (1.0, -0.5), (1.0, 0.5), (0.0, 0.5)):
        rings.append(np.stack([edge[:, 0] * shrink, np.full(len(edge), y * thickness), edge[:, 1] * shrink], -1))
    ring = np.stack(rings)
    return grid(ring, ring[..., [0, 2]], smooth=False)


def leaves(random: np.random.Generator, count: int, *, spread: ArrayLike, length: float, width: float, upright: float = 0.0) -> Mesh:
    """Loose blades about the origin: bushes and crowns, or with `upright` 1 grass that stands on z = 0."""
    reach = np.asarray(spread, float)
    place = random.normal(size=(count, 3))
    place *= (random.random((count, 1)) ** (1 / 3)) / np.linalg.norm(place, axis=1, keepdims=True)
    place = place * reach
    along = random.normal(size=(count, 3)) * (1 - 0.75 * upright) + np.array([0, 0, 1.5 * upright])
    if upright:
        place[:, :2] = random.uniform(-1, 1, (count, 2)) * reach[:2]
        place[:, 2], along[:, 2] = 0, np.abs(along[:, 2])
    along *= length * random.uniform(0.5, 1.2, (count, 1)) / np.linalg.norm(along, axis=1, keepdims=True)
    across = np.cross(along, random.normal(size=(count, 3)))
    across *= width * random.uniform(0.5, 1.2, (count, 1)) / (np.linalg.norm(across, axis=1, keepdims=True) + 1e-9)
    bend = random.normal(size=(count, 3)) * length * 0.15
    corners = np.stack(
        [place - 0.2 * across, place + 0.5 * along + 0.5 * across, place + along + bend, place + 0.5 * along - 0.5 * across], 1
    )
    base = np.arange(count)[:, None] * 4
    faces = np.concatenate([base + np.array([0, 1, 2]), base + np.array([0, 2, 3])])
    uv = np.repeat(random.random((count, 1, 2)), 4, axis=1)  # one tone a blade
    return Mesh(corners.reshape(-1, 3), faces, uv.reshape(-1, 2), smooth=False)


def displaced(random: np.random.Generator, mesh: Mesh, amount: float, *, waves: int = 12, frequency: float = 3.0) -> Mesh:
    """The mesh with a lumpy surface: each vertex moves by up to about `amount`, along smooth waves through space."""
    moved = np.zeros_like(mesh.vertices)
    for _ in range(waves):
        pitch = random.uniform(0.5, 2.5)
        way = random.normal(size=3)
        way *= frequency * pitch / np.linalg.norm(way)
        moved += amount / (pitch * math.sqrt(waves)) * random.normal(size=3) * np.sin(mesh.vertices @ way + random.uniform(0, 6.3))[:, None]
    return replace(mesh, vertices=mesh.vertices + moved)
