# ruff: noqa: RUF005 - arrays are added here, not lists joined
"""Bodies by rule: things that can stand in a scene, put together from simple solids.

A body is a list of parts, each with the name of what it is made of; parts of one name share a material. It stands on
z = 0 about the origin and is about one metre in its largest extent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .mesh import Array, Mesh, box, curve, displaced, ellipsoid, join, leaves, outline, revolve, rotation, tube

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Part:
    """A mesh and the name of its material within the body, such as ``coat`` or ``metal``."""

    mesh: Mesh
    material: str


Body = list[Part]


def bounds(body: Body) -> Array:
    """The lowest and the highest corner `[2, 3]`."""
    corners = np.stack([part.mesh.bounds for part in body])
    return np.stack([corners[:, 0].min(axis=0), corners[:, 1].max(axis=0)])


def changed(body: Body, change: Callable[[Mesh], Mesh]) -> Body:
    """The body with every mesh changed."""
    return [replace(part, mesh=change(part.mesh)) for part in body]


def standing(body: Body, *, size: float = 1.0, angle: float = 0.0, at: ArrayLike = (0.0, 0.0, 0.0)) -> Body:
    """The body turned about z, with `size` as its largest extent, its lowest point over `at`."""
    turned = changed(body, lambda mesh: mesh.turned(rotation([0, 0, 1], angle)))
    low, high = bounds(turned)
    factor = size / float((high - low).max())
    foot = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return changed(turned, lambda mesh: mesh.moved(-foot).scaled(factor).moved(at))


def merged(body: Body) -> Body:
    """The same body with one part for each material."""
    names = list(dict.fromkeys((part.material, part.mesh.smooth) for part in body))
    return [Part(join(part.mesh for part in body if (part.material, part.mesh.smooth) == name), name[0]) for name in names]


def lump(random: np.random.Generator) -> Body:
    """A stone, a fruit, a sack: one displaced ball or several grown together."""
    body: Body = []
    for number in range(int(random.choice([1, 1, 2, 3, 5]))):
        scale = 1.0 if number == 0 else random.uniform(0.3, 0.8)
        ball = ellipsoid(scale * random.uniform(0.3, 0.6, 3), squareness=random.choice([1.0, 0.4, 0.6, 1.3]), rows=32, columns=48)
        ball = displaced(random, ball, scale * random.uniform(0, 0.18), frequency=random.uniform(2, 9))
        body.append(Part(ball.moved(random.normal(0, 0.35, 3) * (number > 0)), random.choice(["skin", "skin", "other"])))
    return body


def _leg(random: np.random.Generator, hip: ArrayLike, foot: ArrayLike, thick: float) -> Mesh:
    top, low = np.asarray(hip, float), np.asarray(foot, float)
    knee = (top + low) / 2 + [random.normal(0, 0.05), random.normal(0, 0.02), 0.0]
    toe = low + [thick * random.uniform(0.5, 1.5), 0, thick * 0.3]
    line = np.concatenate([curve([top, knee, low], 8), toe[None]])
    return tube(line, np.concatenate([thick * np.linspace(1.5, 0.7, 8), [thick * 0.6]]), columns=12)


def creature(random: np.random.Generator) -> Body:
    """Four legs (or none to be seen), trunk, neck, head with ears or horns, a tail: standing, sitting or lying."""
    length, girth = random.uniform(0.6, 1.1), random.uniform(0.13, 0.27)
    pose = random.choice(["standing", "sitting", "lying"], p=[0.6, 0.25, 0.15])
    height = {"standing": random.uniform(0.35, 0.9), "sitting": girth * 1.1, "lying": girth * 0.9}[pose]
    rear = np.array([-length / 2, 0, height])
    front = np.array(
        [
            length / 2 * (0.6 if pose == "sitting" else 1),
            0,
            height + (length * random.uniform(0.5, 0.8) if pose == "sitting" else random.normal(0, 0.06)),
        ]
    )
    sag = (rear + front) / 2 + [0, random.normal(0, 0.08), random.normal(0, 0.06)]
    swell = girth * np.interp(
        np.linspace(0, 1, 14), [0, 0.15, 0.5, 0.85, 1], [0.5, random.uniform(0.8, 1.2), 1, random.uniform(0.8, 1.25), 0.6]
    )
    body: Body = [Part(displaced(random, tube(curve([rear, sag, front], 14), swell, columns=28), girth * 0.12, frequency=6), "coat")]
    reach, rise = random.uniform(0.1, 0.5), random.uniform(-0.05, 0.55)
    head = front + [reach, random.normal(0, 0.12), rise]
    size = girth * random.uniform(0.5, 0.85)
    body.append(
        Part(
            tube(
                curve([front - [0.08, 0, 0], front + [reach * 0.6, 0, rise * 0.3], head], 8),
                np.linspace(girth * 0.75, size * 0.75, 8),
                columns=18,
            ),
            "coat",
        )
    )
    skull = displaced(random, ellipsoid(size * np.array([1.2, 0.85, 0.95])), size * 0.08, frequency=9)
    muzzle = ellipsoid(size * np.array([random.uniform(0.5, 1.1), 0.5, 0.45])).moved([size * random.uniform(0.7, 1.3), 0, -size * 0.3])
    turn = rotation([0, 0, 1], random.normal(0, 0.6))
    parts = [Part(skull, "coat"), Part(muzzle, random.choice(["coat", "pale"]))]
    for side in (-1, 1):
        parts.append(Part(ellipsoid(np.full(3, size * 0.13), rows=10, columns=12).moved(size * np.array([0.95, 0.5 * side, 0.3])), "dark"))
        tip = size * np.array([-0.3, random.uniform(0.4, 1.1) * side, random.uniform(0.9, 2.2)])
        root = size * np.array([-0.1, 0.5 * side, 0.6])
        parts.append(
            Part(
                tube([root, (root + tip) / 2, tip], size * np.array([0.32, 0.35, 0.04]), flat=0.4, columns=10),
                random.choice(["coat", "dark"]),
            )
        )
    if random.random() < 0.2:
        for side in (-1, 1):
            horn = curve(size * np.array([[0, 0.4 * side, 0.7], [0.2, 1.2 * side, 1.6], [random.uniform(-0.8, 0.8), 1.2 * side, 3.0]]), 8)
            parts.append(Part(tube(horn, size * np.linspace(0.18, 0.03, 8), columns=8), "pale"))
    parts.append(Part(ellipsoid(np.full(3, size * 0.16), rows=8, columns=10).moved(size * np.array([1.75, 0, -0.1])), "dark"))
    body += changed(parts, lambda mesh: mesh.turned(turn).moved(head))
    thick = girth * random.uniform(0.2, 0.42)
    for end, spread in ((front, 0.12), (rear, 0.12)):
        for side in (-1, 1):
            if pose == "standing":
                foot = np.array([end[0] + random.normal(0, spread), girth * 0.55 * side, 0.0])
                body.append(
                    Part(
                        _leg(random, end * [0.85, 0, 1] + [0, girth * 0.55 * side, 0], foot, thick),
                        "coat" if random.random() < 0.9 else "pale",
                    )
                )
            else:
                foot = np.array([end[0] + (0.25 if end is front else 0.35), girth * 0.9 * side, 0.02])
                body.append(Part(_leg(random, end * [0.8, 0, 0.9] + [0, girth * 0.7 * side, 0], foot, thick * 1.2), "coat"))
    tail = [
        rear,
        rear + [-0.15, random.normal(0, 0.1), random.normal(0, 0.15)],
        rear + [-random.uniform(0.1, 0.5), random.normal(0, 0.2), random.uniform(-0.35, 0.4)],
    ]
    body.append(Part(tube(curve(tail, 10), np.linspace(girth * 0.3, girth * random.uniform(0.05, 0.35), 10), columns=10), "coat"))
    return body


def person(random: np.random.Generator) -> Body:
    """Somebody who stands, walks or sits, in trousers or a skirt, with hair or a hat, perhaps with a bag."""
    sitting = random.random() < 0.25
    hip = 0.45 if sitting else 0.9
    sway = random.normal(0, 0.04, 2)
    shoulder = np.array([sway[0], sway[1], hip + 0.5])
    stout = random.uniform(0.8, 1.4)
    trunk = curve([[0, 0, hip - 0.05], [sway[0] / 2, 0, hip + 0.25], shoulder], 10)
    body: Body = [
        Part(
            displaced(
                random,
                tube(trunk, stout * 0.01 * np.array([15, 16, 16, 15, 15, 16, 18, 19, 18, 11]), flat=0.65, columns=28),
                0.025,
                frequency=9,
            ),
            "shirt",
        )
    ]
    head = shoulder + [random.normal(0, 0.02), random.normal(0, 0.02), 0.2]
    body.append(Part(tube([shoulder - [0, 0, 0.03], head], 0.055), "skin"))
    body.append(Part(ellipsoid([0.085, 0.1, 0.12]).moved(head), "skin"))
    hair = ellipsoid([0.1, 0.11, 0.12 * random.uniform(0.6, 1.0)]).moved(head + [0, 0.025, 0.05])
    body.append(Part(displaced(random, hair, 0.02, frequency=15), "hair"))
    if random.random() < 0.25:
        body.append(Part(revolve([0, 0.01, 0.02, 0.14, 0.15], [0.19, 0.19, 0.11, 0.09, 0.001]).moved(head + [0, 0, 0.07]), "trousers"))
    stride = 0 if sitting else random.uniform(0, 0.3)
    for side in (-1, 1):
        top = np.array([0.09 * side * stout, 0, hip])
        if sitting:
            knee = top + [0.03 * side, -0.42, 0.0]
            leg = np.concatenate(
                [
                    curve([top, (top + knee) / 2, knee], 6),
                    curve([knee, knee + [0, -0.02, -0.2], knee + [0, random.normal(0, 0.08), -0.43]], 6),
                ]
            )
        else:
            leg = curve([top, top + [0.02 * side, -0.05 * side, -0.45], [0.1 * side, stride * side, 0.02]], 12)
        body.append(Part(tube(leg, 0.085 * stout * np.linspace(1.1, 0.7, 12), columns=16), "trousers"))
        body.append(Part(ellipsoid([0.05, 0.13, 0.05]).moved(leg[-1] + [0, -0.06, 0.03]), "dark"))
        start = shoulder + [0.17 * side * stout, 0, -0.04]
        elbow = start + [random.uniform(0.02, 0.3) * side, random.normal(0, 0.12), -random.uniform(0.05, 0.3)]
        hand = elbow + [random.normal(0, 0.15), random.normal(-0.1, 0.12), random.uniform(-0.28, 0.25)]
        body.append(Part(tube(curve([start, elbow, hand], 10), 0.055 * stout * np.linspace(1.1, 0.6, 10), columns=12), "shirt"))
        body.append(Part(ellipsoid([0.045, 0.045, 0.055]).moved(hand), "skin"))
    if not sitting and random.random() < 0.3:
        body.append(Part(revolve([0, 0.1, 0.45, 0.5], [0.3, 0.28, 0.15, 0.14]).scaled([stout, 0.8, 1]).moved([0, 0, hip - 0.42]), "shirt"))
    if random.random() < 0.3:
        body.append(
            Part(box(random.uniform(0.15, 0.4, 3)).moved([random.choice([-0.35, 0.35]), random.normal(0, 0.1), hip - 0.1]), "other")
        )
    return body


def bird(random: np.random.Generator) -> Body:
    """An egg with a tail, a head with a beak, folded or spread wings, thin legs."""
    length, girth = random.uniform(0.3, 0.5), random.uniform(0.12, 0.2)
    stand = random.uniform(0.05, 0.5)
    lean = random.uniform(0.1, 0.9)
    axis = np.array([math.cos(lean), 0, math.sin(lean)])
    centre = np.array([0, 0, stand + girth])
    trunk = tube(
        curve([centre - axis * length, centre - [0, 0, girth * 0.5], centre + axis * length * 0.7], 12),
        girth * np.array([0.3, 0.5, 0.7, 0.85, 0.95, 1, 1, 0.98, 0.9, 0.8, 0.65, 0.5]),
        columns=24,
    )
    body: Body = [Part(trunk, "coat")]
    head = centre + axis * length * 0.7 + [random.uniform(0.02, 0.1), 0, random.uniform(0.05, 0.4)]
    size = girth * random.uniform(0.45, 0.7)
    body.append(
        Part(
            tube(
                curve([centre + axis * length * 0.5, (centre + axis * length * 0.7 + head) / 2, head], 6),
                np.linspace(girth * 0.6, size * 0.8, 6),
            ),
            "coat",
        )
    )
    body.append(Part(ellipsoid([size * 1.1, size * 0.9, size]).moved(head), random.choice(["coat", "other"])))
    beak = head + [size + random.uniform(0.05, 0.25), random.normal(0, 0.05), -random.uniform(0, 0.08)]
    body.append(Part(tube([head + [size * 0.7, 0, 0], beak], [size * 0.35, 0.005], columns=10), "bright"))
    for side in (-1, 1):
        body.append(
            Part(ellipsoid(np.full(3, size * 0.16), rows=8, columns=10).moved(head + size * np.array([0.55, 0.75 * side, 0.25])), "dark")
        )
        if random.random() < 0.65:
            wing = (
                ellipsoid([length * 0.75, girth * 0.2, girth * 0.6])
                .turned(rotation([0, 1, 0], -lean * 0.8))
                .moved(centre + [-length * 0.2, girth * 0.85 * side, 0.02])
            )
        else:
            wing = (
                ellipsoid([length * 0.35, length * random.uniform(0.7, 1.2), 0.02])
                .moved([0, length * 0.8 * side, 0])
                .turned(rotation([1, 0, 0], side * random.uniform(0, 0.9)))
                .moved(centre)
            )
        body.append(Part(wing, random.choice(["other", "coat", "wing"])))
        foot = np.array([random.normal(0, 0.05), 0.06 * side, 0])
        body.append(Part(tube([centre + [0, 0.06 * side, -girth * 0.5], foot], [0.03, 0.012], columns=8), "bright"))
        for toe in (-0.6, 0.0, 0.6):
            body.append(
                Part(tube([foot, foot + 0.1 * np.array([math.cos(toe), math.sin(toe), 0.05])], [0.012, 0.006], columns=6), "bright")
            )
    tail = centre - axis * length
    body.append(
        Part(tube([tail, tail - axis * random.uniform(0.15, 0.5)], [girth * 0.3, girth * random.uniform(0.2, 0.6)], flat=0.15), "other")
    )
    return body


def vessel(random: np.random.Generator) -> Body:
    """A turned thing: vase, bottle, cup, lamp, bell; perhaps with a handle or on a foot."""
    count = int(random.integers(4, 8))
    heights = np.concatenate([[0], np.sort(random.uniform(0.05, 0.95, count)), [1]])
    radii = np.concatenate([[random.uniform(0.1, 0.35)], random.uniform(0.06, 0.42, count), [random.uniform(0.05, 0.35)]])
    fine = np.linspace(0, 1, 48)
    profile = np.interp(fine, heights, radii)
    if random.random() < 0.7:
        profile = np.convolve(np.pad(profile, 4, mode="edge"), np.ones(9) / 9, mode="valid")
    shell = revolve(np.concatenate([[0], fine, [1, 0.98]]), np.concatenate([[0.001], profile, [profile[-1] * 0.9, 0.001]]))
    body: Body = [Part(shell, "glaze")]
    if random.random() < 0.4:
        band = (fine > (low := random.uniform(0.1, 0.6))) & (fine < low + random.uniform(0.08, 0.3))
        body.append(Part(revolve(fine[band], profile[band] * 1.01), "other"))
    if random.random() < 0.4:
        low, high = sorted(random.uniform(0.2, 0.95, 2))
        r = [float(np.interp(v, fine, profile)) for v in (low, high)]
        bow = curve([[r[0], 0, low], [r[0] + 0.35, 0, low], [r[1] + 0.35, 0, high], [r[1], 0, high]], 14)
        for side in [1] if random.random() < 0.6 else [1, -1]:
            body.append(Part(tube(bow * [side, 1, 1], random.uniform(0.02, 0.045), columns=10), "glaze"))
    return body


def furniture(random: np.random.Generator) -> Body:
    """A table, chair, stool, shelf or frame: boards and legs, round or square."""
    wide, deep, high = random.uniform(0.4, 1.2), random.uniform(0.35, 0.8), random.uniform(0.35, 1.0)
    thick, leg = random.uniform(0.03, 0.1), random.uniform(0.02, 0.06)
    body: Body = [Part(box([wide, deep, thick]).moved([0, 0, high]), "board")]
    for x in (-1, 1):
        for y in (-1, 1):
            top = np.array([x * (wide / 2 - leg), y * (deep / 2 - leg), high])
            low = top * [random.choice([1.0, 1.15]), 1, 0]
            body.append(Part(tube([low, top], leg, columns=random.choice([5, 14])), "frame"))
    if random.random() < 0.6:
        back = random.uniform(0.3, 0.8)
        if random.random() < 0.5:
            body.append(Part(box([wide, thick, back]).moved([0, deep / 2, high + back / 2]), "board"))
        else:
            for x in np.linspace(-wide / 2 + leg, wide / 2 - leg, int(random.integers(2, 7))):
                body.append(Part(tube([[x, deep / 2, high], [x, deep / 2 + 0.08, high + back]], leg * 0.7, columns=10), "frame"))
            body.append(Part(box([wide, thick, 0.12]).moved([0, deep / 2 + 0.08, high + back]), "frame"))
    if random.random() < 0.4:
        for x in (-1, 1):
            body.append(Part(box([leg * 2, deep, leg]).moved([x * wide / 2, 0, high + 0.25]), "frame"))
    if random.random() < 0.3:
        body.append(Part(ellipsoid([wide / 2, deep / 2, 0.1], squareness=0.4).moved([0, 0, high + thick / 2 + 0.06]), "cloth"))
    return body


def vehicle(random: np.random.Generator) -> Body:
    """A car, van, cart or toy: hull, cabin, windows, wheels, lamps."""
    length, wide, low = random.uniform(1.2, 2.2), random.uniform(0.6, 0.8), random.uniform(0.12, 0.22)
    hull, cabin = random.uniform(0.22, 0.4), random.uniform(0.2, 0.6)
    square = random.choice([0.15, 0.3, 0.5])
    body: Body = [
        Part(ellipsoid([length / 2, wide / 2, hull / 2], squareness=square, rows=28, columns=40).moved([0, 0, low + hull / 2]), "paint")
    ]
    part = random.uniform(0.3, 0.9)
    middle = random.uniform(-0.3, 0.3) * length * (1 - part)
    body.append(
        Part(
            ellipsoid([length * part / 2, wide * 0.45, cabin], squareness=square, rows=28, columns=40).moved([middle, 0, low + hull * 0.9]),
            "paint",
        )
    )
    body.append(
        Part(
            ellipsoid([length * part / 2 * 0.92, wide * 0.455, cabin * 0.8], squareness=square, rows=28, columns=40).moved(
                [middle, 0, low + hull]
            ),
            "glass",
        )
    )
    radius = random.uniform(0.13, 0.22)
    for x in (-0.32, 0.32):
        for y in (-1, 1):
            wheel = (
                revolve([-0.06, -0.05, 0.05, 0.06], [0.001, 1, 1, 0.001], columns=28)
                .scaled([radius, radius, 1])
                .turned(rotation([1, 0, 0], math.pi / 2))
            )
            hub = (
                revolve([-0.065, -0.065, 0.065, 0.065], [0.001, 0.5, 0.5, 0.001], columns=20)
                .scaled([radius, radius, 1])
                .turned(rotation([1, 0, 0], math.pi / 2))
            )
            at = [x * length, y * wide * 0.47, radius]
            body += [Part(wheel.moved(at), "dark"), Part(hub.moved(at), "metal")]
    for x in (-1, 1):
        for y in (-1, 1):
            body.append(
                Part(
                    ellipsoid([0.03, 0.08, 0.06], rows=10, columns=12).moved([x * length * 0.48, y * wide * 0.3, low + hull * 0.6]),
                    "bright",
                )
            )
    return body


def building(random: np.random.Generator) -> Body:
    """A hut, house, tower or monument: blocks, a roof, openings."""
    body: Body = []
    wide, deep, top = random.uniform(0.4, 0.9), random.uniform(0.4, 0.8), 0.0
    for _ in range(int(random.integers(1, 4))):
        high = random.uniform(0.25, 0.8)
        body.append(Part(box([wide, deep, high]).moved([0, 0, top + high / 2]), "wall"))
        across, up = int(random.integers(1, 5)), max(1, int(high / 0.25))
        for x in (np.arange(across) + 0.5) / across - 0.5:
            for z in (np.arange(up) + 0.5) / up:
                body.append(Part(box([wide / across * 0.4, deep * 1.02, high / up * 0.55]).moved([x * wide, 0, top + z * high]), "glass"))
        top, wide, deep = top + high, wide * random.uniform(0.5, 1.05), deep * random.uniform(0.5, 1.0)
    if random.random() < 0.75:
        high = random.uniform(0.15, 0.7)
        corners = int(random.choice([5, 5, 9, 33]))
        roof = (
            revolve([0, 0, high], [0.001, 0.75, 0.001], columns=corners)
            .turned(rotation([0, 0, 1], math.pi / 4))
            .scaled([wide * 1.1, deep * 1.1, 1])
        )
        body.append(Part(replace(roof.moved([0, 0, top]), smooth=corners > 10), "roof"))
    return body


def flower(random: np.random.Generator) -> Body:
    """A stem with leaves and one or more heads of petals around a button."""
    body: Body = []
    for _ in range(int(random.choice([1, 1, 2, 3]))):
        top = np.array([random.normal(0, 0.2), random.normal(0, 0.2), random.uniform(0.4, 0.9)])
        body.append(Part(tube(curve([[0, 0, 0], top * [0.2, 0.2, 0.6], top], 8), random.uniform(0.01, 0.03), columns=8), "leaf"))
        petals, reach, width = int(random.integers(5, 16)), random.uniform(0.15, 0.4), random.uniform(0.05, 0.16)
        lift, facing = random.uniform(-0.1, 0.9), rotation([1, random.normal(0, 0.4), 0], random.uniform(0.1, 1.4))
        head: Body = [Part(ellipsoid([0.08, 0.08, 0.05], rows=12, columns=16), "other")]
        for ring in range(int(random.choice([1, 1, 2]))):
            for turn in np.linspace(0, 2 * math.pi, petals, endpoint=False) + 0.2 * ring:
                petal = ellipsoid([reach / 2, width, 0.012], rows=10, columns=14).moved([reach / 2, 0, 0])
                petal = petal.turned(rotation([0, 1, 0], -lift - 0.4 * ring)).turned(rotation([0, 0, 1], turn + random.normal(0, 0.06)))
                head.append(Part(petal, "bright"))
        body += [replace(part, mesh=part.mesh.turned(facing).moved(top)) for part in head]
    for _ in range(int(random.integers(0, 5))):
        leaf = ellipsoid([random.uniform(0.1, 0.25), 0.06, 0.01], rows=10, columns=14).moved([0.15, 0, 0])
        body.append(
            Part(
                leaf.turned(rotation([0, 1, 0], -random.uniform(0, 1)))
                .turned(rotation([0, 0, 1], random.uniform(0, 6.3)))
                .moved([0, 0, random.uniform(0.05, 0.4)]),
                "leaf",
            )
        )
    return body


def sign(random: np.random.Generator) -> Body:
    """A board on one or two posts, round or cornered, with marks on it."""
    corners = int(random.choice([3, 4, 4, 4, 6, 8, 40]))
    turn = np.linspace(0, 2 * math.pi, corners, endpoint=False) + math.pi / corners
    shape = np.stack([np.cos(turn), np.sin(turn)], -1) * random.uniform(0.2, 0.5, 2)
    high = random.uniform(0.4, 1.2)
    board = outline(shape, 0.03).moved([0, 0, high])
    body: Body = [Part(board, "bright"), Part(outline(shape * 0.85, 0.04).moved([0, 0, high]), "print")]
    for x in [0.0] if random.random() < 0.6 else [-0.18, 0.18]:
        body.append(Part(tube([[x, 0.03, 0], [x, 0.03, high]], random.uniform(0.015, 0.05), columns=12), "metal"))
    for _ in range(int(random.integers(0, 6))):
        mark = box([random.uniform(0.03, 0.3), 0.05, random.uniform(0.02, 0.08)])
        body.append(Part(mark.moved([random.uniform(-0.12, 0.12), 0, high + random.uniform(-0.15, 0.15)]), random.choice(["dark", "pale"])))
    return body


def insect(random: np.random.Generator) -> Body:
    """A butterfly or beetle with its wings open, leaning up."""
    body: Body = [
        Part(
            tube(curve([[0, -0.3, 0], [0, 0, 0.03], [0, 0.35, 0]], 10), 0.01 * np.array([2, 4, 5, 5, 4, 6, 6, 5, 5, 2]), columns=14), "dark"
        )
    ]
    flap = random.uniform(0, 1.1)
    turn = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    for reach, at, shape in ((random.uniform(0.35, 0.6), 0.15, 1.5), (random.uniform(0.25, 0.45), -0.12, 0.5)):
        radius = 1 + 0.25 * np.sin(2 * turn + shape) + random.uniform(0, 0.08) * np.sin(9 * turn)
        wing = outline(np.stack([np.cos(turn), np.sin(turn)], -1) * (radius * reach * 0.5)[:, None] * [1.0, 0.8], 0.006)
        wing = wing.turned(rotation([1, 0, 0], -math.pi / 2)).moved([reach * 0.5, at, 0]).turned(rotation([0, 1, 0], -flap))
        body += [Part(wing, "wing"), Part(wing.scaled([-1, 1, 1]), "wing")]
    for side in (-1, 1):
        body.append(Part(tube(curve([[0, 0.33, 0], [0.05 * side, 0.45, 0.1], [0.14 * side, 0.55, 0.05]], 6), 0.006, columns=6), "dark"))
    tilt = rotation([1, 0, 0], random.uniform(0, 1.3))
    return changed(body, lambda mesh: mesh.turned(tilt))


def sculpture(random: np.random.Generator) -> Body:
    """Anything joined to anything: balls, boxes, rods, rings, turned parts."""
    body: Body = []
    for _ in range(int(random.integers(2, 8))):
        kind = random.integers(5)
        if kind == 0:
            mesh = ellipsoid(random.uniform(0.1, 0.35, 3), squareness=random.choice([0.3, 1.0, 1.6]))
        elif kind == 1:
            mesh = box(random.uniform(0.08, 0.6, 3))
        elif kind == 2:
            mesh = tube(curve(random.normal(0, 0.35, (4, 3)), 20), random.uniform(0.02, 0.1), columns=14)
        elif kind == 3:
            turn = np.linspace(0, 2 * math.pi, 40)
            mesh = tube(
                random.uniform(0.15, 0.4) * np.stack([np.cos(turn), np.sin(turn), 0 * turn], -1), random.uniform(0.02, 0.08), closed=False
            )
        else:
            mesh = revolve(np.linspace(0, 0.6, 12), random.uniform(0.03, 0.25, 12))
        turned = mesh.turned(rotation(random.normal(size=3), random.uniform(0, 6.3) * (random.random() < 0.5)))
        body.append(Part(turned.moved(random.normal(0, 0.22, 3) + [0, 0, 0.3]), random.choice(["skin", "other", "metal"])))
    return body


def plant(random: np.random.Generator) -> Body:
    """A pot, a trunk or nothing, and a crown of leaves."""
    body: Body = []
    base = 0.0
    if random.random() < 0.5:
        base = random.uniform(0.15, 0.4)
        body.append(Part(revolve([0, 0, base, base, base - 0.03], [0.001, 0.14, 0.22, 0.19, 0.001]), "glaze"))
    high = base + random.uniform(0.05, 0.5)
    body.append(Part(tube(curve([[0, 0, base * 0.8], [random.normal(0, 0.05), 0, (base + high) / 2], [0, 0, high]], 6), 0.03), "frame"))
    crown = leaves(
        random,
        int(random.integers(80, 700)),
        spread=random.uniform(0.2, 0.4, 3),
        length=random.uniform(0.06, 0.25),
        width=random.uniform(0.02, 0.08),
    )
    body.append(Part(crown.moved([0, 0, high + 0.2]), "leaf"))
    return body


def fence(random: np.random.Generator) -> Body:
    """Posts and bars: thin structure to look through, and to throw shadows."""
    count, high = int(random.integers(4, 12)), random.uniform(0.3, 0.7)
    body: Body = [Part(tube([[x, 0, 0], [x, 0, high]], 0.015, columns=8), "frame") for x in np.linspace(-0.5, 0.5, count)]
    for z in random.uniform(0.1, 1, int(random.integers(1, 4))) * high:
        body.append(Part(box([1.05, 0.02, random.uniform(0.02, 0.06)]).moved([0, 0, z]), "frame"))
    return body


Rule = Callable[[np.random.Generator], Body]

THINGS: dict[Rule, float] = {
    creature: 4, person: 2.5, bird: 2, vessel: 1.2, furniture: 1.2, vehicle: 1.2, building: 1, flower: 1.5, sign: 0.8, insect: 1,
    sculpture: 1.5, lump: 1.2, plant: 0.6,
}  # fmt: skip
"""What a photograph is taken of, with how often."""
CLUTTER: dict[Rule, float] = {lump: 2, furniture: 1, vessel: 1, plant: 2, fence: 1, sculpture: 1, sign: 0.5, building: 0.7, person: 0.4}
"""What stands about."""


def any_body(random: np.random.Generator, rules: dict[Rule, float] | None = None) -> Body:
    """A body by one of `rules`, `THINGS` unless others are given."""
    chosen = rules or THINGS
    chances = np.array(list(chosen.values()), float)
    rule = list(chosen)[random.choice(len(chances), p=chances / chances.sum())]
    return rule(random)
