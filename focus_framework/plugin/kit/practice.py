"""Practice images: procedurally generated from a seed, so that any task can be tried without a download.

A task plugin's ``practice(random, size)`` puts them together from `textures` (what surfaces look like), `silhouettes` (what things
look like) and the light and camera below. Colours are linear until `photograph`, so that shade, mixture and blur act on light.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import cv2
import numpy as np

from ...errors import PluginError
from ..calls import calling
from ..interfaces import Task, resolve
from .silhouettes import any_silhouette, draw, place
from .textures import Array, Texture, any_texture, centres, lean

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
        if shares[0] <= np.count_nonzero(coverage > 0.5) / coverage.size <= shares[1]:
            return coverage
    raise ValueError(f"none of {attempts} coverages takes between {shares[0]:.0%} and {shares[1]:.0%} of the image")


def each(values: Array, channels: int = 3) -> Array:
    """`[H, W]` repeated to `[H, W, channels]`: numpy multiplies that five times as fast as `values[..., None]`."""
    return cv2.merge([values] * channels)


def mix(below: Array, above: Array, coverage: Array) -> Array:
    """`above` laid over `below` where `coverage` `[H, W]` is 1; images are `[H, W, 3]`."""
    if below.shape == above.shape and below.dtype == above.dtype == coverage.dtype == np.float32:
        return cv2.blendLinear(below, above, 1 - coverage, coverage).reshape(below.shape)
    return below + (above - below) * coverage[..., None]


def paint(picture: Array, texture: Texture, plane: tuple[Array, Array], coverage: Array, *, light: Array | None = None) -> None:
    """Lay a surface over `picture` `[H, W, 3]` itself, where `coverage` `[H, W]` is above 0, in `light` `[H, W, 3]` if given.

    As `mix` with ``texture(*plane)``, but the texture is looked at no further than where it is seen.
    """
    left, top, width, height = cv2.boundingRect((coverage > 0).view(np.uint8))
    if not width:
        return
    part = np.s_[top : top + height, left : left + width]
    colours = texture(plane[0][part], plane[1][part])
    if light is not None:
        colours = colours * light[part]
    picture[part] = mix(picture[part], colours, coverage[part])


def blur(array: Array, sigma: float) -> Array:
    """Gaussian blur by `sigma` pixels of `[H, W]` or `[H, W, 3]`; next to none leaves it as it is."""
    if sigma < 0.2:
        return array
    height, width = array.shape[:2]
    step = min(int(sigma / 1.5), height // 16, width // 16)
    if step < 2:
        return cv2.GaussianBlur(array, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    # A wide blur of fewer pixels looks the same in a tenth of the time. Taking means and interpolating blur a little too: each by a
    # variance of a twelfth and a sixth of the step's square.
    small = cv2.resize(array, (width // step, height // step), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), math.sqrt((sigma / step) ** 2 - 0.25), borderType=cv2.BORDER_REFLECT)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def moved(array: Array, *, down: int, right: int) -> Array:
    """`[H, W]` or `[H, W, 3]` moved by pixels, at least 0; its upper and left borders go on into what becomes free."""
    height, width = array.shape[:2]
    return cv2.copyMakeBorder(array, down, 0, right, 0, cv2.BORDER_REPLICATE)[:height, :width]


def light_gradient(random: np.random.Generator, size: int, *, darkest: float = 0.5) -> Array:
    """Light `[size, size]` that falls from 1 to as little as `darkest`, to one side or away from a lamp."""
    x, y = centres(size)
    angle, low = random.uniform(0, 2 * math.pi), random.uniform(darkest, 1)
    if random.random() < 0.5:
        fall = cv2.addWeighted(x, math.cos(angle), y, math.sin(angle), 0.5)
    else:
        across, along = random.uniform(-0.5, 0.5, 2).astype(np.float32)
        fall = cv2.magnitude(x - across, y - along)
    return 1 - np.float32(1 - low) * np.clip(fall, 0, 1)


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
        paint(picture, material, plane, draw(border, size))
    for _ in range(things):
        surface = any_texture(random, coarseness=0.6 * coarseness, **colours)
        outline = place(any_silhouette(random), centre=random.random(2), scale=random.uniform(0.15, 0.4), angle=random.normal(0, 0.4))
        paint(picture, surface, plane, draw(outline, size))
    return picture * each(light_gradient(random, size))


def photograph(random: np.random.Generator, light: Array, *, noise: float = 0.01, quality: int | None = None) -> NDArray[np.uint8]:
    """What a camera makes of linear light `[H, W, 3]`: exposure, white balance, at times a lens that darkens the corners, gamma, grain
    of standard deviation `noise` at middle grey and less in the dark, 8 bits, and compression as JPEG of that `quality`, if any."""
    height, width = light.shape[:2]
    some = light[:: max(height // 32, 1), :: max(width // 32, 1)].max(axis=2)
    exposure = random.uniform(0.7, 1.1) / max(float(np.quantile(some, 0.97)), 0.05)
    gains = (exposure * np.exp(random.normal(0, 0.03, 3))).tolist()
    if random.random() < 0.4:
        lens = 1 - np.float32(random.uniform(0, 0.35)) * _from_centre(height, width)
        encoded = light * cv2.merge([lens * gain for gain in gains])
    else:
        encoded = cv2.multiply(light, (*gains, 0))
    # a gamma of 2 is near sRGB's curve at a quarter of the time, and a line near the square root that grain grows with
    cv2.sqrt(np.clip(encoded, 0, 1, out=encoded), encoded)
    grained = cv2.addWeighted(encoded, 255 * noise, encoded, 255 * 0.1 * noise, 255 * 0.4 * noise) * grain(random, height, width)
    image = np.asarray(cv2.addWeighted(encoded, 255, grained, 1, 0, dtype=cv2.CV_8U), np.uint8)
    return image if quality is None else jpeg(image, quality)


@lru_cache(8)
def _from_centre(height: int, width: int) -> Array:
    """The square of the distance from the centre, 1 in the corners, not to be written to."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    return (x**2 + y**2) / 2


def grain(random: np.random.Generator, height: int, width: int) -> Array:
    """Normal noise `[height, width, 3]`: a part of what is drawn once a process, as drawing it takes longer than all else of an image."""
    field = _grain()
    side = len(field)
    if max(height, width) > side:
        field = np.tile(field, (height // side + 2, width // side + 2, 1))
    top, left = (int(random.integers(0, whole - part + 1)) for whole, part in zip(field.shape, (height, width), strict=False))
    return field[top : top + height, left : left + width]


@cache
def _grain() -> Array:
    # The array of float64 is freed at once, and from then on glibc keeps as much for what comes next. Otherwise it would give the memory
    # of each image back, and fetch it again for the next one: 1,700 page faults and a third of the time.
    return np.random.default_rng(0).standard_normal((640, 640, 3)).astype(np.float32)


def stored(random: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB `[H, W, 3]` uint8 as files come: most were stored as JPEG once, some twice or never."""
    for _ in range(int(random.choice([0, 1, 2], p=[0.25, 0.6, 0.15]))):
        image = jpeg(image, int(random.integers(60, 97)))
    return image


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """RGB `[H, W, 3]` uint8 after being stored as JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, stored = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.cvtColor(cv2.imdecode(stored, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
