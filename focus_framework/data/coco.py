"""Pairs in COCO annotations: the union of one category's polygons and run lengths is the mask.

The format: cocodataset.org, "data format", object detection. Images without an annotation of the category are left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError, did_you_mean
from ..files.coco import draw
from ..files.reading import named_in, read_json
from .pair import Pair, Scan

LARGEST_SIDE = 1 << 20
"""Pixels; no image is higher or wider."""


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
        name = PureWindowsPath(image["file_name"]).with_suffix("").as_posix()
        size = (int(image["height"]), int(image["width"]))
        if file is None:
            missing.append(f"{path}: image {image['file_name']} is not in {folder or path.parent}; give images=DIR")
        else:
            pairs.append(CocoPair(file, path, "white", name, shapes=tuple(shapes[image["id"]]), drawn_for=size))
    return Scan(tuple(sorted(pairs, key=lambda pair: pair.name)), missing=tuple(missing))


def _load(path: Path) -> dict[str, Any]:
    content = read_json(path, what="annotations")
    wanted = {"images": ("id", "file_name", "height", "width"), "annotations": (), "categories": ("id", "name")}
    for key, fields in wanted.items():
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= set(fields) for row in rows):
            needs = f" with {', '.join(fields)}" if fields else ""
            raise DataError(f"{path} is not COCO: it needs a list {key!r}{needs}")
    for image in content["images"]:
        _check_image(path, image)
    known = {image["id"] for image in content["images"]}
    for annotation in content["annotations"]:
        number = annotation.get("image_id")
        if not isinstance(number, int | str) or number not in known:
            raise DataError(f"{path} annotates image {number!r:.60}, which is not among its images")
        if not isinstance(annotation.get("segmentation", []), list | dict):
            raise DataError(f"{path}, image {number}: a segmentation is neither polygons nor run lengths")
    return content


def _check_image(path: Path, image: dict[str, Any]) -> None:
    if not isinstance(image["id"], int | str) or not isinstance(image["file_name"], str) or not image["file_name"].strip():
        raise DataError(f"{path} is not COCO: an image has the id {image['id']!r:.60} and the file name {image['file_name']!r:.60}")
    for side in ("height", "width"):
        if not isinstance(image[side], int) or not 0 < image[side] <= LARGEST_SIDE:
            raise DataError(f"{path}, image {image['file_name']}: its {side} is {image[side]!r:.60}, not a number of pixels")


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
    return next((file for place in places if (file := named_in(place, name)).is_file()), None)
