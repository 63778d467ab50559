# ruff: noqa: RUF005 - arrays are added here, not lists joined
"""Places by rule: where things stand, what stands around them, and from where they are seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from . import bodies, materials
from .bodies import CLUTTER, Body, Part, any_body, bounds, changed, standing
from .light import Light, daylight
from .mesh import Array, curve, leaves, rotation, tube
from .scene import Camera, Scene, Thing, dressed, plane, towards

PLACES = {"open": 0.34, "wild": 0.2, "street": 0.12, "room": 0.18, "above": 0.08, "sky": 0.08}
"""Kinds of places with their shares."""
FOLIAGE = 2
"""The label of trees, bushes and plants in the sun."""


def clutter(
    random: np.random.Generator, count: int, *, near: float, far: float, clear: float, size: tuple[float, float] = (0.15, 1.2)
) -> list[Thing]:
    """Things that stand about between `near` and `far` metres behind (negative is before) the middle, none nearer to it than
    `clear`."""
    found: list[Thing] = []
    while len(found) < count:
        at = np.array([random.uniform(-1, 1) * (2 + far * 0.5), random.uniform(near, far), 0.0])
        scale = math.exp(random.uniform(*np.log(size)))
        if np.hypot(at[0], at[1]) < clear + scale * 0.7:
            at = at * (clear + scale) / max(float(np.hypot(at[0], at[1])), 0.1)
        body = standing(any_body(random, CLUTTER), size=scale, angle=random.uniform(0, 2 * math.pi), at=at)
        found.append(dressed(random, body))
    return found


def meadow(random: np.random.Generator, *, reach: float, height: float, count: int) -> Thing:
    """Grass or stalks that stand around."""
    blades = leaves(
        random, count, spread=[reach, reach, 0], length=height, width=height * random.uniform(0.04, 0.15), upright=random.uniform(0.7, 1)
    )
    green = materials.Material(image=materials.leafage(random), metres=1.0, roughness=0.8, specular=0.2)
    return Thing(body=[Part(blades, "leaf")], materials={"leaf": green})


def bushes(random: np.random.Generator, count: int, *, near: float, far: float, spread: float) -> list[Thing]:
    """Crowns of leaves behind, some on trunks."""
    found = []
    for _ in range(count):
        size = random.uniform(0.5, 2.0)
        at = np.array([random.uniform(-spread, spread), random.uniform(near, far), 0.0])
        crown = leaves(
            random,
            int(random.integers(200, 1200)),
            spread=size * random.uniform(0.5, 1, 3),
            length=random.uniform(0.1, 0.35),
            width=random.uniform(0.04, 0.15),
        )
        high = random.choice([size * 0.5, random.uniform(1, 3)])
        body = [
            Part(crown.moved(at + [0, 0, high]), "leaf"),
            Part(tube(curve([at, at + [0.1, 0, high / 2], at + [0, 0, high]], 6), 0.04 + 0.06 * size, columns=10), "frame"),
        ]
        found.append(dressed(random, body))
    return found


def place(random: np.random.Generator, kind: str, *, size: float, shiny: bool = True) -> tuple[list[Thing], Light]:
    """Everything but the answer, around a thing of `size` metres that stands at the origin and is seen from -y."""
    things: list[Thing] = []
    far = 60.0
    if kind != "sky":
        ground = materials.ground(random, wild=kind == "wild")
        if not shiny:
            ground = replace(ground, roughness=0.9, specular=0.2)
        turn = rotation([0, 0, 1], random.uniform(0, 6.3))
        things.append(
            plane(
                replace(ground, metres=ground.metres * max(size, 0.5) ** 0.7),
                at=[0, 0, 0],
                across=turn @ [far, 0, 0],
                up=turn @ [0, far, 0],
            )
        )
    back = size * random.uniform(0.8, 5)
    if kind == "open":
        things += clutter(random, int(random.integers(0, 6)), near=0.3 * size, far=back + 3, clear=size)
        things += bushes(random, int(random.choice([0, 0, 2, 6])), near=back, far=back + 6, spread=8)
        if random.random() < 0.15:
            things.append(_wall(random, back + size, 12))
        return things, daylight(random, indoors=random.random() < 0.1)
    if kind == "wild":
        things.append(
            meadow(
                random, reach=size * random.uniform(1.5, 4), height=size * random.uniform(0.05, 0.3), count=int(random.integers(1000, 9000))
            )
        )
        things += bushes(random, int(random.integers(1, 9)), near=size * 0.8, far=size * 6, spread=size * 4)
        things += clutter(random, int(random.integers(0, 4)), near=0, far=size * 4, clear=size * 0.8, size=(0.1 * size, 0.6 * size))
        return things, daylight(random)
    if kind == "street":
        wall = _wall(random, back + size * 0.6, random.uniform(4, 20))
        things.append(wall)
        if random.random() < 0.4:
            side = random.choice([-1, 1])
            things.append(
                plane(materials.wall(random), at=[side * (size * 1.5 + random.uniform(0, 3)), 0, 3], across=[0, 20, 0], up=[0, 0, 4])
            )
        things += clutter(
            random, int(random.integers(1, 7)), near=0.2, far=back + size * 0.5, clear=size * 0.9, size=(0.3 * size, 1.5 * size)
        )
        return things, daylight(random)
    if kind == "room":
        wide, deep, high = size * random.uniform(1.2, 4) + 0.5, back, size * random.uniform(1.6, 3)
        paint = materials.wall(random)
        things.append(plane(paint, at=[0, deep, high / 2], across=[wide, 0, 0], up=[0, 0, high / 2]))
        for side in (-1, 1):
            if random.random() < 0.6:
                things.append(
                    plane(
                        paint if random.random() < 0.6 else materials.wall(random),
                        at=[side * wide, 0, high / 2],
                        across=[0, deep, 0],
                        up=[0, 0, high / 2],
                    )
                )
        things += clutter(random, int(random.integers(1, 8)), near=-0.2, far=deep * 0.9, clear=size * 0.8, size=(0.15 * size, 0.9 * size))
        if random.random() < 0.4:
            boards = plane(
                materials.Material(image=materials.print_(random) if random.random() < 0.6 else materials.coat(random), metres=1.0),
                at=[random.uniform(-1, 1) * size, deep - 0.02, high * 0.5],
                across=[0.4 * size, 0, 0],
                up=[0, 0, 0.3 * size],
            )
            things.append(boards)
        if random.random() < 0.5:
            glow = materials.Material(image=materials.plain(random), glow=random.uniform(4, 25))
            at = [random.uniform(-1, 1) * wide, random.uniform(-1, 0.5) * deep - size, high * 1.3]
            things.append(plane(glow, at=at, across=[0.5 * size, 0, 0], up=[0, 0.4 * size, 0]))
        return things, daylight(random, indoors=random.random() < 0.75, sun=0.25)
    if kind == "above":
        things += clutter(
            random, int(random.integers(0, 6)), near=-size * 1.5, far=size * 1.5, clear=size * 0.7, size=(0.05 * size, 0.5 * size)
        )
        if random.random() < 0.4:
            things.append(meadow(random, reach=size * 2, height=size * random.uniform(0.04, 0.15), count=int(random.integers(1000, 6000))))
        return things, daylight(random)
    if random.random() < 0.5:
        things += bushes(random, int(random.integers(1, 6)), near=size, far=size * 6, spread=size * 3)
    return things, daylight(random, sun=0.5)


def _wall(random: np.random.Generator, at: float, wide: float) -> Thing:
    return plane(
        materials.wall(random),
        at=[random.normal(0, 1), at, 2.5],
        across=[wide, random.normal(0, 0.15) * wide, 0],
        up=[0, 0, random.uniform(2.5, 5)],
    )


def view(random: np.random.Generator, kind: str) -> Camera:
    """A camera that looks at the origin from -y; `towards` brings it near."""
    steep = {"above": random.uniform(45, 88), "sky": random.uniform(-40, 10), "room": random.uniform(2, 35)}.get(
        kind, float(abs(random.normal(8, 10)))
    )
    turn = random.normal(0, 18)
    rise, side = math.radians(steep), math.radians(turn)
    eye = np.array([math.sin(side) * math.cos(rise), -math.cos(side) * math.cos(rise), math.sin(rise)])
    return Camera(eye=eye, target=np.zeros(3), fov=math.exp(random.uniform(math.log(16), math.log(62))), roll=random.normal(0, 3))


def of_things(random: np.random.Generator, bodies: list[Body], *, share: float, kind: str | None = None, lens: bool = True) -> Scene:
    """A scene of some place around `bodies`, which stand about the origin and take about `share` of the picture; their label is 1."""
    kind = kind or str(random.choice(list(PLACES), p=np.array(list(PLACES.values())) / sum(PLACES.values())))
    low, high = bounds([part for body in bodies for part in body])
    size = float((high - low).max())
    things, light = place(random, kind, size=size)
    if kind == "sky":
        lift = random.uniform(1, 6) * size
        bodies = [changed(body, lambda mesh: mesh.moved([0, 0, lift])) for body in bodies]
        low, high = low + [0, 0, lift], high + [0, 0, lift]
        if len(things) and random.random() < 0.6:
            things = [replace(thing, body=changed(thing.body, lambda mesh: mesh.moved([0, 0, lift - size]))) for thing in things]
    camera = towards(random, view(random, kind), low, high, share=share)
    if lens and random.random() < 0.6:
        distance = float(np.linalg.norm(camera.eye - camera.target))
        camera = replace(camera, aperture=distance * math.exp(random.uniform(math.log(0.004), math.log(0.04))))
    things += [dressed(random, body, label=1) for body in bodies]
    return Scene(things=things, light=light, camera=camera)


def in_the_sun(random: np.random.Generator) -> Scene:
    """A place in sunlight with things that throw shadows, some of them beside or behind the camera. What has leaves besides other parts has
    the label `FOLIAGE`, all else 0."""
    kind = str(random.choice(["open", "wild", "street", "above", "close"], p=[0.37, 0.05, 0.26, 0.14, 0.18]))
    size = random.uniform(0.7, 1.6)
    things, _ = place(random, "above" if kind == "close" else kind, size=size, shiny=False)
    if kind == "close":
        things = things[:1]
    things = [_calm(thing) for thing in things]
    clear = 0.5 if kind in ("open", "wild", "street") else 0.0
    light = daylight(random, sun=1.0, strength=(1.8, 9.0), sky_only=True, narrow=True, clear=clear)
    while kind == "street" and light.towards_sun[1] > 0.1:  # a wall that turns its back to the sun is dark as a whole
        light = daylight(random, sun=1.0, strength=(1.8, 9.0), sky_only=True, narrow=True, clear=clear)
    camera = view(random, "above" if kind in ("above", "close") else "open")
    level = kind not in ("above", "close") and random.random() < 0.45  # the horizon and the sky are in the image
    if kind not in ("above", "close"):
        eye = camera.eye + [0, 0, abs(random.normal(0.02, 0.06) if level else random.normal(0.25, 0.2))]
        camera = replace(camera, eye=eye / np.linalg.norm(eye), fov=random.uniform(28, 62))
    reach = size * random.uniform(2, 6) if kind != "close" else random.uniform(0.8, 2.5)
    middle = np.array([0.0, 0.0, reach * random.uniform(0.1, 0.3) if level else random.uniform(0, 0.5)])
    camera = replace(camera, eye=middle + camera.eye * reach, target=middle, focus=reach)
    for _ in range(int(random.choice([0, 1, 2, 4])) if kind != "close" else 0):
        at = np.array([random.uniform(-1, 1) * reach * 0.35, random.uniform(-0.25, 0.7) * reach, 0])
        body = standing(any_body(random), size=size * random.uniform(0.4, 1.4), angle=random.uniform(0, 6.3), at=at)
        things.append(dressed(random, body))
    for _ in range(int(random.choice([0, 1, 2, 3], p=[0.25, 0.3, 0.25, 0.2])) + (kind == "close")):
        things.append(_caster(random, light.towards_sun, reach, middle))
    for _ in range(int(random.choice([0, 1, 2], p=[0.55, 0.3, 0.15]))):  # dark, and lit all the same
        dark = materials.Material(
            image=materials.plain(random, materials.colour(random, saturation=0.2, value=random.uniform(0.08, 0.25))),
            roughness=0.9,
            specular=0.1,
        )
        at = np.array([random.uniform(-0.4, 0.4) * reach, random.uniform(-0.2, 0.6) * reach, 0.004])
        turn = rotation([0, 0, 1], random.uniform(0, 6.3))
        if random.random() < 0.5:
            things.append(
                plane(dark, at=at, across=turn @ [random.uniform(0.1, 0.8) * size, 0, 0], up=turn @ [0, random.uniform(0.1, 1.5) * size, 0])
            )
        else:
            body = standing(any_body(random, CLUTTER), size=size * random.uniform(0.2, 0.7), at=[at[0], at[1], 0])
            things.append(dressed(random, body, materials={"*": dark}))
    return Scene(things=[replace(thing, label=FOLIAGE if _has_leaves(thing) else 0) for thing in things], light=light, camera=camera)


def _has_leaves(thing: Thing) -> bool:
    """Whether it is a tree, a bush or a plant; grass is nothing but leaves."""
    return {"leaf"} < {part.material for part in thing.body}


def _calm(thing: Thing, most: float = 0.3) -> Thing:
    """The thing with planes of no stronger colour than the ground has outdoors."""

    def muted(material: materials.Material) -> materials.Material:
        image = material.image.astype(np.float32)
        grey = image.mean(axis=2, keepdims=True)
        strength = float((np.ptp(image, axis=2) / np.maximum(image.max(axis=2), 1)).mean())
        return replace(material, image=np.clip(grey + (image - grey) * min(1.0, most / max(strength, 1e-3)), 0, 255).astype(np.uint8))

    return replace(thing, materials={name: muted(found) if name == "plane" else found for name, found in thing.materials.items()})


def _caster(random: np.random.Generator, sun: Array, reach: float, middle: Array) -> Thing:
    """Something out of the picture whose shadow falls into it: anything that stands, a crown, a roof's edge, a bar."""
    hit = middle * [1, 1, 0] + [random.uniform(-0.45, 0.45) * reach, random.uniform(-0.3, 0.5) * reach, 0]
    kind = random.choice(["body", "crown", "board", "bar"], p=[0.4, 0.25, 0.25, 0.1])
    away = reach * random.uniform(0.6, 1.6)
    at = hit + sun * away
    if kind == "crown":
        crown = leaves(
            random,
            int(random.integers(60, 900)),
            spread=reach * random.uniform(0.08, 0.35, 3),
            length=reach * random.uniform(0.04, 0.15),
            width=reach * random.uniform(0.02, 0.08),
        )
        return dressed(random, [Part(crown.moved(at), "leaf")])
    if kind == "board":
        turn = rotation([0, 0, 1], random.uniform(0, 6.3))
        sides = reach * random.uniform(0.06, 0.7, 2)
        tilt = turn @ rotation([1, 0, 0], random.uniform(0, 1.5))
        return plane(materials.wall(random), at=at, across=tilt @ [sides[0], 0, 0], up=tilt @ [0, sides[1], 0])
    if kind == "bar":
        way = random.normal(size=3) * [1, 1, 0.3]
        way *= reach / np.linalg.norm(way)
        return dressed(random, [Part(tube([at - way, at + way], reach * random.uniform(0.01, 0.05)), "metal")])
    body = standing(any_body(random), size=reach * random.uniform(0.25, 0.9), angle=random.uniform(0, 6.3))
    low, high = bounds(body)
    return dressed(random, changed(body, lambda mesh: mesh.moved(at - (low + high) / 2)))


