"""Contact sheets of data: what the images and their masks look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..files.images import SUFFIXES, ImageArray, write_image
from ..files.ownership import refuse_to_replace
from ..files.sheets import contact_sheet, overlay
from ..plugin.interfaces import Task
from ..plugin.kit.practice import practice_pair
from .pairs import find_pairs

PRACTICE = "practice"
PRACTICE_SIZE = 256
SOFTWARE = "focus-framework contact sheet"
"""What a sheet says made it, so that a later one may replace it."""


def write_preview(
    path: Path, reference: str, *, count: int = 24, cell: int = 160, task: Task | None = None, root: Path | str | None = None
) -> tuple[int, int]:
    """Write a sheet of at most `count` pairs of a reference, evenly spread, ``practice`` for practice images of the task: the
    image, and the image with its mask laid over. Returns how many are shown, of how many. Raises as `find_pairs`, and `ConfigError`
    where something else than a sheet lies at `path`.
    """
    refuse_to_replace(path, kind="a contact sheet", suffixes=sorted(SUFFIXES), begins=SOFTWARE.encode(), inputs=[Path(reference)])
    if reference == PRACTICE:
        if task is None:
            raise ConfigError("practice images are those of a task; say which with --task-plugin")
        total = count
        examples = [practice_pair(task, seed=0, split="train", index=index, size=PRACTICE_SIZE) for index in range(count)]
    else:
        pairs = find_pairs(reference, task=task, root=root)
        total = len(pairs)
        shown = np.linspace(0, total - 1, min(count, total)).round().astype(int)
        examples = [pairs[index].read() for index in shown]
    sheet = contact_sheet([_row(image, mask, cell) for image, mask in examples], ("image", "mask"), cell=cell)
    write_image(path, sheet, software=SOFTWARE)
    return len(examples), total


def _row(image: ImageArray, mask: NDArray[np.bool_], cell: int) -> tuple[ImageArray, ImageArray]:
    """Shrunk first, so that the outline of the mask is as thick on the sheet for a large image as for a small one."""
    import cv2

    height, width = mask.shape
    scale = min(1.0, cell / max(height, width))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    inside = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
    return small, overlay(small, inside)
