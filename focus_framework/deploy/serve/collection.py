"""Corrected masks that people keep: pairs in a folder that ``focus train --data`` reads."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from ...files.images import list_images, write_image
from ...files.ownership import claimed, is_ours
from .refusals import RefusedError

KIND = "pairs"
MOST = 10_000
"""Pairs that a service keeps, so that nobody fills a disk with it."""


class Collection:
    """``images/NAME.png`` and ``masks/NAME.png``, whose name is made of the image's content: the same image again replaces its mask."""

    def __init__(self, folder: Path, most: int = MOST) -> None:
        self.folder, self.most = folder, most
        self._lock = threading.Lock()
        self._names = {path.stem for path in list_images(folder / "masks")} if (folder / "masks").is_dir() else set()

    def __len__(self) -> int:
        return len(self._names)

    def keep(self, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> str:
        """Write a pair and return its name. Raises `DataError` where it cannot be written, `RefusedError` where there are too many."""
        name = hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest()[:16]
        with self._lock:
            if name not in self._names and len(self._names) >= self.most:
                raise RefusedError(507, f"{self.most} pairs are kept already; start the service with another folder")
            write_image(self.folder / "images" / f"{name}.png", image)
            write_image(self.folder / "masks" / f"{name}.png", mask.astype(np.uint8) * 255)
            self._names.add(name)
        return name


@contextmanager
def collecting(folder: Path | None) -> Iterator[Collection | None]:
    """The pairs of a folder, which is new, empty, or was filled by such a service before. Raises `ConfigError` and `DataError`."""
    if folder is None:
        yield None
        return
    if not is_ours(folder, KIND):
        raise ConfigError(f"--collect {folder} holds other files; give a new or empty folder, or one that focus serve has filled")
    with claimed(folder, KIND):
        yield Collection(folder)
