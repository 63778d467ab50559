"""Images and masks, from any file and to any file: the one place where pixels enter and leave.

Pillow decodes. OpenCV is a tenth to a third quicker on a JPEG, but it cannot tell an image's size before it has decoded it and
says nothing of why it could not, so it reads only what Pillow does not know (Radiance HDR). What a file is
called does not matter: its content decides.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from ..errors import ConfigError, DataError
from .atomic import replacing
from .reading import regular

ImageArray: TypeAlias = NDArray[np.uint8]
Foreground: TypeAlias = Literal["white", "black"]
Source: TypeAlias = str | os.PathLike[str] | bytes
"""A path, or the content of a file."""

MAX_PIXELS = 100_000_000
"""Images with more pixels are refused before they are decoded; the variable FOCUS_MAX_PIXELS changes it."""

SUFFIXES = frozenset({
    ".avif", ".bmp", ".dib", ".gif", ".hdr", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo",
    ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".ras", ".tga", ".tif", ".tiff", ".webp",
})  # fmt: skip
"""What `list_images` takes for an image."""


def read_image(source: Source, *, max_pixels: int | None = None, name: str = "") -> ImageArray:
    """Any image as `[H, W, 3]` uint8 RGB: turned as EXIF says, alpha dropped, 16 bits scaled to 8, grey repeated.

    Raises `DataError`, which names the file (or says `name`), where it is missing, broken, no image, or larger than
    `max_pixels` (`MAX_PIXELS` unless given).
    """
    pixels = _decode(source, max_pixels, name)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def read_grey(source: Source, *, max_pixels: int | None = None, name: str = "") -> ImageArray:
    """A mask or a map of grey values as `[H, W]` uint8; of a coloured one the brightest channel. Raises as `read_image`.

    The brightest channel, not the luminance: saturated red on black is a mask too, and its luminance is 30 %.
    """
    pixels = _decode(source, max_pixels, name)
    return pixels if pixels.ndim == 2 else pixels.max(axis=2)


def read_mask(
    source: Source,
    *,
    foreground: Foreground = "white",
    size: tuple[int, int] | None = None,
    max_pixels: int | None = None,
    name: str = "",
) -> NDArray[np.bool_]:
    """A mask as `[H, W]` bool, true where its file is above half of the range (below, for a `foreground` of black).

    `size` is the (height, width) of the image that it belongs to; a mask of another size raises `DataError` with both.
    """
    white = read_grey(source, max_pixels=max_pixels, name=name) > 127
    if size is not None and white.shape != tuple(size):
        raise DataError(
            f"mask {_label(source, name)} is {_size(*white.shape)} but its image is {_size(*size)} (width x height); "
            "give a mask of the image's size"
        )
    return white if foreground == "white" else ~white


def write_image(path: str | os.PathLike[str], array: ImageArray, *, software: str = "") -> None:
    """Write uint8 `[H, W]` (grey), `[H, W, 3]` (RGB) or `[H, W, 4]` (RGBA) in the format of the suffix.

    The file is written beside its name and renamed into place, so that a reader sees all of it or none. Folders above it are
    made. `software` is noted in a PNG, as what made it. Raises `DataError` where it cannot be written, or its suffix is that of no
    format.
    """
    path = Path(path)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"images are uint8 [H, W], [H, W, 3] or [H, W, 4], not {array.dtype} {list(array.shape)}")
    try:
        with replacing(path) as beside:
            Image.fromarray(np.ascontiguousarray(array)).save(beside, format=_format(path), **_noted(path, software))
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The images of a folder by their suffix, sorted by name, hidden files left out. Raises `DataError` for no folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist" if not folder.exists() else f"{folder} is not a folder")
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted(path for path in found if not path.is_dir())  # what is no regular file is told when it is read


def _decode(source: Source, max_pixels: int | None, name: str) -> ImageArray:
    """`[H, W]` or `[H, W, 3]` uint8."""
    limit = pixel_limit() if max_pixels is None else max_pixels
    label = _label(source, name)
    if not isinstance(source, bytes):
        regular(source)
    try:
        with _open(source) as picture:
            _check_size(label, picture.height, picture.width, limit)
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            return _eight_bits(picture)
    except UnidentifiedImageError:
        return _decode_radiance(source if isinstance(source, bytes) else Path(source).read_bytes(), label, limit)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever they trip over: OSError, SyntaxError, struct.error, IndexError ...
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"cannot read {label}: {reason}") from error


def pixel_limit() -> int:
    """The most pixels of an image, as FOCUS_MAX_PIXELS says. Raises `ConfigError` where it says no whole number."""
    text = os.environ.get("FOCUS_MAX_PIXELS", "").strip() or str(MAX_PIXELS)
    if not text.isdecimal() or int(text) == 0:
        raise ConfigError(f"the variable FOCUS_MAX_PIXELS is {text!r}; it must be a whole number of pixels above 0")
    return int(text)


def _decode_radiance(content: bytes, label: str, limit: int) -> ImageArray:
    """Radiance HDR, the one common format that OpenCV alone knows."""
    if not content:
        raise DataError(f"cannot read {label}: the file is empty")
    pixels = None
    if content.startswith(b"#?"):
        try:
            import cv2
        except ModuleNotFoundError:  # the runner without torch does without it
            raise DataError(f"cannot read {label}: Radiance HDR needs OpenCV; run: pip install opencv-python-headless") from None
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise DataError(f"cannot read {label}: not an image, or the beginning of the file is damaged")
    _check_size(label, pixels.shape[0], pixels.shape[1], limit)
    return pixels


_pillow_limit = threading.Lock()


@contextmanager
def _open(source: Source) -> Iterator[Image.Image]:
    """Open with our limit instead of Pillow's global one, which is put back; opening reads the header and no more."""
    with _pillow_limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(io.BytesIO(source) if isinstance(source, bytes) else Path(source))
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with picture:
        yield picture