def hidden(random: np.random.Generator) -> Scene:
    """Something that wears the surface it lies, stands or sits on; its label is 1."""
    kind = str(random.choice(["wild", "above", "bark"], p=[0.5, 0.25, 0.25]))
    surface = materials.ground(random, wild=True)
    rule: dict[bodies.Rule, float] = {
        bodies.creature: 3.0,
        bodies.bird: 2.0,
        bodies.insect: 2.0,
        bodies.lump: 1.0,
        bodies.sculpture: 0.5,
        bodies.person: 0.5,
    }
    body = standing(any_body(random, rule), angle=random.uniform(0, 6.3))
    things, light = place(random, "above" if kind == "bark" else kind, size=1.0)
    things = things[1:] if kind != "bark" else []
    turn = rotation([0, 0, 1], random.uniform(0, 6.3))
    things.append(plane(surface, at=[0, 0, 0], across=turn @ [60.0, 0, 0], up=turn @ [0, 60.0, 0]))
    if kind == "bark":
        things.append(plane(surface, at=[0, 0.35, 2], across=[12.0, 0, 0], up=[0, 0, 3.0]))
        body = changed(body, lambda mesh: mesh.moved([0, 0, random.uniform(0.2, 1.0)]))
    if random.random() < 0.4:
        light = daylight(random, sun=0.15)
    skin = replace(surface, metres=surface.metres * math.exp(random.uniform(-0.5, 0.2)), roughness=0.9, specular=0.1)
    if random.random() < 0.7:  # the tone is not quite the same
        skin = replace(skin, image=np.clip(skin.image * random.normal(1, 0.1) * (1 + random.normal(0, 0.04, 3)), 2, 250).astype(np.uint8))
    low, high = bounds(body)
    share = float(np.clip(np.exp(random.normal(math.log(0.14), 0.6)), 0.04, 0.5))
    camera = towards(random, view(random, "above" if kind == "above" else "open"), low, high, share=share, drift=0.14)
    things.append(dressed(random, body, label=1, materials={"*": skin}))
    for _ in range(int(random.integers(0, 3))):  # what lies before it breaks its outline
        blades = leaves(
            random,
            int(random.integers(20, 200)),
            spread=[0.6, 0.3, 0.05],
            length=0.35,
            width=random.uniform(0.02, 0.08),
            upright=random.uniform(0, 1),
        )
        things.append(Thing(body=[Part(blades.moved([random.normal(0, 0.4), -0.35, low[2]]), "leaf")], materials={"leaf": skin}))
    return Scene(things=things, light=light, camera=camera)


def in_focus(random: np.random.Generator) -> Scene:
    """A scene seen by a fast lens that is focused on a thing, before or behind it."""
    found = [standing(any_body(random), angle=random.uniform(0, 6.3))]
    for _ in range(int(random.integers(0, 3))):
        at = [random.uniform(-1.2, 1.2), random.uniform(-1.2, 2.5), 0]
        found.append(standing(any_body(random), size=random.uniform(0.4, 1.1), angle=random.uniform(0, 6.3), at=at))
    scene = of_things(random, found[:1], share=random.uniform(0.12, 0.6), lens=False)
    scene.things.extend(dressed(random, body) for body in found[1:])
    camera = scene.camera
    near = float(np.linalg.norm(camera.eye - camera.target))
    focus = max(near - 0.2, 0.5 * near) * float(
        random.choice([1.0, random.uniform(0.75, 1.0), random.uniform(1.0, 2.0)], p=[0.75, 0.1, 0.15])
    )
    wide = math.radians(math.exp(random.uniform(math.log(0.8), math.log(3.5))) * camera.fov / 40)  # the angle of a blurred point far away
    return replace(scene, camera=replace(camera, focus=focus, aperture=wide * focus / 2))
