"""An image and its mask, and what a search for such pairs brings to light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files.images import Foreground, ImageArray, read_image, read_mask

Split: TypeAlias = Literal["train", "validation", "test"]

SPLITS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What the folders of each part are called."""


def split_named(name: str) -> Split | None:
    """The part that somebody calls ``val``, ``Training`` and so on."""
    return next((split for split, names in SPLITS.items() if name.lower() in names), None)


def as_foreground(value: str, where: str) -> Foreground:
    """The polarity that somebody wrote. Raises `DataError`, which says `where`."""
    for foreground in get_args(Foreground):
        if value == foreground:
            return foreground
    raise DataError(f"{where}: foreground is {value!r}; it must be white or black")


@dataclass(frozen=True)
class Pair:
    """An image, the mask that belongs to it, and the name that reports and predictions give it."""

    image: Path
    mask: Path
    foreground: Foreground
    name: str
    """Unique in its data set; the path below the folder of images, without suffix."""
    split: Split | None = field(default=None, kw_only=True)
    """The part it belongs to, where its data set says so."""
    transposed: bool = field(default=False, kw_only=True)
    """The file of the mask has rows for columns."""

    def read_image(self) -> ImageArray:
        """`[H, W, 3]` uint8 RGB. Raises `DataError`."""
        return read_image(self.image)

    def read_mask(self, size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
        """`[H, W]` bool. Raises `DataError`, also where the mask has not the `size` (height, width) of its image."""
        if not self.transposed:
            return read_mask(self.mask, foreground=self.foreground, size=size)
        return read_mask(self.mask, foreground=self.foreground, size=size and size[::-1]).T

    def read(self) -> tuple[ImageArray, NDArray[np.bool_]]:
        """Image and mask, of one size. Raises `DataError`."""
        image = self.read_image()
        return image, self.read_mask(image.shape[:2])


@dataclass(frozen=True)
class EmptyPair(Pair):
    """An image without foreground and without a file that says so, as an authentic image of a forgery set."""

    def read_mask(self, size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
        return np.zeros(size or self.read_image().shape[:2], dtype=bool)


@dataclass(frozen=True)
class Scan:
    """All that a reference leads to."""

    pairs: tuple[Pair, ...]
    lonely_images: tuple[Path, ...] = ()
    """Images for which no mask was found."""
    lonely_masks: tuple[Path, ...] = ()
    """Masks for which no image was found."""
    missing: tuple[str, ...] = ()
    """Files that are named somewhere and are not there, and where they are named."""

    def __add__(self, other: Scan) -> Scan:
        return Scan(
            self.pairs + other.pairs,
            self.lonely_images + other.lonely_images,
            self.lonely_masks + other.lonely_masks,
            self.missing + other.missing,
        )


def first(paths: Sequence[Path], count: int = 3) -> str:
    """The first few, for an error."""
    more = f" and {len(paths) - count} more" if len(paths) > count else ""
    return ", ".join(str(path) for path in paths[:count]) + more