def _check_size(label: str, height: int, width: int, limit: int) -> None:
    if height * width > limit:
        raise DataError(
            f"{label} is {_size(height, width)}, more than the limit of {limit / 1e6:g} million pixels; "
            "make it smaller, or set FOCUS_MAX_PIXELS to allow it"
        )


def _eight_bits(picture: Image.Image) -> ImageArray:
    """The pixels of an opened image of any mode, alpha dropped."""
    mode = picture.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        return _scaled(np.array(picture))
    if mode in ("La", "RGBa"):  # a TIFF with colours already multiplied by its alpha
        picture = picture.convert(mode.upper())
    if mode in ("1", "L", "LA", "La"):
        return np.array(picture.convert("L"))
    if mode in ("P", "PA"):  # by way of RGBA: the direct way warns where a colour of the palette is transparent
        picture = picture.convert("RGBA")
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _scaled(values: NDArray[Any]) -> ImageArray:
    """Grey values of more than eight bits: integers are of 16 bits; floats lie in 0..1 or, where one is above 1, in 0..255."""
    if values.dtype.kind in "iu":
        scale = 255 / 65535
    else:
        values = np.nan_to_num(values)
        scale = 255.0 if values.max(initial=0) <= 1 else 1.0
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)


def _format(path: Path) -> str:
    known = Image.registered_extensions()
    if path.suffix.lower() not in known:
        raise DataError(f"cannot write {path}: no image format has the suffix {path.suffix!r}; use .png")
    return known[path.suffix.lower()]


def _noted(path: Path, software: str) -> dict[str, Any]:
    """What Pillow is told for a file that says what made it."""
    if not software or path.suffix.lower() != ".png":
        return {}
    note = PngImagePlugin.PngInfo()
    note.add_text("Software", software)
    return {"pnginfo": note}


def _label(source: Source, name: str) -> str:
    return name or ("image" if isinstance(source, bytes) else os.fspath(source))


def _size(height: int, width: int) -> str:
    return f"{width} x {height}"
