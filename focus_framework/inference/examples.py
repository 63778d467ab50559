"""Examples that say what is foreground: images with masks, in whatever form people hold them."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Example
from ..data.pairs import find_pairs
from ..errors import DataError
from ..files.images import read_mask
from .inputs import ImageLike, as_array

MOST = 256
"""All of them are in memory together."""


def read(pairs: str | PathLike[str] | Sequence[tuple[ImageLike, ImageLike]]) -> list[Example]:
    """Images `[H, W, 3]` uint8 with masks `[H, W]` bool, of a folder and the like (`find_pairs`) or of pairs. Raises `DataError` where
    there is none, an image and its mask are of two sizes, or no mask has a foreground, or none a background."""
    if isinstance(pairs, str | PathLike):
        examples = [pair.read() for pair in find_pairs(fspath(pairs))[: MOST + 1]]
    else:
        examples = [_read(image, mask, number) for number, (image, mask) in enumerate(pairs, 1)]
    if not examples:
        raise DataError("no examples: give at least one image with its mask")
    if len(examples) > MOST:
        raise DataError(f"more than {MOST} examples; give fewer, or train on them: focus train")
    for what, missing in (("foreground", not any(m.any() for _, m in examples)), ("background", all(m.all() for _, m in examples))):
        if missing:
            raise DataError(f"none of the masks of the {len(examples)} example(s) has any {what}; masks are white where the foreground is")
    return examples


def _read(image: ImageLike, mask: ImageLike, number: int) -> Example:
    picture, inside = as_array(image), _mask(mask)
    if picture.shape[:2] != inside.shape:
        sizes = [f"{width}x{height}" for height, width in (picture.shape[:2], inside.shape)]
        raise DataError(f"example {number}: the image is {sizes[0]} and its mask {sizes[1]} (width x height); they must be equal")
    return picture, inside


def _mask(mask: ImageLike) -> NDArray[np.bool_]:
    if isinstance(mask, str | PathLike):
        return read_mask(Path(mask))
    return as_array(mask).max(axis=2) > 127
