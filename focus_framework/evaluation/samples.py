"""What is evaluated: the samples of a data set, practice images, or prediction files and their truths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data.folders import images_below, name_below, scan_folders
from ..data.pair import Pair
from ..data.pairs import find_pairs
from ..data.published import known_datasets
from ..errors import ConfigError, DataError
from ..files.images import read_grey
from ..plugin.interfaces import Task
from ..plugin.kit.practice import practice_pair

Grey: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]
LISTED = 20
"""File names that an error lists; more are counted."""
PRACTICE_COUNT = 100


class Sample(Protocol):
    """An image and its mask, as `Pair` has them."""

    @property
    def name(self) -> str: ...
    def read_image(self) -> NDArray[np.uint8]: ...
    def read_mask(self, size: tuple[int, int] | None = None) -> Mask: ...


@dataclass(frozen=True)
class PracticeSample:
    """A practice image that no training run has seen, made when it is read."""

    task: Task
    index: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.index:03}"

    def read_image(self) -> NDArray[np.uint8]:
        return practice_pair(self.task, seed=0, split="test", index=self.index, size=self.size)[0]

    def read_mask(self, size: tuple[int, int] | None = None) -> Mask:
        return practice_pair(self.task, seed=0, split="test", index=self.index, size=self.size)[1]


@dataclass(frozen=True)
class Predicted:
    """A prediction file and the truth it belongs to."""

    prediction: Path
    pair: Pair
    has_image: bool = True
    """False where nothing but the mask of `pair` is known."""

    @property
    def name(self) -> str:
        return self.pair.name

    def read(self) -> tuple[Grey, Mask]:
        """Levels `[H, W]` and mask. Raises `DataError`, also where their sizes differ."""
        level, mask = read_grey(self.prediction), self.pair.read_mask()
        if level.shape != mask.shape:
            sizes = [f"{width}x{height}" for height, width in (level.shape, mask.shape)]
            raise DataError(
                f"prediction {self.prediction} is {sizes[0]} but its mask {self.pair.mask} is {sizes[1]} (width x height); "
                "they must be equal"
            )
        return level, mask


def find_samples(reference: str, *, task: Task | None, root: Path | None, size: int) -> Sequence[Sample]:
    """What ``--data`` names: ``practice`` for `PRACTICE_COUNT` images of `size` pixels, else as `find_pairs`. Raises as that."""
    if reference != "practice":
        return find_pairs(reference, task=task, root=root)
    if task is None:
        raise ConfigError("practice images are those of a task; say which with --task-plugin")
    return [PracticeSample(task, index, size) for index in range(PRACTICE_COUNT)]


def published_figures(reference: str, task: Task | None) -> Mapping[str, Mapping[str, float]]:
    """What others print for a known data set; nothing for any other data."""
    known = known_datasets(task)
    return known[reference].published if reference in known else {}


def pair_predictions(predictions: Path, masks: Path | Sequence[Pair]) -> list[Predicted]:
    """Prediction files with the masks of a folder, or of a data set, matched by name; the formats may differ.

    Raises `DataError`, listing them, where a prediction or a mask has no partner.
    """
    if isinstance(masks, Path):
        scan = scan_folders(predictions, masks)
        _refuse_lonely(predictions, [name_below(masks, m) for m in scan.lonely_masks], [p.name for p in scan.lonely_images])
        return [Predicted(pair.image, pair, has_image=False) for pair in scan.pairs]
    files = {name_below(predictions, path): path for path in images_below(predictions)}
    found = {pair.name: pair.name if pair.name in files else pair.name.rpartition("/")[2] for pair in masks}
    missing = [name for name, file in found.items() if file not in files]
    surplus = sorted(files.keys() - found.values())
    _refuse_lonely(predictions, missing, [files[name].name for name in surplus])
    return [Predicted(files[found[pair.name]], pair) for pair in masks]


def _refuse_lonely(predictions: Path, missing: Sequence[str], surplus: Sequence[str]) -> None:
    problems = []
    for names, what in ((missing, "masks have no prediction"), (surplus, "predictions have no mask")):
        if names:
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            problems.append(f"{len(names)} {what}: {', '.join(names[:LISTED])}{more}")
    if problems:
        raise DataError(f"{predictions}: {'; '.join(problems)}")
