"""Published data sets found by what is in them: names, number and sizes of files, whatever the folders are called.

Mirrors of a benchmark rename its folders, put images and masks together or apart, add a level, change formats and write ``_GT`` behind
the names of masks. What is a mask is told from its pixels, what belongs to which set from a `Fingerprint`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError
from ..files.images import read_image
from ..plugin.interfaces import Dataset
from .folders import IMAGE_FOLDERS, MASK_FOLDERS, images_below, name_below, subfolder
from .pair import SPLITS, EmptyPair, Pair, Scan

TAIL = re.compile(r"(?i)(.+?)[-_. ](gt|mask|masks|ground[-_]?truth|label|seg|segmentation|annotation)$")
"""What people write behind the name of a mask."""
PARTS = {
    part: re.compile(rf"(?i)(?:^|[-_. ]|dut\d*s?)(?:{words})(?:[-_. ]?(?:set|data|dataset|source|images?|imgs?|gt|masks?))?$")
    for part, words in {"train": "tr|train|training", "test": "te|test|testing"}.items()
}
"""Names of folders that hold a part of a set."""
LOOKED_AT = 5
"""Files of a folder that are opened to tell images from masks."""
LEAST, MOST = 0.5, 1.05
"""Shares of a set's count between which a folder may be a copy of it."""
PURE = 0.9
"""Share of the images in a folder whose names have to fit."""


