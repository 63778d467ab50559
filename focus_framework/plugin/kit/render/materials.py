"""What surfaces look like: photographed ones in other colours, noise with the spectrum of nature, coats, prints, plain paint."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .assets import surface, surfaces
from .mesh import Array

SIDE = 256
GROUNDS = ("100", "104", "105", "191", "213", "216", "388", "76", "79", "80", "83", "91", "145", "146", "178", "182", "steel")
WALLS = ("144", "145", "146", "147", "178", "179", "182", "216", "388", "191", "steel")
WILD = ("104", "105", "213", "216", "76", "79", "80", "91", "388")


@dataclass(frozen=True, kw_only=True)
class Material:
    """How a surface sends light back."""

    image: Array
    """Its colour `[h, w, 3]` uint8 sRGB, which repeats."""
    metres: float = 1.0
    """What one repeat of the image covers."""
    roughness: float = 0.6
    specular: float = 0.4
    metallic: float = 0.0
    glow: float = 0.0
    """Above 0 it is a lamp of that radiance and no surface."""


def noise(random: np.random.Generator, *, slope: float = 1.0, side: int = SIDE, lowest: float = 1.0) -> Array:
    """Seamless noise `[side, side]` of mean 0 and deviation 1 whose amplitude falls with frequency to the power of `slope`."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) * side
    gain = np.where(frequency < lowest, 0, np.maximum(frequency, 1) ** -slope)
    phase = np.exp(2j * np.pi * random.random(gain.shape))
    field = np.fft.irfft2(gain * phase, s=(side, side)).astype(np.float32)
    return (field - field.mean()) / field.std()


def colour(random: np.random.Generator, *, saturation: float | None = None, value: float | None = None) -> Array:
    """sRGB `[3]` in 0..1, by chance as things have them: earth, skin and fur often, pure colours seldom."""
    hue = random.choice(
        [random.normal(0.07, 0.04), random.normal(0.3, 0.07), random.normal(0.6, 0.06), random.random()], p=[0.5, 0.13, 0.17, 0.2]
    )
    s = float(random.beta(1.3, 2.4)) if saturation is None else saturation
    v = float(random.beta(1.5, 1.5) * 0.85 + 0.08) if value is None else value
    return np.array(colorsys.hsv_to_rgb(hue % 1, s, v))


def tinted(random: np.random.Generator, name: str, *, strength: float | None = None) -> Array:
    """A photographed surface, partly in another colour, lighter or darker, flatter or not."""
    image = surface(name).astype(np.float32) / 255
    grey = image.mean(axis=2, keepdims=True)
    amount = random.choice([0.0, random.uniform(0, 0.9)]) if strength is None else strength
    target = colour(random, saturation=random.beta(1.3, 2.8))
    relative = grey / max(float(grey.mean()), 1e-3)
    image = (1 - amount) * image + amount * relative * target * 0.8
    mean = image.mean(axis=(0, 1))
    level = random.uniform(0.25, 0.65) / max(float(mean.mean()), 1e-3)
    image = (mean + (image - mean) * random.uniform(0.6, 1.1)) * level ** random.uniform(0.5, 1)
    return _bytes(image)


def ramp(random: np.random.Generator, field: Array, colours: Sequence[Array]) -> Array:
    """A field of deviation 1 run through colours."""
    place = np.linspace(-1.6, 1.6, len(colours))
    return np.stack([np.interp(field, place, [c[k] for c in colours]) for k in range(3)], axis=-1)


def shades(random: np.random.Generator, base: Array, *, count: int = 3, contrast: float = 0.5, spread: float = 0.06) -> list[Array]:
    """Colours around one, from dark to light."""
    levels = np.linspace(1 - contrast, 1 + 0.4 * contrast, count)
    return [np.clip(base * level + random.normal(0, spread, 3), 0.01, 0.98) for level in levels]


def coat(random: np.random.Generator, base: Array | None = None, *, calm: bool = False) -> Array:
    """Fur, feathers, bark, cloth: shades of one colour by noise, often with spots, stripes or patches of a second, which is a
    shade of the first where `calm`."""
    base = colour(random) if base is None else base
    image = ramp(random, noise(random, slope=random.uniform(0.7, 1.5)), shades(random, base, contrast=random.uniform(0.15, 0.6)))
    kind = random.choice(["plain", "spots", "patches", "stripes", "grain"], p=[0.5, 0.1, 0.13, 0.12, 0.15])
    second = (colour(random) if not calm and random.random() < 0.5 else np.clip(base * random.choice([0.25, 0.4, 1.6, 2.2]), 0.02, 0.95))[
        None, None
    ]
    if kind in ("spots", "patches"):
        centre = random.uniform(5, 14) if kind == "spots" else random.uniform(1.5, 4)
        field = cv2.GaussianBlur(noise(random, slope=0.4), (0, 0), SIDE / centre / 6, borderType=cv2.BORDER_REFLECT_101)
        cover = _edge(field / field.std(), random.uniform(-0.2, 1.0))
        image = image + (second - image) * cover[..., None]
    elif kind == "stripes":
        across = np.linspace(0, 2 * math.pi, SIDE, endpoint=False) * int(random.integers(3, 16))
        bend = cv2.GaussianBlur(noise(random, slope=1.5), (0, 0), 6)
        wave = np.sin((across[:, None] if random.random() < 0.5 else across[None]) + random.uniform(0, 2.5) * bend)
        image = image + (second - image) * _edge(wave, random.uniform(-0.3, 0.6))[..., None]
    elif kind == "grain":
        image = image * (1 + random.uniform(0.1, 0.3) * noise(random, slope=0.1)[..., None])
    return _bytes(image)


