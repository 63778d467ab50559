"""Which images a call means: files, folders, patterns, lists; in order, each once, and none of it in memory."""

from __future__ import annotations

import codecs
import glob
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from ...errors import ConfigError, DataError
from ...files.images import SUFFIXES
from ...files.ownership import MARK
from ...files.reading import named_in, regular
from . import places

STDIN = "-"
CHUNK = 1 << 16  # bytes of a list that are read at once
LONGEST = 1 << 16
"""Bytes of a line; what is longer is no list of paths."""


@dataclass(frozen=True)
class Found:
    """An image that is meant."""

    path: Path
    key: bytes
    """Its path without links: what tells one image from another."""
    place: str = ""
    """The folder of its predictions below the output."""


class Listing:
    """The images that files, folders, patterns such as ``photos/**/*.jpg`` and lists name, each once, in the order given; those of
    a folder or a pattern are sorted by path.

    A folder stands for the images in it; with `recursive`, for those in its folders too, whose places are kept, as they are for a
    pattern with ``**``. Hidden files, linked folders and folders of predictions are left out then. `lists` are files with a path in each
    line, or ended by a zero byte, as ``find -print0`` writes; ``-``, there or among the `inputs`, is standard input. They lie in a
    temporary file, so that a million of them needs no memory. Any of these may be an address such as ``s3://bucket/photos``, an
    uncompressed ``.tar`` stands for the images in it, and a list that ends in ``.parquet`` for the paths in its `column`.

    Raises `ConfigError` for an input that does not exist, `DataError` for one without images.
    """

    def __init__(
        self, inputs: Iterable[str | Path], *, recursive: bool = False, lists: Iterable[str | Path] = (), column: str = "path"
    ) -> None:
        self._table = sqlite3.connect("", check_same_thread=False)  # a file of its own that the system removes
        self._table.execute("CREATE TABLE found (part INTEGER, path BLOB, key BLOB UNIQUE, place BLOB)")
        self._parts = 0
        self.roots: list[Path] = []
        """What was named as it was named, so that none of it is written to."""
        for given in inputs:
            if str(given) == STDIN:
                self._add_list(STDIN)
            else:
                self._add(str(given), recursive)
        for name in lists:
            if str(name).lower().endswith(".parquet"):
                self._insert_named(places.column(str(name), column))
            else:
                self._add_list(str(name))
        if not len(self):
            raise DataError("no images are named: the list is empty")

    def __len__(self) -> int:
        return int(self._table.execute("SELECT count(*) FROM found").fetchone()[0])

    def __iter__(self) -> Iterator[Found]:
        for path, key, place in self._table.execute("SELECT path, key, place FROM found ORDER BY part, path"):
            yield Found(Path(os.fsdecode(path)), key, os.fsdecode(place))

    def __contains__(self, key: bytes) -> bool:
        return self._table.execute("SELECT 1 FROM found WHERE key = ?", (key,)).fetchone() is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._table.close()

    def _add(self, given: str, recursive: bool) -> None:
        path = Path(given)
        found: Iterable[Found]
        if places.is_address(given):
            listed = places.images_at(given, recursive=recursive)
            found, empty = (one for name, place in listed for one in _at(name, place)), f"there are no images at {given}"
        elif path.is_dir():
            found = _in_folders(path) if recursive else _in_folder(path)
            hint = "" if recursive else " (folders inside it are not searched; --recursive searches them)"
            empty = f"folder {given} has no images{hint}"
            self.roots.append(path)
        elif os.path.lexists(path):
            found, empty = _at(given) if _is_shard(given) else iter([_found(path)]), ""
            self.roots.append(path)
        elif glob.has_magic(given):
            found, empty = _matching(given), f"no image matches {given}"
        else:
            raise ConfigError(f"{given} does not exist; give an image, a folder, a pattern in quotes, or - for a list on standard input")
        if not self._insert(found) and empty:
            raise DataError(empty)

    def _insert(self, found: Iterable[Found]) -> int:
        count = 0
        self._parts += 1

        def rows() -> Iterator[tuple[int, bytes, bytes, bytes]]:
            nonlocal count
            for one in found:
                count += 1
                yield self._parts, os.fsencode(one.path), one.key, os.fsencode(one.place)

        self._table.executemany("INSERT OR IGNORE INTO found VALUES (?, ?, ?, ?)", rows())
        return count

    def _add_list(self, name: str) -> None:
        if name == STDIN:
            self._insert_lines(sys.stdin.buffer, "standard input")
            return
        with regular(name, error=ConfigError, what="the list").open("rb") as file:
            self._insert_lines(file, name)

    def _insert_lines(self, file: IO[bytes], name: str) -> None:
        self._insert_named(os.fsdecode(line) for line in _lines(file, name))

    def _insert_named(self, texts: Iterable[str]) -> None:
        for text in texts:
            path = named_in(Path(), text)
            if places.is_address(text) or _is_shard(text):
                self._insert(_at(text))
            else:
                self._insert(_in_folder(path) if path.is_dir() else [_found(path)])


