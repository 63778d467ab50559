"""Pairs in Hugging Face data sets, from the hub or saved to a folder. Needs the extra ``focus-framework[datasets]``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError, did_you_mean
from ..files.images import ImageArray, Source, read_image, read_mask
from .pair import Pair, Scan, split_named

IMAGE_COLUMNS = ("image", "img", "picture")
MASK_COLUMNS = ("mask", "label", "annotation", "gt", "segmentation", "segmentation_mask")


@dataclass(frozen=True)
class HubPair(Pair):
    """A row of a table; `image` and `mask` only say which."""

    table: Any = field(kw_only=True, repr=False, compare=False)
    row: int = field(kw_only=True)
    columns: tuple[str, str] = field(kw_only=True)

    def read_image(self) -> ImageArray:
        return read_image(self._cell(0), name=str(self.image))

    def read_mask(self, size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
        return read_mask(self._cell(1), foreground=self.foreground, size=size, name=str(self.mask))

    def _cell(self, side: int) -> Source:
        cell = self.table.select_columns(self.columns[side])[self.row][self.columns[side]]
        if cell is None:
            raise DataError(f"{(self.image, self.mask)[side]} is empty")
        return cell["bytes"] if cell["bytes"] is not None else cell["path"]


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved this folder (``save_to_disk``)."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def scan_saved(folder: Path, options: dict[str, str]) -> Scan:
    """The pairs of a saved folder; options as `scan_hub`."""
    try:
        tables = _library().load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read data set {folder}: {error}") from error
    return _scan(str(folder), tables, options)


def scan_hub(name: str, options: dict[str, str]) -> Scan:
    """The pairs of ``owner/name``. `options` may hold ``image_column`` and ``mask_column``.

    Raises `DataError` where it cannot be had, `ConfigError` where the columns are not obvious.
    """
    library = _library()
    try:
        tables = library.load_dataset(name)
    except (OSError, ValueError, library.exceptions.DatasetsError) as error:
        raise DataError(f"cannot get data set {name} from the Hugging Face hub: {str(error).splitlines()[0]}") from error
    return _scan(f"hf://{name}", tables, options)


def _library() -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise DataError("Hugging Face data sets need a further package; type pip install 'focus-framework[datasets]'") from error
    return datasets


def _scan(label: str, tables: Any, options: dict[str, str]) -> Scan:
    parts = tables if isinstance(tables, dict) else {"": tables}
    wanted = [options.pop("image_column", None), options.pop("mask_column", None)]
    pairs: list[Pair] = []
    for part, table in parts.items():
        columns = _columns(label, table, wanted)
        for column in columns:
            table = table.cast_column(column, _library().Image(decode=False))  # our reading, for orientation, depth and limits
        for row in range(len(table)):
            name = f"{part}/{row:06d}".lstrip("/")
            image, mask = (Path(label, name, column) for column in columns)
            pairs.append(
                HubPair(image, mask, "white", name, split=split_named(part), table=table, row=row, columns=columns)
            )  # fmt: skip
    return Scan(tuple(pairs))


def _columns(label: str, table: Any, wanted: list[str | None]) -> tuple[str, str]:
    pictures = [name for name, kind in table.features.items() if isinstance(kind, _library().Image)]
    chosen = []
    for what, name, usual in (("image", wanted[0], IMAGE_COLUMNS), ("mask", wanted[1], MASK_COLUMNS)):
        name = name or next((name for name in usual if name in pictures), None)
        if name is None:
            raise ConfigError(f"{label}: which column is the {what}? Give {what}_column=NAME of {', '.join(pictures) or 'none'}")
        if name not in pictures:
            raise ConfigError(f"{label} has no column {name!r}; {did_you_mean(name, pictures)}")
        chosen.append(name)
    return chosen[0], chosen[1]