def print_(random: np.random.Generator) -> Array:
    """Letters, figures and boxes of a few colours, as on packs, signs, screens and shirts."""
    image = np.empty((SIDE, SIDE, 3), np.float32)
    image[:] = colour(random)
    fonts = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX)
    for _ in range(int(random.integers(2, 9))):
        ink = tuple(float(c) for c in colour(random))
        x, y = (int(v) for v in random.integers(0, SIDE, 2))
        kind = random.integers(3)
        if kind == 0:
            word = "".join(chr(int(c)) for c in random.integers(65, 91, int(random.integers(1, 8))))
            cv2.putText(
                image, word, (x - 60, y), int(random.choice(fonts)), random.uniform(0.8, 4), ink, int(random.integers(1, 8)), cv2.LINE_AA
            )
        elif kind == 1:
            cv2.rectangle(image, (x, y), (x + int(random.integers(10, 160)), y + int(random.integers(5, 90))), ink, -1)
        else:
            cv2.circle(image, (x, y), int(random.integers(6, 60)), ink, -1, cv2.LINE_AA)
    return _bytes(image)


def plain(random: np.random.Generator, base: Array | None = None) -> Array:
    """Paint, skin, plastic: one colour, hardly uneven."""
    base = colour(random) if base is None else base
    return _bytes(base * (1 + random.uniform(0, 0.06) * noise(random, slope=1.3)[..., None]))


def tiles(random: np.random.Generator) -> Array:
    """Boards, tiles, bricks or checks with joints between them."""
    across, up = int(random.integers(1, 9)), int(random.integers(2, 12))
    base, joint = colour(random, saturation=random.beta(1, 3.5)), colour(random, saturation=random.beta(1, 4))
    tones = base * (1 + random.uniform(0.02, 0.35) * random.normal(size=(up, across, 1)))
    image = np.repeat(np.repeat(tones, math.ceil(SIDE / up), 0), math.ceil(SIDE / across), 1)
    image = cv2.resize(image.astype(np.float32), (SIDE, SIDE))
    image *= 1 + random.uniform(0.02, 0.2) * noise(random, slope=random.uniform(0.5, 1.4))[..., None]
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    gap = np.minimum(np.abs((y * up) % 1 - 0.5) - 0.5, 0) * -1
    beside = np.minimum(np.abs((x * across) % 1 - 0.5) - 0.5, 0) * -1
    edge = np.minimum(gap / up, beside / across) < random.uniform(0.002, 0.012)
    image[edge] = joint
    return _bytes(image)


def windows(random: np.random.Generator) -> Array:
    """A front of a house: rows of panes in a wall."""
    wall = tinted(random, str(random.choice(WALLS))) if random.random() < 0.5 else tiles(random)
    image = cv2.resize(wall, (SIDE, SIDE))
    across, up = int(random.integers(2, 6)), int(random.integers(2, 6))
    wide, high = random.uniform(0.3, 0.75), random.uniform(0.4, 0.8)
    for row in range(up):
        for column in range(across):
            x, y = (column + (1 - wide) / 2) / across, (row + (1 - high) / 2) / up
            first, last = (int(x * SIDE), int(y * SIDE)), (int((x + wide / across) * SIDE), int((y + high / up) * SIDE))
            pane = colour(random, saturation=0.25, value=float(random.choice([0.08, 0.12, 0.2, 0.35, 0.8])))
            cv2.rectangle(image, first, last, tuple(float(c) * 255 for c in pane), -1)
            cv2.rectangle(image, first, last, (200, 200, 195) if random.random() < 0.6 else (50, 45, 40), 2)
    return image


