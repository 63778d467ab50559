"""Predictions as files: which image becomes which file, in the forms that ``focus predict --save`` names."""

from __future__ import annotations

import errno
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from ..files.atomic import replacing
from ..files.coco import run_lengths
from ..files.images import list_images, read_image, write_image
from ..files.sheets import overlay

if TYPE_CHECKING:
    from .model import Model, Result

FORMS = ("mask", "binary", "cutout", "overlay", "rle")
RLE_FILE = "rle.json"


@dataclass(frozen=True)
class Source:
    """An image, and the name of its predictions: its stem, numbered where another image before it has the same."""

    path: Path
    name: str


@dataclass
class Report:
    """What has been written for which image, and what has failed."""

    written: dict[Path, list[Path]] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)


def parse_forms(texts: Iterable[str]) -> list[str]:
    """Forms out of texts such as ``mask`` and ``cutout,rle``, each once. Raises `ConfigError` for one that is none."""
    forms = [form.strip() for text in texts for form in text.split(",")]
    for form in forms:
        if form not in FORMS:
            raise ConfigError(f"predictions have no form {form!r}; known: {', '.join(FORMS)}")
    return list(dict.fromkeys(forms))


def find_sources(inputs: Iterable[Path]) -> list[Source]:
    """The images that files and folders name, each once. A folder stands for the images in it, not for those in its folders.

    Images of one stem get distinct names in the order given: ``cat``, ``cat-2``. Raises `DataError` for a folder without any.
    """
    found: dict[Path, Path] = {}
    for given in inputs:
        pictures = list_images(given) if given.is_dir() else [given]
        if not pictures:
            raise DataError(f"folder {given} has no images (folders inside it are not searched)")
        for path in pictures:
            found.setdefault(path.resolve(), path)
    taken: set[str] = set()
    sources = []
    for path in found.values():
        name, number = path.stem, 1
        while name.casefold() in taken:  # file systems may not tell Cat from cat
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.casefold())
        sources.append(Source(path, name))
    return sources


def write_predictions(
    model: Model,
    sources: Sequence[Source],
    out: Path,
    *,
    forms: Sequence[str] = ("mask",),
    category: str = "foreground",
    batch_size: int = 8,
    on_done: Callable[[Source], None] = lambda source: None,
) -> Report:
    """Predict images, `batch_size` at a time, and write each in every form: into `out`, or into a folder a form where there are
    several.

    All forms of an image are written or none; an image that cannot be read or written is reported and the others go on. `rle` is one
    COCO file for all, `out`/rle.json, whose category is named `category`. Raises `ConfigError` for an unknown form, and before
    anything is written where a prediction would replace one of the images.
    """
    pictures = [form for form in parse_forms(forms) if form != "rle"]
    folders = {form: out / form if len(pictures) > 1 else out for form in pictures}
    _refuse_to_replace(sources, folders.values())
    report = Report()
    coco = Coco(category)
    for folder in (out, *folders.values()):
        folder.mkdir(parents=True, exist_ok=True)

    def failed(source: Source, error: Exception) -> None:
        report.failed[source.path] = str(error) or type(error).__name__
        on_done(source)

    for source, result in _predict(model, sources, batch_size, failed):
        try:
            drawn = {folder / f"{source.name}.png": render(form, result) for form, folder in folders.items()}
            _write_all(drawn)
        except (DataError, OSError, MemoryError) as error:
            if _takes_no_more(error):  # nor would it any of the others
                raise
            failed(source, error)
        else:
            report.written[source.path] = list(drawn)
            if "rle" in forms:
                coco.add(source.path, result)
                report.written[source.path].append(out / RLE_FILE)
            on_done(source)
    if "rle" in forms and report.written:
        coco.write(out / RLE_FILE)
    return report


def _takes_no_more(error: Exception) -> bool:
    """Whether the disk is full or may only be read."""
    system = error if isinstance(error, OSError) else error.__cause__
    return isinstance(system, OSError) and system.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _predict(
    model: Model, sources: Iterable[Source], batch_size: int, failed: Callable[[Source, Exception], None]
) -> Iterator[tuple[Source, Result]]:
    """The results of the images that can be read."""
    waiting: deque[Source] = deque()

    def readable() -> Iterator[NDArray[np.uint8]]:
        for source in sources:
            try:
                picture = read_image(source.path)
            except (DataError, OSError, MemoryError) as error:
                failed(source, error)
            else:
                waiting.append(source)
                yield picture

    for result in model.stream(readable(), batch_size=batch_size):
        yield waiting.popleft(), result


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


class Coco:
    """Masks as a COCO data set in memory: run lengths, column by column, as its format wants them."""

    def __init__(self, category: str) -> None:
        self.table: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
        self.table["categories"] = [{"id": 1, "name": category, "supercategory": "foreground"}]

    def add(self, path: Path, result: Result) -> None:
        """Another image; one whose mask is empty has no annotation."""
        mask = result.mask
        height, width = mask.shape
        number = len(self.table["images"]) + 1
        self.table["images"].append({"id": number, "file_name": path.name, "height": height, "width": width})
        if not mask.any():
            return
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]
        self.table["annotations"].append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "segmentation": {"size": [height, width], "counts": run_lengths(mask)},
                "area": int(mask.sum()),
                "bbox": box,
                "iscrowd": 0,
                "score": round(float(result.probability[mask].mean()), 4),
            }
        )

    def write(self, path: Path) -> None:
        """The data set as JSON."""
        with replacing(path) as beside:
            beside.write_text(json.dumps(self.table))


def _refuse_to_replace(sources: Sequence[Source], folders: Iterable[Path]) -> None:
    pictures = {source.path.resolve() for source in sources}
    for folder in folders:
        for source in sources:
            if (folder / f"{source.name}.png").resolve() in pictures:
                raise ConfigError(f"the prediction of {source.path} would replace an image in {folder}; choose another folder")


def _write_all(files: dict[Path, NDArray[np.uint8]]) -> None:
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
