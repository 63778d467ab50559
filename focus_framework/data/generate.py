"""Practice images on the disk, in the folders that ``--data`` takes: drawn by the task, or composed of somebody's photographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import ConfigError, PluginError
from ..files.images import write_image
from ..plugin.calls import calling
from ..plugin.interfaces import PracticePair, Task, resolve
from ..plugin.kit.practice import Split, checked_pair, practice_pair
from .pair import Pair
from .rendered import RECORD

COMPOSED = 3
"""The stream of chance of composed images, beside the splits' of `practice`."""
KEPT = 32
"""Photographs kept in memory."""


def write_practice(
    task: Task, out: Path, *, count: int, size: int, seed: int = 0, split: Split = "train", on_pair: Callable[[], None] = lambda: None
) -> None:
    """Write the first `count` practice images of a task: ``images/00000.png`` and ``masks/00000.png`` and so on."""
    _refuse_rendered(out)
    for index in range(count):
        _write(out, index, practice_pair(task, seed=seed, split=split, index=index, size=size))
        on_pair()


def write_composed(
    task: Task, pairs: Sequence[Pair], out: Path, *, count: int, size: int, seed: int = 0, on_pair: Callable[[], None] = lambda: None
) -> None:
    """Write `count` images that the task composes out of photographs and the masks of things in them.

    Raises `PluginError` where the task cannot, `DataError` where a photograph cannot be read.
    """
    if task.compose is None:
        raise PluginError(f"task {task.name} does not compose photographs; leave --from away for practice images")
    with calling(f"task {task.name}", "compose"):
        _refuse_rendered(out)
    compose = resolve(task.compose)
    read = lru_cache(KEPT)(lambda number: pairs[number].read())
    for index in range(count):
        random = np.random.default_rng([seed, COMPOSED, index])
        first, second = random.choice(len(pairs), 2, replace=len(pairs) == 1)
        photographs = read(first), read(second)
        with calling(f"task {task.name}", "compose()"):
            offered = compose(random, size, *photographs)
        _write(out, index, checked_pair(offered, size, f"task {task.name}: compose()"))
        on_pair()


def _refuse_rendered(out: Path) -> None:
    if (out / RECORD).exists():
        raise ConfigError(f"{out} holds rendered images; choose another --out")


def _write(out: Path, index: int, pair: PracticePair) -> None:
    image, mask = pair
    write_image(out / "images" / f"{index:05d}.png", image)
    write_image(out / "masks" / f"{index:05d}.png", mask * np.uint8(255))
