"""Predictions as files, in the forms that ``focus predict --save`` names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from ..files.atomic import replacing
from ..files.coco import run_lengths
from ..files.images import write_image
from ..files.sheets import overlay

if TYPE_CHECKING:
    from .result import Result

FORMS = ("mask", "binary", "cutout", "overlay", "rle")
RLE_FILE = "rle.json"


def parse_forms(texts: Iterable[str]) -> list[str]:
    """Forms out of texts such as ``mask`` and ``cutout,rle``, each once. Raises `ConfigError` for one that is none."""
    forms = [form.strip() for text in texts for form in text.split(",")]
    for form in forms:
        if form not in FORMS:
            raise ConfigError(f"predictions have no form {form!r}; known: {', '.join(FORMS)}")
    return list(dict.fromkeys(forms))


def render(form: str, result: Result) -> NDArray[np.uint8]:
    """One form of a prediction as a uint8 image: mask and binary `[H, W]`, overlay `[H, W, 3]`, cutout `[H, W, 4]`."""
    if form == "mask":
        return np.rint(result.probability * 255).astype(np.uint8)
    if form == "binary":
        return result.mask.astype(np.uint8) * 255
    if form == "cutout":
        return np.asarray(result.cutout())
    return overlay(result.image, result.mask)


def save(result: Result, path: Path, form: str) -> None:
    """Write a prediction in one form; see `Result.save`."""
    [form] = parse_forms([form])
    if form != "rle":
        write_image(path, render(form, result))
        return
    try:
        with replacing(path) as beside:
            beside.write_text(json.dumps(result.rle()), encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error


def annotated(result: Result) -> dict[str, Any]:
    """What a COCO file says of an image: its size and, where its mask is not empty, an annotation without its numbers."""
    mask = result.mask
    height, width = mask.shape
    about: dict[str, Any] = {"height": height, "width": width}
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        about["annotation"] = {
            "segmentation": {"size": [height, width], "counts": run_lengths(mask)},
            "area": int(mask.sum()),
            "bbox": [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)],
            "iscrowd": 0,
            "score": round(float(result.probability[mask].mean()), 4),
        }
    return about


def write_coco(path: Path, category: str, images: Callable[[], Iterator[tuple[Path, dict[str, Any]]]]) -> None:
    """A COCO data set: `images` gives the path of each and what `annotated` says of it, twice the same. One at a time is in memory."""

    def rows() -> Iterator[str]:
        for number, (image, about) in enumerate(images(), 1):
            yield json.dumps({"id": number, "file_name": image.name, "height": about["height"], "width": about["width"]})

    def annotations() -> Iterator[str]:
        for number, (_, about) in enumerate(images(), 1):
            if "annotation" in about:
                yield json.dumps({"id": number, "image_id": number, "category_id": 1, **about["annotation"]})

    kind = json.dumps([{"id": 1, "name": category, "supercategory": "foreground"}])
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        file.write('{"images": [')
        _write_joined(file, rows())
        file.write('], "annotations": [')
        _write_joined(file, annotations())
        file.write(f'], "categories": {kind}}}')


def _write_joined(file: TextIO, texts: Iterable[str]) -> None:
    for number, text in enumerate(texts):
        file.write(", " * bool(number) + text)


def write_all(files: dict[Path, NDArray[np.uint8]]) -> None:
    """All of the files or none."""
    written: list[Path] = []
    try:
        for path, array in files.items():
            write_image(path, array)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
