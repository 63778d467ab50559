"""Images with the mask of one thing in each, made of CC0 surfaces and CC0 panoramas: what `focus data generate --from` composes of.

    python starter/make_sources.py --surfaces DIR --panoramas DIR --count 1000 --size 256 --out sources

Surfaces are photographs of materials (.jpg), panoramas are equirectangular light (.exr, read with mitsuba). A thing is an outline out of
the framework's kit whose parts have surfaces of their own and are shaded as if they bulged. Image N of a seed is the same everywhere, and
images that are there already are left as they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from focus_framework.files.images import write_image
from focus_framework.plugin.kit.practice import blur, light_gradient, mix, of_fair_share, photograph
from focus_framework.plugin.kit.silhouettes import any_silhouette, draw, place

Array = NDArray[np.float32]
Random = np.random.Generator


def read_surfaces(folder: Path) -> list[Array]:
    """Linear light of each surface."""
    files = sorted(folder.rglob("*.jpg"))
    return [np.square(cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB).astype(np.float32) / 255) for file in files]


def read_panoramas(folder: Path) -> list[Array]:
    """Linear light of each panorama, scaled so that the median is middle grey."""
    import mitsuba

    mitsuba.set_variant("scalar_rgb")
    found = []
    for file in sorted(folder.rglob("*.exr")):
        bitmap = mitsuba.Bitmap(str(file)).convert(mitsuba.Bitmap.PixelFormat.RGB, mitsuba.Struct.Type.Float32, srgb_gamma=False)
        light = np.clip(np.nan_to_num(np.array(bitmap)), 0, None)
        found.append(np.clip(light * np.float32(0.18 / max(float(np.median(light)), 1e-4)), 0, 4).astype(np.float32))
    return found


def recoloured(random: Random, surface: Array, strength: float) -> Array:
    """The pattern of a surface in other colours."""
    grey = surface.mean(axis=2, keepdims=True)
    saturation = random.uniform(0, 1.6)
    tint = np.exp(random.normal(0, strength, 3)).astype(np.float32)
    contrast = np.float32(random.uniform(0.5, 1.6))
    level = np.float32(np.exp(random.normal(0, strength)))
    mean = float(grey.mean()) + 1e-3
    pattern = mean * (np.clip(grey + (surface - grey) * saturation, 1e-4, 1) / mean) ** contrast
    return np.clip(pattern * tint * level, 0, 1)


def material(random: Random, surfaces: list[Array], size: int, *, strength: float) -> Array:
    """`[size, size, 3]`: a part of a surface at any scale and angle, or (a quarter) a plain colour with a trace of one."""
    surface = surfaces[random.integers(len(surfaces))]
    scale = np.exp(random.uniform(np.log(0.4), np.log(2.5)))
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), random.uniform(0, 360), scale)
    matrix[:, 2] += random.uniform(-1, 1, 2) * size
    drawn = cv2.warpAffine(surface, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    if random.random() < 0.25:
        plain = np.square(random.uniform(0.05, 1, 3)).astype(np.float32)
        return np.clip(plain * (0.75 + 0.25 * drawn / (drawn.mean() + 1e-3)), 0, 1)
    return recoloured(random, drawn, strength)


def seen(random: Random, panorama: Array, size: int) -> Array:
    """A perspective view `[size, size, 3]` of a panorama."""
    height, width = panorama.shape[:2]
    reach = np.tan(np.radians(random.uniform(22, 48)))
    turn, tilt = random.uniform(0, 2 * np.pi), random.normal(0, 0.25)
    v, u = np.mgrid[0:size, 0:size].astype(np.float32) / size * 2 - 1
    ray = np.stack([u * reach, v * reach, np.ones_like(u)])
    y, z = ray[1] * np.cos(tilt) - ray[2] * np.sin(tilt), ray[1] * np.sin(tilt) + ray[2] * np.cos(tilt)
    across = (np.arctan2(ray[0], z) + turn) / (2 * np.pi) * width
    down = (np.arctan2(y, np.hypot(ray[0], z)) / np.pi + 0.5) * height
    return cv2.remap(panorama, across.astype(np.float32), down.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP).clip(0, 4)


def ground(random: Random, surfaces: list[Array], panoramas: list[Array], size: int) -> Array:
    """What lies behind and below: a view of a panorama, a surface seen from above, or a floor before a view or a wall."""
    kind = random.choice(["view", "surface", "floor"], p=[0.4, 0.25, 0.35])
    if kind == "surface":
        return material(random, surfaces, size, strength=0.15) * light_gradient(random, size)[..., None]
    back = seen(random, panoramas[random.integers(len(panoramas))], size)
    if random.random() < 0.25:
        back = material(random, surfaces, size, strength=0.15)
    if kind == "floor":
        horizon = random.uniform(0.3, 0.75)
        flat = material(random, surfaces, 2 * size, strength=0.15)
        top = random.uniform(0.3, 0.7) * size
        corners = np.array([[0, 0], [2 * size, 0], [2 * size, 2 * size], [0, 2 * size]], np.float32)
        onto = np.array([[top, 0], [size * 2 - top, 0], [size * 3, size], [-size, size]], np.float32)
        onto[:, 0] -= size / 2
        onto[:, 1] = (horizon + (1 - horizon) * onto[:, 1] / size) * size
        laid = cv2.warpPerspective(flat, cv2.getPerspectiveTransform(corners, onto), (size, size), borderMode=cv2.BORDER_REFLECT_101)
        below = np.broadcast_to((np.arange(size) / size >= horizon)[:, None], (size, size)).astype(np.float32)
        back = mix(back, laid * 0.8, blur(below, random.uniform(0.3, 2)))
    return back


def shading(random: Random, coverage: Array) -> Array:
    """How bright each pixel of a bulging thing is, about 1 on the side of the light."""
    inside = (coverage > 0.5).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    bulge = blur(np.sqrt(depth * max(float(depth.max()), 1)), 1.5) * random.uniform(0.3, 1)
    dy, dx = np.gradient(bulge)
    angle, height = random.uniform(0, 2 * np.pi), random.uniform(0.4, 1.2)
    light = (np.cos(angle) * dx + np.sin(angle) * dy + height) / np.sqrt(1 + dx**2 + dy**2) / np.hypot(1, height)
    ambient = random.uniform(0.15, 0.6)
    return (ambient + (1 - ambient) * np.clip(light, 0, None)).astype(np.float32)


def pair(random: Random, surfaces: list[Array], panoramas: list[Array], size: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """One image and the mask of its thing."""
    light = ground(random, surfaces, panoramas, size)
    for _ in range(random.integers(0, 4)):  # smaller things that are not meant
        outline = place(any_silhouette(random), centre=random.random(2), scale=random.uniform(0.06, 0.2), angle=random.normal(0, 0.4))
        bit = draw(outline, size)
        light = mix(light, material(random, surfaces, size, strength=0.2) * shading(random, bit)[..., None], bit)
    light = blur(light, random.choice([0, 0, 0.7, 1.5, 3, 5]) * size / 256)

    def things() -> Array:
        outlines[:] = [
            place(
                any_silhouette(random),
                centre=random.normal(0.5, [0.16, 0.12], 2),
                scale=random.uniform(0.35, 1.1),
                angle=random.normal(0, 0.25),
                flip=random.random() < 0.5,
            )
            for _ in range(1 + (random.random() < 0.2))
        ]
        return np.max([draw(outline, size) for outline in outlines], axis=0)

    outlines: list[list[np.ndarray]] = []
    coverage = of_fair_share(things, shares=(0.03, 0.55), attempts=200)
    skin = material(random, surfaces, size, strength=0.4)
    if random.random() < 0.6:
        for part in (part for outline in outlines for part in outline):
            if random.random() < 0.5:
                own = draw([part], size)
                skin = mix(skin, material(random, surfaces, size, strength=0.4), own)
    foot = blur(cv2.warpAffine(coverage, np.float32([[1, 0, 0], [0, 1, size * 0.03]]), (size, size)), size * 0.02)
    light = light * (1 - random.uniform(0, 0.7) * foot * (1 - coverage))[..., None]
    lit = skin * shading(random, coverage)[..., None] * random.uniform(0.6, 1.3)
    edge = blur(coverage, random.uniform(0.4, 0.9))
    quality = None if random.random() < 0.4 else int(random.integers(60, 96))
    return photograph(random, mix(light, lit, edge), noise=random.uniform(0.001, 0.02), quality=quality), coverage > 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--surfaces", type=Path, required=True)
    parser.add_argument("--panoramas", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    surfaces, panoramas = read_surfaces(options.surfaces), read_panoramas(options.panoramas)
    for index in range(options.count):
        image, mask = (options.out / part / f"{index:05d}.png" for part in ("images", "masks"))
        if image.exists() and mask.exists():
            continue
        made = pair(np.random.default_rng([options.seed, index]), surfaces, panoramas, options.size)
        write_image(image, made[0])
        write_image(mask, made[1] * np.uint8(255))


if __name__ == "__main__":
    main()
