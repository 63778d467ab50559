"""Practice images: procedurally generated from a seed, so that any task can be tried without a download.

A task plugin's ``practice(random, size)`` puts them together from `textures` (what surfaces look like), `silhouettes` (what things
look like) and the light and camera below. Colours are linear until `photograph`, so that shade, mixture and blur act on light.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import cv2
import numpy as np

from ...errors import PluginError
from ..calls import calling
from ..interfaces import Task, resolve
from .silhouettes import any_silhouette, draw, place
from .textures import Array, any_texture, lean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..interfaces import PracticePair

Split: TypeAlias = Literal["train", "validation", "test"]
Engine: TypeAlias = Literal["draw", "render"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SHARES = (0.03, 0.6)
"""The smallest and the largest part of a practice image that its mask covers."""
HALF_PLANE = np.array([(-2.0, 0.0), (2.0, 0.0), (2.0, 2.0), (-2.0, 2.0)])
"""A polygon that covers whatever lies on one side of its centre."""


def practice_pair(task: Task, *, seed: int, split: Split, index: int, size: int, engine: Engine = "draw") -> PracticePair:
    """Practice image `index` of a split: RGB pixels `[size, size, 3]` uint8 and its mask `[size, size]` bool.

    The arguments alone decide the result; `engine` says whether the task draws it (milliseconds) or renders it (seconds). Raises
    `PluginError` where the task makes no practice images of that kind or wrong ones.
    """
    make, call = (task.practice, "practice()") if engine == "draw" else (task.render, "render()")
    if make is None:
        lacks = "makes no practice images; give it images with --data"
        raise PluginError(f"task {task.name} {lacks if engine == 'draw' else 'renders no practice images; leave --engine render away'}")
    random = np.random.default_rng([seed, SPLITS.index(split), index])
    with calling(f"task {task.name}", call):
        offered: Any = resolve(make)(random, size)
    return checked_pair(offered, size, f"task {task.name}: {call}")


def checked_pair(offered: Any, size: int, source: str) -> PracticePair:
    """What a task's `practice` or `compose` gave, `source` in errors, if it is an image `[size, size, 3]` uint8 and a mask
    `[size, size]` bool. Raises `PluginError` that says what it is instead."""
    if not isinstance(offered, tuple | list) or len(offered) != 2:
        got = f"{len(offered)} values" if isinstance(offered, tuple | list) else _told(offered)
        raise PluginError(f"{source} must give an image and a mask, it gave {got}")
    for what, array, shape, kind in (("an image", offered[0], (size, size, 3), "uint8"), ("a mask", offered[1], (size, size), "bool")):
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != kind:
            raise PluginError(f"{source} must give {what} of {kind} {list(shape)}, it gave {_told(array)}")
    return offered[0], offered[1]


def _told(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def of_fair_share(make: Callable[[], Array], *, shares: tuple[float, float] = SHARES, attempts: int = 50) -> Array:
    """The first of the coverages `[H, W]` that `make` draws whose part above one half lies within `shares`.

    Raises `ValueError` after so many in vain: `make` is at fault then.
    """
    for _ in range(attempts):
        coverage = make()
        if shares[0] <= (coverage > 0.5).mean() <= shares[1]:
            return coverage
    raise ValueError(f"none of {attempts} coverages takes between {shares[0]:.0%} and {shares[1]:.0%} of the image")


def mix(below: Array, above: Array, coverage: Array) -> Array:
    """`above` laid over `below` where `coverage` `[H, W]` is 1; images are `[H, W, 3]`."""
    return below + (above - below) * coverage[..., None]


def blur(array: Array, sigma: float) -> Array:
    """Gaussian blur by `sigma` pixels of `[H, W]` or `[H, W, 3]`; next to none leaves it as it is."""
    if sigma < 0.2:
        return array
    return cv2.GaussianBlur(array, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def moved(array: Array, *, down: int, right: int) -> Array:
    """`[H, W]` or `[H, W, 3]` moved by pixels, at least 0; its upper and left borders go on into what becomes free."""
    height, width = array.shape[:2]
    return cv2.copyMakeBorder(array, down, 0, right, 0, cv2.BORDER_REPLICATE)[:height, :width]


def light_gradient(random: np.random.Generator, size: int, *, darkest: float = 0.5) -> Array:
    """Light `[size, size]` that falls from 1 to as little as `darkest`, to one side or away from a lamp."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle, low = random.uniform(0, 2 * math.pi), random.uniform(darkest, 1)
    if random.random() < 0.5:
        fall = (x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle) + 0.5
    else:
        fall = np.hypot(x - random.uniform(0, 1), y - random.uniform(0, 1))
    return 1 - (1 - low) * np.clip(fall, 0, 1)


def scene(
    random: np.random.Generator,
    size: int,
    *,
    things: int,
    coarseness: float = 1.0,
    beyond: Mapping[str, Any] | None = None,
    **colours: Any,
) -> Array:
    """Linear light `[size, size, 3]` of a ground with so many things on it, under uneven light.

    `coarseness` and `colours` go to `textures.any_texture`, for all surfaces alike. Half of the grounds are of two materials, or
    all are where `beyond` says what is different about the colours of the second.
    """
    plane = lean(random, size, tilt=random.choice([0.0, 0.5]))
    picture = any_texture(random, coarseness=coarseness, **colours)(*plane)
    if beyond is not None or random.random() < 0.5:
        border = place([HALF_PLANE], centre=random.uniform(0.25, 0.75, 2), scale=1, angle=random.uniform(0, 2 * math.pi))
        material = any_texture(random, coarseness=coarseness, **(colours | dict(beyond or {})))
        picture = mix(picture, material(*plane), draw(border, size))
    for _ in range(things):
        surface = any_texture(random, coarseness=0.6 * coarseness, **colours)(*plane)
        outline = place(any_silhouette(random), centre=random.random(2), scale=random.uniform(0.15, 0.4), angle=random.normal(0, 0.4))
        picture = mix(picture, surface, draw(outline, size))
    return picture * light_gradient(random, size)[..., None]


def photograph(random: np.random.Generator, light: Array, *, noise: float = 0.01, quality: int | None = None) -> NDArray[np.uint8]:
    """What a camera makes of linear light `[H, W, 3]`: exposure, gamma, grain of standard deviation `noise`, 8 bits, and
    compression as JPEG of that `quality`, if any."""
    exposure = random.uniform(0.7, 1.1) / max(float(np.quantile(light[::4, ::4].max(axis=2), 0.97)), 0.05)
    picture = np.sqrt(np.clip(light * np.float32(exposure), 0, 1))  # a gamma of 2: near sRGB's curve, at a quarter of the time
    picture += np.float32(noise) * random.standard_normal(picture.shape, dtype=np.float32)
    image = np.clip(np.round(picture * 255), 0, 255).astype(np.uint8)
    return image if quality is None else jpeg(image, quality)


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """RGB `[H, W, 3]` uint8 after being stored as JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, stored = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.cvtColor(cv2.imdecode(stored, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
