"""Practice images on the disk, in the folders that ``--data`` takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..images import write_image
from ..interfaces import Task
from .practice import Split, practice_pair


def write_practice(
    task: Task, out: Path, *, count: int, size: int, seed: int = 0, split: Split = "train", on_pair: Callable[[], None] = lambda: None
) -> None:
    """Write the first `count` practice images of a task: ``images/00000.png`` and ``masks/00000.png`` and so on."""
    for index in range(count):
        image, mask = practice_pair(task, seed=seed, split=split, index=index, size=size)
        write_image(out / "images" / f"{index:05d}.png", image)
        write_image(out / "masks" / f"{index:05d}.png", mask * np.uint8(255))
        on_pair()
