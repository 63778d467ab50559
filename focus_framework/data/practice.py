"""Practice images: pictures made by procedure, seeded, so that any task can be tried without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from ..errors import PluginError
from ..interfaces import Task, resolve

if TYPE_CHECKING:
    from ..interfaces import PracticePair

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def practice_pair(task: Task, *, seed: int, split: Split, index: int, size: int) -> PracticePair:
    """Practice image `index` of a split: a picture `[size, size, 3]` uint8 RGB and its mask `[size, size]` bool.

    The arguments alone decide the result. Raises `PluginError` where the task makes no practice images or wrong ones.
    """
    if task.practice is None:
        raise PluginError(f"task {task.name} makes no practice images; give it pictures with --data")
    random = np.random.default_rng([seed, SPLITS.index(split), index])
    image, mask = resolve(task.practice)(random, size)
    for what, array, shape, kind in (("picture", image, (size, size, 3), "uint8"), ("mask", mask, (size, size), "bool")):
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != kind:
            got = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
            raise PluginError(f"task {task.name}: practice() must give a {what} of {kind} {list(shape)}, it gave {got}")
    return image, mask
