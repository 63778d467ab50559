"""Pairs in COCO annotations: the union of one category's polygons and run lengths is the mask.

The format: cocodataset.org, "data format", object detection. Images without an annotation of the category are left out.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError, did_you_mean
from ..files.coco import draw
from .pair import Pair, Scan


@dataclass(frozen=True)
class CocoPair(Pair):
    """An image whose mask is drawn from annotations; `mask` is the file that holds them."""

    shapes: tuple[Any, ...] = field(kw_only=True, repr=False)
    """Segmentations as they stand in the file."""
    drawn_for: tuple[int, int] = field(kw_only=True)
    """(height, width) that the annotations speak of."""

    def read_mask(self, size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
        if size is not None and tuple(size) != self.drawn_for:
            (height, width), (h, w) = self.drawn_for, size
            raise DataError(f"{self.mask} has {self.name} as {width} x {height} but its image is {w} x {h} (width x height)")
        inside = np.zeros(self.drawn_for, dtype=bool)
        for shape in self.shapes:
            inside |= draw(shape, self.drawn_for, f"{self.mask}, image {self.name}")
        return inside if self.foreground == "white" else ~inside


def scan_coco(path: Path, options: dict[str, str]) -> Scan:
    """The pairs of an annotation file. `options` may hold ``images`` (the folder) and ``category`` (its name).

    Raises `DataError` for a file that is not of this format, `ConfigError` where the category is not obvious.
    """
    content = _load(path)
    category = _category(path, content, options.pop("category", None))
    folder = Path(options.pop("images")) if "images" in options else None
    shapes: dict[Any, list[Any]] = {}
    for annotation in content["annotations"]:
        if annotation.get("category_id") == category and annotation.get("segmentation"):
            shapes.setdefault(annotation.get("image_id"), []).append(annotation["segmentation"])
    pairs, missing = [], []
    for image in content["images"]:
        if image["id"] not in shapes:
            continue
        file = _find(path, folder, image["file_name"])
        name = PurePosixPath(image["file_name"]).with_suffix("").as_posix()
        size = (int(image["height"]), int(image["width"]))
        if file is None:
            missing.append(f"{path}: image {image['file_name']} is not in {folder or path.parent}; give images=DIR")
        else:
            pairs.append(CocoPair(file, path, "white", name, shapes=tuple(shapes[image["id"]]), drawn_for=size))
    return Scan(tuple(sorted(pairs, key=lambda pair: pair.name)), missing=tuple(missing))


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"annotations {path} do not exist")
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    wanted = {"images": ("id", "file_name", "height", "width"), "annotations": (), "categories": ("id", "name")}
    for key, fields in wanted.items():
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= set(fields) for row in rows):
            needs = f" with {', '.join(fields)}" if fields else ""
            raise DataError(f"{path} is not COCO: it needs a list {key!r}{needs}")
    return content


def _category(path: Path, content: dict[str, Any], name: str | None) -> Any:
    """The id of the category of that name, or of the only one that has annotations."""
    used = Counter(annotation.get("category_id") for annotation in content["annotations"])
    names = {row["name"]: row["id"] for row in content["categories"] if used[row["id"]]}
    if name is None:
        if len(names) != 1:
            raise ConfigError(f"{path} annotates {len(names)} categories; choose one: category=NAME of {', '.join(sorted(names))}")
        return next(iter(names.values()))
    if name not in names:
        raise ConfigError(f"{path} annotates no category {name!r}; {did_you_mean(name, names)}")
    return names[name]


def _find(path: Path, folder: Path | None, name: str) -> Path | None:
    """An image in the named folder, else beside the annotations, in ``images/``, or in ``images/`` a level up."""
    places = [folder] if folder else [path.parent, path.parent / "images", path.parent.parent / "images", path.parent.parent]
    return next((place / name for place in places if (place / name).is_file()), None)
