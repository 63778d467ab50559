"""Published data sets: declared by task plugins, read below the data root as their authors ship them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError, did_you_mean
from ..files.reading import spelled_here
from ..plugin.interfaces import Dataset, Task
from ..plugin.registry import registry
from .folders import images_below, name_below, scan_folders, subfolder
from .pair import EmptyPair, Pair, Scan
from .recognise import Recognised, bare, match, recognise

SHOWN = 3
"""Names that a remark gives; more are counted."""


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
    return Path(spelled_here(os.fspath(root or os.environ.get("FOCUS_DATA_ROOT") or "datasets")))


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
    below = data_root(root)
    found = locate(known[name], below)
    if found.images is not None:
        return scan_located(found)
    if below.is_dir() and (recognised := recognise(below, [known[name]])):
        return recognised[0].scan
    looked = ", ".join(str(folder) for folder in found.looked)
    raise DataError(
        f"data set {name} is not there; looked for {looked}, and for its files in {below}. Say where with --data-root or FOCUS_DATA_ROOT"
    )


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
    scan = _with_keys(dataset, scan, found.images)
    return replace(scan, lonely_masks=())  # one folder of masks often serves the training and the test set


def _with_keys(dataset: Dataset, scan: Scan, images: Path) -> Scan:
    """The scan with the images, too, whose masks have other names but the same `Dataset.keys`; transposed masks are marked."""
    pairs = [*scan.pairs]
    lonely = {path.stem.lower(): path for path in scan.lonely_images}
    if dataset.keys:
        masks = {bare(path.stem).lower(): path for path in scan.lonely_masks}
        matched = match(lonely, masks, dataset.keys)
        pairs += [Pair(lonely[stem], mask, dataset.foreground, name_below(images, lonely[stem])) for stem, mask in matched.items()]
        lonely = {stem: path for stem, path in lonely.items() if stem not in matched}
    turned, maskless = ({stem.lower() for stem in stems} for stems in (dataset.transposed, dataset.maskless))
    marked = [replace(pair, transposed=True) if pair.image.stem.lower() in turned else pair for pair in pairs]
    return replace(
        scan,
        pairs=tuple(sorted(marked, key=lambda pair: pair.image)),
        lonely_images=tuple(path for stem, path in lonely.items() if stem not in maskless),
    )


@dataclass(frozen=True)
class Found:
    """What ``focus data find`` says of a data set."""

    copy: Recognised
    task: str

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is missing or doubled, each kind once."""
        copy, complete = self.copy, self.copy.dataset.count or 0
        images = len(copy.scan.pairs) + len(copy.scan.lonely_images)
        said = list(copy.notes)
        if copy.scan.lonely_images:
            said.append(_said("image has no mask", "images have no mask", [path.stem for path in copy.scan.lonely_images]))
        if copy.doubled:
            said.append(_said("image is there more than once", "images are there more than once", copy.doubled))
        if images != complete:
            said.append(f"{abs(complete - images)} images {'fewer' if images < complete else 'more'} than a complete copy has ({complete})")
        return tuple(said)

    def as_json(self) -> dict[str, Any]:
        copy = self.copy
        return {
            "name": copy.dataset.name, "task": self.task, "images": copy.images, "masks": copy.masks, "pairs": len(copy.scan.pairs),
            "expected": copy.dataset.count, "without_mask": [str(path) for path in copy.scan.lonely_images],
            "doubled": list(copy.doubled), "remarks": list(self.remarks),
        }  # fmt: skip


def _said(one: str, several: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {one if len(names) == 1 else several}: {', '.join(names[:SHOWN])}{more}"


def find_datasets(root: Path, task: Task | None = None) -> list[Found]:
    """The known data sets that lie below a folder, in whatever layout. Raises `DataError` for no folder."""
    tasks = [task] if task else installed_tasks()
    owners = {dataset.name: one.name for one in reversed(tasks) for dataset in one.datasets}
    return [Found(copy, owners[copy.dataset.name]) for copy in recognise(root, [d for one in tasks for d in one.datasets])]


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
    below = data_root(root)
    located = [(locate(dataset, below), one.name) for one in tasks for dataset in one.datasets]
    lost = [found.dataset for found, _ in located if found.images is None]
    seen = {copy.dataset.name: copy for copy in (recognise(below, lost) if lost and below.is_dir() else [])}

    def listed(found: Located, task: str) -> Listing:
        if not (copy := seen.get(found.dataset.name)):
            return Listing(found, task, _count(found))
        return Listing(replace(found, images=copy.images, masks=copy.masks), task, len(copy.scan.pairs))

    return [listed(found, name) for found, name in located]


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