@dataclass(frozen=True)
class Part:
    """Files of one folder and one suffix, all with or all without something behind their names."""

    folder: Path
    files: tuple[tuple[str, Path], ...]
    """Stem in small letters, without `TAIL` where it is a part of masks, and path."""

    tailed: bool = False

    @cached_property
    def is_masks(self) -> bool:
        """Whether most of a few files look like masks; grey is enough where they are called masks."""
        step = max(1, len(self.files) // LOOKED_AT)
        looks = [looks_like_mask(path, grey_is_enough=self.tailed) for _, path in self.files[::step][:LOOKED_AT]]
        return sum(looks) * 2 > len(looks)


@dataclass(frozen=True)
class Recognised:
    """A copy of a data set."""

    dataset: Dataset
    images: Path
    """The folder of the images."""
    masks: Path | None
    """The folder of the masks; None where the set has none, or none were found."""
    scan: Scan
    doubled: tuple[str, ...] = ()
    """Stems of which there are several images; the first is taken."""
    notes: tuple[str, ...] = field(default=())
    """What has to be said of it, a sentence each."""


def looks_like_mask(path: Path, *, grey_is_enough: bool = False) -> bool:
    """Whether an image has hardly any colour and hardly any values but a few. False where it cannot be read."""
    try:
        pixels = read_image(path)[::2, ::2].astype(np.int16)
    except DataError:
        return False
    coloured = (pixels.max(axis=2) - pixels.min(axis=2) > 24).mean()
    values = np.bincount((pixels.max(axis=2) // 16).ravel(), minlength=16)
    few = np.sort(values)[-4:].sum() >= 0.9 * values.sum()
    extreme = (values[0] + values[15]) >= 0.5 * values.sum() or np.sort(values)[-2:].sum() >= 0.9 * values.sum()
    if coloured > 0.02:  # a palette or one colour on black
        return bool(len(np.unique(pixels.reshape(-1, 3), axis=0)) <= 16)
    return bool(grey_is_enough or (few and extreme))


def bare(stem: str) -> str:
    """The name of a mask without `TAIL`."""
    tail = TAIL.match(stem)
    return tail[1] if tail else stem


def parts_below(root: Path) -> list[Part]:
    """All images below a folder, by folder, suffix and what stands behind the name."""
    grouped: dict[tuple[Path, str, str], list[Path]] = {}
    for path in images_below(root):
        tail = TAIL.match(path.stem)
        grouped.setdefault((path.parent, path.suffix.lower(), tail[2].lower() if tail else ""), []).append(path)
    return [
        Part(folder, tuple(((path.stem[: -len(tail) - 1] if tail else path.stem).lower(), path) for path in paths), bool(tail))
        for (folder, _, tail), paths in grouped.items()
    ]


def scan_together(folder: Path) -> Scan | None:
    """The pairs of a folder that has images and masks side by side: ``x.jpg`` with ``x.png`` or ``x_mask.png``, in folders below it too.

    None where the folder is laid out otherwise.
    """
    if any(subfolder(folder, names) for names in (IMAGE_FOLDERS, MASK_FOLDERS, *SPLITS.values())):
        return None
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for part in parts_below(folder):
        files = masks if part.is_masks else images
        for stem, path in part.files:
            files.setdefault((path.parent / (stem if part.is_masks else path.stem.lower())).as_posix(), path)
    pairs = tuple(Pair(path, masks[stem], "white", name_below(folder, path)) for stem, path in images.items() if stem in masks)
    lonely = tuple(path for stem, path in images.items() if stem not in masks)
    return Scan(pairs, lonely, tuple(path for stem, path in masks.items() if stem not in images)) if pairs else None


def recognise(root: Path, datasets: Iterable[Dataset]) -> list[Recognised]:
    """The copies of these data sets below a folder, one of each at most, in the order of the sets. Raises `DataError` for no folder."""
    parts = parts_below(root)
    found = (_find(dataset, root, parts) for dataset in datasets if dataset.fingerprint)
    return [one for one in found if one]


def _find(dataset: Dataset, root: Path, parts: Sequence[Part]) -> Recognised | None:
    """The best copy: nearest to the full count, then deepest."""
    candidates = [
        (abs(len(fitting) - (dataset.count or 0)), -len(folder.parts), folder, fitting)
        for folder, files in _folders(root, parts, lambda part: _may_fit(dataset, part) and not part.is_masks).items()
        if (fitting := _fitting(dataset, root, folder, files)) is not None
    ]
    if not candidates:
        return None
    best = min(distance for distance, *_ in candidates)
    same = [(folder, fitting) for distance, _, folder, fitting in sorted(candidates, key=lambda one: one[:3]) if distance == best]
    paired = [_paired(dataset, root, folder, fitting, parts) for folder, fitting in same]
    # A folder and the one above it that holds nothing else are one candidate.
    paired.sort(key=lambda one: -len(one.scan.pairs))
    full = [one for one in paired if len(one.scan.pairs) == len(paired[0].scan.pairs)]
    if dataset.fingerprint and dataset.fingerprint.darkest and len(full) > 1:
        return min(full, key=_darkness)
    return full[0]


def _folders(root: Path, parts: Sequence[Part], wanted: Callable[[Part], bool]) -> dict[Path, list[tuple[str, Path]]]:
    """Each folder that holds wanted parts, and each that holds such folders, with all their files."""
    files: dict[Path, list[tuple[str, Path]]] = {}
    for part in parts:
        if not wanted(part):
            continue
        for folder in (part.folder, *part.folder.parents):
            files.setdefault(folder, []).extend(part.files)
            if folder == root:
                break
    return files


def _may_fit(dataset: Dataset, part: Part) -> bool:
    """A quick look, before any file is opened."""
    assert dataset.fingerprint
    names = re.compile(dataset.fingerprint.names, re.IGNORECASE)
    return any(names.fullmatch(stem) for stem, _ in part.files)


def _fitting(dataset: Dataset, root: Path, folder: Path, files: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]] | None:
    """The files that are images of the set, where the folder may be a copy of it."""
    known, count = dataset.fingerprint, dataset.count or 0
    assert known
    names = re.compile(known.names, re.IGNORECASE)
    own = [(stem, path) for stem, path in files if _belongs(dataset, path.name)]
    fitting = [(stem, path) for stem, path in own if names.fullmatch(stem)]
    stems = dict(fitting)
    if not LEAST * count <= len(stems) <= MOST * count or len(fitting) < PURE * len(own):
        return None
    if sum(member.lower() in stems for member in known.members) * 3 < 2 * len(known.members):
        return None
    if any(stranger.lower() in stems for stranger in known.strangers):
        return None
    if known.places and not (_placed(root, folder, known.places) or _telling(known.telling, stems)):
        return None
    if _other_part(dataset.split, root, Path(os.path.commonpath([path.parent for _, path in fitting]))):
        return None
    return fitting if _sized(known.sizes, known.any_size, stems) else None


def _belongs(dataset: Dataset, name: str) -> bool:
    wanted = any(fnmatch(name.lower(), pattern.lower().rsplit(".", 1)[0] + "*") for pattern in dataset.image_patterns)
    return wanted and not any(fnmatch(name.lower(), pattern.lower()) for pattern in dataset.exclude)


def _telling(pattern: str, stems: Iterable[str]) -> bool:
    fits = [bool(re.fullmatch(pattern, stem, re.IGNORECASE)) for stem in stems]
    return bool(pattern) and sum(fits) >= PURE * len(fits)


def _other_part(split: str, root: Path, folder: Path) -> bool:
    """Whether, of the folders that all images lie in, the nearest one that names a part of a set names the other one: some of the training
    images are not the test set."""
    for name in reversed((root.name, *folder.relative_to(root).parts)):
        if parts := {part for part, pattern in PARTS.items() if pattern.search(name)}:
            return split not in parts
    return False


def _placed(root: Path, folder: Path, places: Sequence[str]) -> bool:
    names = (root.name, *folder.relative_to(root).parts)
    return any(fnmatch(name.lower(), pattern) for name in names for pattern in places)


def _sized(sizes: dict[str, tuple[int, int]] | object, any_size: Sequence[tuple[int, int]], stems: dict[str, Path]) -> bool:
    """Whether most of a few images have the sizes that they should."""
    expected = {stem.lower(): {size} for stem, size in sizes.items()} if isinstance(sizes, dict) else {}
    if any_size:
        expected |= {stem: set(any_size) for stem in sorted(stems)[:: max(1, len(stems) // LOOKED_AT)][:LOOKED_AT]}
    looks = [_size(stems[stem]) in wanted for stem, wanted in expected.items() if stem in stems]
    return not looks or sum(looks) * 2 > len(looks)


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return (0, 0)


def _paired(dataset: Dataset, root: Path, folder: Path, files: Sequence[tuple[str, Path]], parts: Sequence[Part]) -> Recognised:
    """The images with the masks that fit them best."""
    images: dict[str, Path] = {}
    for stem, path in sorted(files, key=lambda file: file[1]):
        images.setdefault(stem, path)
    counted = Counter(stem for stem, _ in files)
    doubled = tuple(sorted(stem for stem, number in counted.items() if number > 1))
    if not dataset.masks:
        empty = tuple(EmptyPair(path, path, "white", name_below(folder, path)) for path in images.values())
        return Recognised(dataset, folder, None, Scan(empty), doubled)
    place, masks = _masks(dataset, root, folder, images, parts)
    matched = match(images, masks, dataset.keys)
    pairs = tuple(
        Pair(path, matched[stem], dataset.foreground, name_below(folder, path), transposed=stem in _lower(dataset.transposed))
        for stem, path in images.items()
        if stem in matched
    )
    maskless = _lower(dataset.maskless) - matched.keys()
    lonely = tuple(path for stem, path in images.items() if stem not in matched and stem not in maskless)
    notes = [f"the mask of {pair.name} has rows for columns; it is turned" for pair in pairs if pair.transposed]
    notes += [f"no mask of {path.stem} was published; it is left out" for stem, path in images.items() if stem in maskless]
    return Recognised(dataset, folder, place, Scan(pairs, lonely), doubled, tuple(notes))


def _lower(names: Iterable[str]) -> set[str]:
    return {name.lower() for name in names}


def _masks(
    dataset: Dataset, root: Path, folder: Path, images: dict[str, Path], parts: Sequence[Part]
) -> tuple[Path | None, dict[str, Path]]:
    """The folder whose masks fit most images; of several that fit about as many, the one nearest to the images."""
    taken = set(images.values())
    ranked = []
    for place, files in _folders(root, parts, lambda part: part.is_masks).items():
        masks = {stem: path for stem, path in sorted(files, key=lambda file: file[1], reverse=True) if path not in taken}
        if fits := len(match(images, masks, dataset.keys)):
            ranked.append((fits, _common(place, folder), len(place.parts), place, masks))
    if not ranked:
        return None, {}
    most = max(fits for fits, *_ in ranked)
    _, _, _, place, masks = max((one for one in ranked if one[0] >= PURE * most), key=lambda one: (one[1], one[0], one[2]))
    return place, masks


def _common(first: Path, second: Path) -> int:
    return len(Path(os.path.commonpath([first, second])).parts)


def match(images: dict[str, Path], masks: dict[str, Path], keys: Sequence[str] = ()) -> dict[str, Path]:
    """The mask of each image, by stem: the same name, else one that `Dataset.keys` lead to."""
    found = {stem: masks[stem] for stem in images if stem in masks}
    used = set(found)
    for key in keys:
        pattern = re.compile(key, re.IGNORECASE)
        wanted, there = _by_key(pattern, images.keys() - found.keys()), _by_key(pattern, masks.keys() - used)
        for fingerprint, stem in wanted.items():
            if stem and (mask := there.get(fingerprint)):
                found[stem] = masks[mask]
                used.add(mask)
    return found


def _by_key(pattern: re.Pattern[str], stems: Iterable[str]) -> dict[tuple[str, ...], str]:
    """The stem of each key; empty where several have it."""
    keyed: dict[tuple[str, ...], str] = {}
    for stem in stems:
        if fitting := pattern.search(stem):
            keyed[fitting.groups()] = "" if fitting.groups() in keyed else stem
    return keyed


def _darkness(one: Recognised) -> float:
    """Mean grey inside the masks of a few pairs."""
    values = []
    for pair in one.scan.pairs[:: max(1, len(one.scan.pairs) // LOOKED_AT)][:LOOKED_AT]:
        try:
            image, mask = pair.read()
        except DataError:
            continue
        values.append(float(image[mask].mean()) if mask.any() else 255.0)
    return float(np.mean(values)) if values else 255.0
