"""What is evaluated: the samples of a data set, practice images, or prediction files and their truths."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.folders import images_below, name_below
from ..data.pair import Pair
from ..data.pairs import find_pairs
from ..data.published import known_datasets
from ..errors import ConfigError, DataError
from ..files.images import read_grey
from ..plugin.interfaces import Task
from ..plugin.kit.practice import practice_pair

Grey: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]
Missing: TypeAlias = Literal["refuse", "skip", "zero"]
"""What becomes of masks without a prediction."""
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

    prediction: Path | None
    """None for a map of nothing but zeros, in the place of one that is missing."""
    pair: Pair
    has_image: bool = True
    """False where nothing but the mask of `pair` is known."""
    resize: bool = True
    """Whether a map of another size than its mask is resized, or refused."""

    @property
    def name(self) -> str:
        return self.pair.name

    def read(self) -> tuple[Grey, Mask]:
        """Levels `[H, W]` and mask, of one size. Raises `DataError`, also where their sizes differ and must not."""
        level, mask, _ = self.read_as_it_is()
        return level, mask

    def read_as_it_is(self) -> tuple[Grey, Mask, bool]:
        """As `read`, and whether the map had another size and was resized, bilinearly, as the field's evaluation programs do."""
        mask = self.pair.read_mask()
        if self.prediction is None:
            return np.zeros(mask.shape, np.uint8), mask, False
        level = read_grey(self.prediction)
        if level.shape == mask.shape:
            return level, mask, False
        if not self.resize:
            sizes = [f"{width}x{height}" for height, width in (level.shape, mask.shape)]
            raise DataError(
                f"prediction {self.prediction} is {sizes[0]} but its mask {self.pair.mask} is {sizes[1]} (width x height); "
                "they must be equal with --no-resize"
            )
        return cv2.resize(level, mask.shape[::-1], interpolation=cv2.INTER_LINEAR), mask, True


@dataclass(frozen=True)
class Matched:
    """Prediction files with their masks, and what had no partner."""

    predicted: tuple[Predicted, ...]
    missing: tuple[str, ...] = ()
    """Masks without a prediction; they are left out, or count as predictions of nothing."""
    surplus: tuple[str, ...] = ()
    """Predictions without a mask; they are left out."""
    suffix: str = ""
    """What stands behind the name of each prediction."""


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


def match_predictions(predictions: Path, masks: Path | Sequence[Pair], *, missing: Missing = "refuse", resize: bool = True) -> Matched:
    """Prediction files with the masks of a folder, or of a data set, matched by name; formats may differ, and something may stand behind
    the names of all predictions (``0001_HS.png``) or of all masks (``0001_GT.png``).

    Raises `DataError`, listing them, where a prediction or a mask has no partner and `missing` is ``refuse``. ``skip`` leaves them
    out, ``zero`` takes a map of zeros for a prediction that is missing.
    """
    has_image = not isinstance(masks, Path)
    pairs = [_mask_alone(masks, path) for path in images_below(masks)] if isinstance(masks, Path) else masks
    files = {name_below(predictions, path): path for path in images_below(predictions)}
    found, suffix = align(files, [pair.name for pair in pairs])
    lonely = [pair.name for pair in pairs if pair.name not in found]
    surplus = sorted(files.keys() - found.values())
    if missing == "refuse" or not found:
        _refuse_lonely(predictions, lonely, [files[name].name for name in surplus])
    kept = pairs if missing == "zero" else [pair for pair in pairs if pair.name in found]
    predicted = tuple(Predicted(files[found[p.name]] if p.name in found else None, p, has_image, resize) for p in kept)
    return Matched(predicted, tuple(lonely), tuple(surplus), suffix)


def pair_predictions(predictions: Path, masks: Path | Sequence[Pair]) -> list[Predicted]:
    """As `match_predictions`, where each has its partner. Raises as that."""
    return list(match_predictions(predictions, masks).predicted)


def _mask_alone(folder: Path, mask: Path) -> Pair:
    return Pair(mask, mask, "white", name_below(folder, mask))


def align(predictions: Iterable[str], masks: Sequence[str]) -> tuple[dict[str, str], str]:
    """The prediction of each mask, by their names: alike; else in another folder, or with other capitals; else with one ending behind the
    names of most predictions, or of most masks. And that ending of the predictions."""
    keys = {_bare(name): name for name in predictions}
    whole = {name.lower(): name for name in predictions}

    def partners(behind_prediction: str = "", behind_mask: str = "") -> dict[str, str]:
        found = {}
        for mask in masks:
            folder, slash, stem = mask.lower().rpartition("/")
            wanted = stem.removesuffix(behind_mask) + behind_prediction
            if partner := whole.get(folder + slash + wanted) or keys.get(wanted):
                found[mask] = partner
        return found

    found = partners()
    if len(found) * 2 > len(masks):
        return found, ""
    stems = {_bare(mask) for mask in masks}
    ending, other = _ending(keys, stems), _ending(stems, keys)
    attempts = [(found, ""), (partners(behind_prediction=ending), ending), (partners(behind_mask=other), "")]
    return max(attempts, key=lambda attempt: len(attempt[0]))


def _bare(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _ending(longer: Iterable[str], shorter: Collection[str]) -> str:
    """What most often stands behind a name of `shorter` in `longer`, after a sign such as ``_``."""
    endings: Counter[str] = Counter()
    for name in longer:
        for sign in re.finditer(r"[-_. ]", name):
            if name[: sign.start()] in shorter:
                endings[name[sign.start() :]] += 1
    return endings.most_common(1)[0][0] if endings else ""


def _refuse_lonely(predictions: Path, missing: Sequence[str], surplus: Sequence[str]) -> None:
    problems = []
    for names, what in ((missing, "masks have no prediction"), (surplus, "predictions have no mask")):
        if names:
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            problems.append(f"{len(names)} {what}: {', '.join(names[:LISTED])}{more}")
    if problems:
        raise DataError(f"{predictions}: {'; '.join(problems)}. --missing skip measures the rest, zero counts them as empty")
