"""Published data sets: declared by task plugins, read below the data root as their authors ship them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError, did_you_mean
from ..plugin.interfaces import Dataset, Task
from ..plugin.registry import registry
from .folders import images_below, name_below, scan_folders, subfolder
from .pair import EmptyPair, Scan


@dataclass(frozen=True)
class Located:
    """Where a data set was looked for."""

    dataset: Dataset
    looked: tuple[Path, ...]
    """Folders of images, in the order in which they were tried."""
    images: Path | None = None
    masks: Path | None = None
    """None where the set was not found; also, for `masks`, where none of its images has foreground."""


def data_root(root: Path | str | None = None) -> Path:
    """The folder of the published data sets: `root`, else the variable FOCUS_DATA_ROOT, else ``datasets``."""
    return Path(root or os.environ.get("FOCUS_DATA_ROOT") or "datasets")


def installed_tasks() -> list[Task]:
    """The tasks of this environment that are not broken."""
    return [entry.description for entry in registry().of_kind("task") if isinstance(entry.description, Task)]


def known_datasets(task: Task | None = None) -> dict[str, Dataset]:
    """All declared data sets by name: those of `task`, then those of every installed task."""
    known: dict[str, Dataset] = {}
    for one in [*([task] if task else []), *installed_tasks()]:
        for dataset in one.datasets:
            known.setdefault(dataset.name, dataset)
    return known


def scan_published(name: str, *, task: Task | None, root: Path | str | None) -> Scan:
    """The pairs of a published data set. Raises `ConfigError` for an unknown name, `DataError` where the set is not there."""
    known = known_datasets(task)
    if name not in known:
        raise ConfigError(f"there is no data set or folder {name!r}; {did_you_mean(name, known)} focus data list shows all")
    found = locate(known[name], data_root(root))
    if found.images is None:
        looked = ", ".join(str(folder) for folder in found.looked)
        raise DataError(f"data set {name} is not there; looked for {looked}. Say where with --data-root or FOCUS_DATA_ROOT")
    return scan_located(found)


def locate(dataset: Dataset, root: Path) -> Located:
    """Look for the folders of a data set, the first of its places that has both."""
    looked = tuple(root / place for place in dataset.images)
    for number, place in enumerate(dataset.images):
        images = _descend(root, place)
        masks = _descend(root, dataset.masks[number]) if dataset.masks else None
        if images and (masks or not dataset.masks):
            return Located(dataset, looked, images, masks)
    return Located(dataset, looked)


def scan_located(found: Located) -> Scan:
    """The pairs of a data set that was found; none of one that was not."""
    dataset = found.dataset
    if found.images is None:
        return Scan(())
    if found.masks is None:
        pictures = images_below(found.images, dataset.image_patterns, dataset.exclude)
        return Scan(tuple(EmptyPair(p, p, "white", name_below(found.images, p)) for p in pictures))
    scan = scan_folders(
        found.images,
        found.masks,
        foreground=dataset.foreground,
        patterns=dataset.image_patterns,
        exclude=dataset.exclude,
        mask_names=dataset.mask_names,
    )
    return replace(scan, lonely_masks=())  # one folder of masks often serves the training and the test set


@dataclass(frozen=True)
class Listing:
    """What ``focus data list`` says of a data set."""

    found: Located
    task: str
    pairs: int
    """Pairs that are there."""

    def as_json(self) -> dict[str, Any]:
        dataset = self.found.dataset
        about = {key: getattr(dataset, key) for key in ("name", "title", "split", "foreground", "citation", "licence", "url")}
        place = {"found": self.found.images is not None, "images": self.found.images, "masks": self.found.masks}
        looked = {"looked": list(self.found.looked), "pairs": self.pairs, "expected": dataset.count}
        return {**about, "task": self.task, **place, **looked}


def list_datasets(task: Task | None = None, root: Path | str | None = None) -> list[Listing]:
    """The known data sets of a task, or of all, in the order in which they are declared."""
    tasks = [task] if task else installed_tasks()
    located = [(locate(dataset, data_root(root)), one.name) for one in tasks for dataset in one.datasets]
    return [Listing(found, name, _count(found)) for found, name in located]


def _count(found: Located) -> int:
    try:
        return len(scan_located(found).pairs)
    except DataError:  # the folder is there and holds no images of the set, or masks in several versions: check says which
        return 0


def _descend(root: Path, place: str) -> Path | None:
    """The folder below `root` that a path leads to, each part found as `subfolder` finds it."""
    folder: Path | None = root
    for part in Path(place).parts:
        folder = subfolder(folder, (part,)) if folder else None
    return folder
