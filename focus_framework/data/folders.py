"""Pairs in folders: images matched with masks by place and name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from ..errors import DataError
from ..files.images import SUFFIXES, Foreground
from .pair import SPLITS, Pair, Scan, first

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "source", "input", "jpegimages")
MASK_FOLDERS = ("masks", "mask", "gt", "gts", "groundtruth", "label", "labels", "annotations", "segmentationclass")
MASK_NAMES = tuple(f"{{stem}}{suffix}" for suffix in ("", "_mask", "-mask", "_gt", "-gt", "_GT", "_label", "_seg", "_segmentation"))
"""How the mask of the image ``stem`` may be called, tried in this order."""


def scan_folder(folder: Path) -> Scan:
    """``images/`` + ``masks/``, ``train/images`` + ``train/masks``, or ``images/train`` + ``masks/train``."""
    images, masks = subfolder(folder, IMAGE_FOLDERS), subfolder(folder, MASK_FOLDERS)
    if images and masks:
        parts = {split: (subfolder(images, names), subfolder(masks, names)) for split, names in SPLITS.items()}
        inner = {split: (i, m) for split, (i, m) in parts.items() if i and m}
        if not inner:
            return scan_folders(images, masks)
        named = [(split, scan_folders(i, m)) for split, (i, m) in inner.items()]
    else:
        found = {split: subfolder(folder, names) for split, names in SPLITS.items()}
        named = [(split, scan_folder(part)) for split, part in found.items() if part]
        if not named:
            missing = f"{IMAGE_FOLDERS[0]}/ folder" if masks else f"{MASK_FOLDERS[0]}/ folder"
            raise DataError(
                f"{folder} has no {missing}; a data folder has images/ and masks/, or give images=DIR,masks=DIR"
                if images or masks
                else f"{folder} is not a data folder: it needs images/ and masks/, or give images=DIR,masks=DIR"
            )
    total = Scan(())
    for split, part in named:
        label = (subfolder(images, SPLITS[split]) if images else None) or subfolder(folder, SPLITS[split])
        pairs = tuple(replace(p, split=split, name=f"{label.name if label else split}/{p.name}") for p in part.pairs)
        total += replace(part, pairs=pairs)
    return total


def scan_folders(
    images: Path,
    masks: Path,
    *,
    foreground: Foreground = "white",
    patterns: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    mask_names: Sequence[str] = MASK_NAMES,
) -> Scan:
    """Match the images below one folder with the masks below another (or the same), by their names without suffix.

    A mask at the same place below its folder goes before one of the same name elsewhere. Raises `DataError` where a folder is
    missing or has no images, or where several masks fit one image.
    """
    pictures = images_below(images, patterns, exclude)
    if not pictures:
        raise DataError(f"no images in {images}" + ("" if patterns == ("*",) else f" named {', '.join(patterns)}"))
    taken = set(pictures)
    candidates = [p for p in images_below(masks, exclude=exclude) if images != masks or p not in taken]
    finder = _MaskFinder(candidates, masks, mask_names)
    pairs, lonely = [], []
    for picture in pictures:
        name = name_below(images, picture)
        if mask := finder.find(name, picture):
            pairs.append(Pair(picture, mask, foreground, name))
        else:
            lonely.append(picture)
    used = {pair.mask for pair in pairs}
    return Scan(tuple(pairs), tuple(lonely), tuple(mask for mask in candidates if mask not in used))


class _MaskFinder:
    """Masks by their place below a folder, and by their bare name."""

    def __init__(self, masks: Iterable[Path], folder: Path, names: Sequence[str]) -> None:
        self.names = names
        self.by_place: dict[str, list[Path]] = {}
        self.by_name: dict[str, list[Path]] = {}
        for mask in masks:
            self.by_place.setdefault(name_below(folder, mask), []).append(mask)
            self.by_name.setdefault(mask.stem, []).append(mask)

    def find(self, name: str, picture: Path) -> Path | None:
        folder, slash, stem = name.rpartition("/")
        for pattern in self.names:
            wanted = pattern.format(stem=stem)
            fitting = self.by_place.get(folder + slash + wanted) or self.by_name.get(wanted) or []
            if len(fitting) > 1:
                raise DataError(f"several masks fit {picture}: {first(fitting)}; keep one of them, or give a list of pairs")
            if fitting:
                return fitting[0]
        return None


def images_below(folder: Path, patterns: Sequence[str] = ("*",), exclude: Sequence[str] = ()) -> list[Path]:
    """Images in a folder and the folders below it whose file name fits one of `patterns` and none of `exclude`, sorted.

    Raises `DataError` where there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist" if not folder.exists() else f"{folder} is not a folder")
    found: list[str] = []
    visited: set[str] = set()  # links are followed, and may lead in a circle
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        found += [os.path.join(place, name) for name in names if _wanted(name, patterns, exclude)]  # noqa: PTH118 - quicker to sort
    return [Path(path) for path in sorted(found)]


def _wanted(name: str, patterns: Sequence[str], exclude: Sequence[str]) -> bool:
    if name.startswith(".") or os.path.splitext(name)[1].lower() not in SUFFIXES:  # noqa: PTH122 - quicker than a Path
        return False
    return any(fnmatch(name, pattern) for pattern in patterns) and not any(fnmatch(name, pattern) for pattern in exclude)


def name_below(folder: Path, picture: Path) -> str:
    """What an image is called in reports: its path below a folder, without suffix."""
    return picture.relative_to(folder).with_suffix("").as_posix()


def subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    """The folder in `folder` that has the first possible of `names`, capitals and the signs ``- _`` and space disregarded.

    The names may be patterns (``*source*``).
    """
    if not folder.is_dir():
        return None
    with os.scandir(folder) as entries:
        there = {plain(name): folder / name for name in sorted((e.name for e in entries if e.is_dir()), reverse=True)}
    for name in names:
        if match := next((path for key, path in sorted(there.items()) if fnmatch(key, plain(name))), None):
            return match
    return None


def plain(name: str) -> str:
    """A folder's name with small letters and without ``-``, ``_`` and spaces, as copies of a data set differ in these."""
    return name.lower().translate({ord(sign): None for sign in "-_ "})
