"""Whose a place to write is: nobody's file is ever replaced by ours, except where somebody asks for it by ``--overwrite``.

A folder that the framework fills carries the mark of what filled it. It is taken where it is missing, empty, or marked by the same
kind of work before. A report replaces only a report of the same kind, known by what it begins with. What a call reads is never
written to, whatever was asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ConfigError, DataError
from .atomic import BESIDE, replacing

MARK = ".focus-framework"
"""The file in a folder that says what filled it."""
BEGINNING = 4096
"""Bytes of a file in which a report tells what it is."""


@contextmanager
def claimed(
    folder: Path,
    kind: str,
    *,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    known: Callable[[Path], bool] = lambda folder: False,
) -> Iterator[Path]:
    """The folder, made where it is missing and marked as one of `kind`, to write to. What was made for nothing goes again. `known` says
    of a folder without a mark whether it is one all the same.

    Raises `ConfigError` where it holds what is not ours, or lies among the `inputs`; `DataError` where it cannot be made.
    """
    refuse_inputs([folder], inputs)
    if not is_ours(folder, kind, known) and not overwrite:
        raise ConfigError(f"{folder} is not empty, and not a folder of {kind}; choose another --out, or say --overwrite")
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / MARK).exists():
            with replacing(folder / MARK) as beside:
                beside.write_text(f"{kind}\n", encoding="utf-8")
    except OSError as error:
        remove_empty(made)
        raise DataError(f"cannot write to {folder}: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        remove_empty(made)


def is_ours(folder: Path, kind: str, known: Callable[[Path], bool] = lambda folder: False) -> bool:
    """Whether a folder may be filled: it is missing, empty, or marked by work of this kind, or `known` by what lies in it."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file, not a folder to write to; choose another --out")
    if all(BESIDE.fullmatch(path.name) for path in folder.iterdir()):  # empty, or left so by a process that was killed
        return True
    with suppress(OSError, UnicodeDecodeError):
        return (folder / MARK).read_text("utf-8").strip() == kind
    return known(folder)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, the innermost first, that hold nothing but our mark."""
    for folder in folders:
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == [MARK]:
                (folder / MARK).unlink()
            folder.rmdir()


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise `ConfigError` where one of the outputs is one of the inputs."""
    read = {os.path.realpath(path): path for path in inputs}
    for path in outputs:
        if os.path.realpath(path) in read:
            raise ConfigError(f"{path} is read by this very call and cannot be written to; choose another name")


def refuse_to_replace(
    path: Path,
    *,
    kind: str,
    suffixes: Iterable[str] = (),
    begins: bytes | None = None,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
) -> None:
    """Raise `ConfigError` unless a report may be written to `path`: it is no input, its suffix is one of `suffixes`, if there are any,
    and what lies there has `begins` in its beginning, as reports of this `kind` have. Without `begins` nothing is ever replaced."""
    refuse_inputs([path], inputs)
    allowed = tuple(suffixes)
    if allowed and path.suffix.lower() not in allowed:
        raise ConfigError(f"{path} is no name for {kind}; it ends in {' or '.join(allowed)}")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give {kind} the name of a file")
    for place in path.parents:
        if place.exists():
            if not place.is_dir():
                raise ConfigError(f"cannot write {path}: {place} is not a folder")
            if not os.access(place, os.W_OK):
                raise ConfigError(f"cannot write {path}: nothing may be written in {place}")
            break
    if overwrite or not os.path.lexists(path):
        return
    if not path.is_file():
        raise ConfigError(f"{path} is not a regular file; choose another name for {kind}")
    with path.open("rb") as file:
        if begins is None or begins not in file.read(BEGINNING):
            raise ConfigError(f"{path} exists and is not {kind} of ours; choose another name, or remove it first")
