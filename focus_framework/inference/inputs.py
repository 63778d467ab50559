"""Anything that people hold an image in, as `[H, W, 3]` uint8 RGB. Knows torch's tensors without importing torch."""

from __future__ import annotations

import io
import sys
from os import PathLike
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import DataError
from ..files.images import read_image

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import TypeIs

ImageLike: TypeAlias = "str | PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | NDArray[Any] | Tensor"
"""A path; the content of an image file, or an open one; a PIL image; an array `[H, W]`, `[H, W, 1]`, `[H, W, 3]` or `[H, W, 4]` or, as
tensors are, with the channels first. See `as_array` for the values."""
CHANNELS = (1, 3, 4)
FORMS = "a path, bytes, an open file, a PIL image, an array [H, W], [H, W, 3] or [H, W, 4], or a tensor [3, H, W]"
SLACK = 0.05
"""How far floats may leave their range, as a share of it: interpolation overshoots a little."""


def is_batch(image: object) -> bool:
    """Whether these are several images in one array or tensor, `[B, H, W, C]` or `[B, C, H, W]`."""
    return (isinstance(image, np.ndarray) or _is_tensor(image)) and image.ndim == 4


def _is_tensor(image: object) -> TypeIs[Tensor]:
    """Whether it is one of torch's; nobody can have made one where torch is not loaded."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def split_batch(images: NDArray[Any] | Tensor) -> list[NDArray[np.uint8]]:
    """The images of a batch. The rule for floats looks at all of them together."""
    values = _bytes_of(images)
    if not len(values):
        raise DataError(f"an empty batch: its shape is {list(images.shape)}")
    return [_rgb(value, first=_is_tensor(images)) for value in values]


def as_array(image: ImageLike) -> NDArray[np.uint8]:
    """Any of the accepted kinds of image as `[H, W, 3]` uint8 RGB.

    Bytes are taken as they are, 16 bits are scaled to 8, booleans are black and white. Floats lie in 0..1 or, where one is above 1 by more
    than an interpolation overshoots (0.05), in 0..255. Grey is repeated, alpha is dropped. Raises `DataError` for what is none of these,
    is empty, not finite or below zero.
    """
    if isinstance(image, str | PathLike):
        return read_image(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return read_image(bytes(image))
    if isinstance(image, Image.Image):
        if not image.width * image.height:
            raise DataError(f"an image of {image.width} x {image.height} pixels has nothing to look at")
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if isinstance(image, np.ndarray) or _is_tensor(image):
        return _rgb(_bytes_of(image), first=_is_tensor(image))
    if hasattr(image, "read"):
        return _read(image)
    raise DataError(f"an image is {FORMS}, not {type(image).__name__}")


def _read(file: Any) -> NDArray[np.uint8]:
    name = getattr(file, "name", "") or "the open file"
    content = file.read()
    if not isinstance(content, bytes):
        raise DataError(f'{name} is open as text; open it with "rb"')
    if isinstance(file, io.IOBase) and not content:
        raise DataError(f"{name} has nothing left to read; open it again, or seek to its beginning")
    return read_image(content, name=str(name))


def _bytes_of(image: NDArray[Any] | Tensor) -> NDArray[np.uint8]:
    """The same values as uint8, whatever the shape."""
    if _is_tensor(image):
        moved = image.detach().cpu()
        return _bytes_of((moved.float() if str(moved.dtype) == "torch.bfloat16" else moved).numpy())
    if not image.size:
        raise DataError(f"an array of the shape {list(image.shape)} is no image: it has nothing to look at")
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * 255
    if image.dtype == np.uint16:
        return np.rint(image * (255 / 65535)).astype(np.uint8)
    if image.dtype.kind in "iu":
        if image.min() < 0 or image.max() > 255:
            raise DataError(f"whole numbers of an image lie in 0..255, these in {image.min()}..{image.max()}")
        return image.astype(np.uint8)
    if image.dtype.kind != "f":
        raise DataError(f"an image is {FORMS}, not an array of {image.dtype}")
    return _from_floats(image)


def _from_floats(image: NDArray[Any]) -> NDArray[np.uint8]:
    lowest, highest = float(image.min()), float(image.max())
    if not np.isfinite([lowest, highest]).all():
        raise DataError("an image of floats must be finite; this one has NaN or infinite values")
    scale = 1.0 if highest > 1 + SLACK else 255.0
    if lowest < -SLACK * max(highest, 1.0):
        raise DataError(f"floats of an image lie in 0..1 or 0..255, these in {lowest:.3g}..{highest:.3g}; give it before it is normalised")
    return np.clip(np.rint(image.astype(np.float64) * scale), 0, 255).astype(np.uint8)


def _rgb(values: NDArray[np.uint8], *, first: bool) -> NDArray[np.uint8]:
    """`[H, W]`, or with its channels `first` or last, to `[H, W, 3]`. An array whose last axis cannot be channels has them first."""
    if values.ndim == 2:
        return np.repeat(values[..., None], 3, axis=2)
    if values.ndim == 3:
        if first or (values.shape[2] not in CHANNELS and values.shape[0] in CHANNELS):
            values = values.transpose(1, 2, 0)
        if values.shape[2] == 1:
            return np.repeat(values, 3, axis=2)
        if values.shape[2] in CHANNELS:
            return np.ascontiguousarray(values[..., :3])
    raise DataError(f"an image is {FORMS}, not of the shape {list(values.shape)}")