def _is_shard(name: str) -> bool:
    return name.lower().endswith(".tar")


def _at(name: str, place: str = "") -> Iterator[Found]:
    """An address, or the members of a shard, which are placed below the shard's name."""
    if not _is_shard(name):
        yield Found(Path(name), os.fsencode(name), place)
        return
    shard = name if places.is_address(name) else os.path.realpath(name)
    for member in places.members(shard):
        inside = Path(member.rpartition("::")[2].partition("/")[2])
        below = "/".join(part for part in (place, Path(name).stem, *inside.parent.parts) if part not in ("", "/", ".."))
        yield Found(Path(name, inside.name), os.fsencode(member), below)


def _found(path: Path, place: str = "") -> Found:
    return Found(path, os.fsencode(os.path.realpath(path)), place)


def _is_image(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.name.startswith(".") and not _is_folder(entry)  # noqa: PTH122 - of a million


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def _in_folder(folder: Path, place: str = "") -> Iterator[Found]:
    """Its images, in no order; what is no regular file is told when it is read."""
    real = os.path.realpath(folder)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_image(entry):
                    key = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, entry.name)  # noqa: PTH118 - as above
                    yield Found(Path(entry.path), os.fsencode(key), place)
    except OSError as error:
        raise DataError(f"cannot list folder {folder}: {error.strerror or error}") from error


def _in_folders(root: Path) -> Iterator[Found]:
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        place = folder.relative_to(root)
        yield from _in_folder(folder, "" if place == Path() else place.as_posix())
        with os.scandir(folder) as entries:
            below = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")]
        waiting += [path for path in below if not (path / MARK).exists()]


def _matching(pattern: str) -> Iterator[Found]:
    """The images that a pattern matches; below the part before ``**``, places are kept."""
    parts = Path(pattern).parts
    root = Path(*parts[: parts.index("**")]) if "**" in parts else None
    for name in glob.iglob(pattern, recursive=True):  # noqa: PTH207 - Path.glob takes no absolute pattern
        path = Path(name)
        if path.suffix.lower() in SUFFIXES and not path.is_dir():
            place = path.parent.relative_to(root) if root is not None else Path()
            yield _found(path, "" if place == Path() else place.as_posix())


def _lines(file: IO[bytes], name: str) -> Iterator[bytes]:
    """The lines of a list that are not empty; lines end at a zero byte where the beginning has one."""
    rest, end = file.read(CHUNK).removeprefix(codecs.BOM_UTF8), b"\n"
    if b"\0" in rest:
        end = b"\0"
    while rest:
        *lines, rest = rest.split(end)
        more = file.read(CHUNK)
        if not more:
            lines, rest = [*lines, rest], b""
        if len(rest) > LONGEST:
            raise DataError(f"{name} is no list of paths: a line has more than {LONGEST} bytes")
        for line in lines:
            text = line if end == b"\0" else line.strip(b"\r\n")
            if text.strip():
                yield text
        rest += more
