"""Pairs named in a list: CSV, TSV or JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any, TypeAlias

from ..errors import DataError
from ..files.reading import TEXT, named_in, problem, regular
from .pair import Pair, Scan, as_foreground, split_named

Row: TypeAlias = tuple[int, dict[str, Any]]
"""The number of a line, from 1, and its fields."""
FIELDS = ("image", "mask", "name", "foreground", "split")


def scan_list(path: Path) -> Scan:
    """The pairs of a list: a field ``image`` and ``mask`` a line, optionally ``name``, ``foreground`` and ``split``.

    Paths are relative to the list's folder. Raises `DataError`, with the line, where a field is missing or wrong.
    """
    regular(path, what="list")
    try:
        rows = list(READERS[path.suffix.lower()](path))
    except (UnicodeDecodeError, csv.Error, RecursionError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not rows:
        raise DataError(f"{path} lists no pairs; each line needs image and mask")
    pairs: dict[str, Pair] = {}
    missing: list[str] = []
    for line, row in rows:
        pair = _pair(path, line, row)
        if pair.name in pairs:
            raise DataError(f"{path}, line {line}: a second pair named {pair.name!r}; give them a field name")
        gone = [f"{path}, line {line}: {file} {reason}" for file in (pair.image, pair.mask) if (reason := problem(file))]
        missing += gone
        if not gone:
            pairs[pair.name] = pair
    return Scan(tuple(pairs.values()), missing=tuple(missing))


def _pair(path: Path, line: int, row: dict[str, Any]) -> Pair:
    def wrong(what: str) -> DataError:
        return DataError(f"{path}, line {line}: {what}")

    for key in ("image", "mask"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise wrong(f"no {key}; each line needs image and mask")
    image, mask = (named_in(path.parent, row[key].strip()) for key in ("image", "mask"))
    foreground = as_foreground(row.get("foreground") or "white", f"{path}, line {line}")
    split = split_named(str(row["split"])) if row.get("split") else None
    if row.get("split") and not split:
        raise wrong(f"split is {row['split']!r}; it must be train, validation or test")
    name = row.get("name") or _name(row["image"].strip())
    return Pair(image, mask, foreground, str(name), split=split)


def _name(image: str) -> str:
    """What a pair is called whose list says nothing of it: the path of its image as it stands there, without its end."""
    return PureWindowsPath(image).with_suffix("").as_posix().lstrip("./")


def _read_separated(path: Path) -> Iterator[Row]:
    """A table with a header, or without one: then the first two columns are image and mask."""
    with path.open(newline="", encoding=TEXT) as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        header: list[str] = []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip().lower() for cell in cells]
                if {"image", "mask"} <= set(header):
                    continue
                header = list(FIELDS[:2])
            yield reader.line_num, dict(zip(header, cells, strict=False))


def _read_json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(path.read_text(TEXT).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise DataError(f'{path}, line {number}: an object is needed, as {{"image": "a.jpg", "mask": "a.png"}}')
        yield number, row


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _read_separated,
    ".tsv": _read_separated,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}