def ground(random: np.random.Generator, *, wild: bool) -> Material:
    """Earth, grass, gravel, paving, boards, carpet."""
    names = WILD if wild else GROUNDS
    if random.random() < 0.7:
        image = tinted(random, str(random.choice(names)), strength=max(0.0, random.uniform(-0.2, 0.4)))
        metres = random.uniform(0.8, 3.5)
    elif random.random() < 0.5 and not wild:
        image, metres = tiles(random), random.uniform(1, 4)
    else:
        image, metres = coat(random, colour(random, saturation=random.beta(1.3, 3.5)), calm=True), random.uniform(1, 4)
    shiny = not wild and random.random() < 0.25
    return Material(
        image=image, metres=metres, roughness=random.uniform(0.15, 0.4) if shiny else random.uniform(0.6, 1), specular=0.5 if shiny else 0.2
    )


def wall(random: np.random.Generator) -> Material:
    """Plaster, wallpaper, bricks, boards, a house's front."""
    kind = random.choice(["photo", "plain", "tiles", "paper", "windows"], p=[0.35, 0.25, 0.15, 0.1, 0.15])
    makers: dict[str, Callable[[], Array]] = {
        "photo": lambda: tinted(random, str(random.choice(WALLS)), strength=max(0.0, random.uniform(-0.3, 0.6))),
        "plain": lambda: plain(random, colour(random, saturation=random.beta(1, 4))),
        "tiles": lambda: tiles(random),
        "paper": lambda: coat(random, colour(random, saturation=random.beta(1.3, 3)), calm=True),
        "windows": lambda: windows(random),
    }
    image = makers[str(kind)]()
    return Material(
        image=image,
        metres=random.uniform(5, 9) if kind == "windows" else random.uniform(1, 4),
        roughness=random.uniform(0.5, 1),
        specular=0.2,
    )


def of_part(random: np.random.Generator, name: str, base: Array) -> Material:
    """The material of a part of a body by its name; `base` is the colour `[3]` that the body's coat has."""
    gloss = {"roughness": float(random.uniform(0.15, 0.5)), "specular": 0.5}
    matt = {"roughness": float(random.uniform(0.5, 1)), "specular": float(random.uniform(0.1, 0.4))}
    metres = float(random.uniform(0.3, 1.2))
    if name in ("dark", "hair"):
        return Material(
            image=plain(random, colour(random, saturation=0.2, value=random.uniform(0.02, 0.2 if name == "dark" else 0.5))), **gloss
        )
    if name == "pale":
        return Material(image=plain(random, colour(random, saturation=random.uniform(0, 0.3), value=random.uniform(0.6, 0.95))), **matt)
    if name == "glass":
        return Material(image=plain(random, colour(random, saturation=0.2, value=random.uniform(0.05, 0.3))), roughness=0.1, specular=0.7)
    if name == "metal":
        return Material(image=plain(random, colour(random, saturation=0.15)), roughness=random.uniform(0.1, 0.5), metallic=0.9)
    if name == "skin" and random.random() < 0.8:
        shade = random.uniform(0.15, 0.9)
        return Material(image=plain(random, shade * np.array([1, random.uniform(0.68, 0.8), random.uniform(0.5, 0.66)])), **matt)
    if name == "leaf":
        return Material(image=leafage(random), metres=1.0, **matt)
    if name in ("bright", "paint"):
        return Material(image=plain(random, colour(random, saturation=random.uniform(0.3, 0.95), value=random.uniform(0.4, 0.95))), **gloss)
    if name == "print" or (name in ("shirt", "glaze", "other", "cloth", "wing") and random.random() < 0.2):
        return Material(image=print_(random), metres=metres, **matt)
    if name in ("wall", "roof", "board", "frame") and random.random() < 0.6:
        return Material(image=tinted(random, str(random.choice(surfaces()))), metres=metres * 2, **matt)
    kind = random.choice(["coat", "photo", "plain"], p=[0.55, 0.2, 0.25])
    image = {
        "coat": lambda: coat(random, base if name == "coat" else None),
        "photo": lambda: tinted(random, str(random.choice(surfaces()))),
        "plain": lambda: plain(random, base if name == "coat" else None),
    }[str(kind)]()
    return Material(image=image, metres=metres, **(gloss if random.random() < 0.25 else matt))


def leafage(random: np.random.Generator) -> Array:
    """Tones of leaves or grass, one a blade."""
    hue = float(random.choice([random.normal(0.26, 0.04), random.normal(0.13, 0.04), random.random()], p=[0.7, 0.22, 0.08]))
    base = np.array(colorsys.hsv_to_rgb(hue % 1, random.uniform(0.25, 0.7), random.uniform(0.25, 0.6)))
    tones = base * np.clip(1 + 0.35 * random.normal(size=(32, 32, 1)), 0.3, 1.9) + 0.03 * random.normal(size=(32, 32, 3))
    return _bytes(tones)


def _edge(field: Array, level: float) -> Array:
    return np.clip(0.5 + 4 * (field - level), 0, 1)


def _bytes(image: Array) -> Array:
    return (np.clip(image, 0.01, 0.97) * 255 + 0.5).astype(np.uint8)
