"""The gate through which files come in: regular files alone, texts whole, and one line about what is wrong with any other."""

from __future__ import annotations

import errno
import json
import os
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

from ..errors import DataError, FocusError

T = TypeVar("T")
TEXT = "utf-8-sig"
"""Encoding of what people write: UTF-8, with the mark that editors on Windows put before it or without."""
KINDS: dict[Callable[[int], bool], str] = {
    stat.S_ISDIR: "is a folder, not a file",
    stat.S_ISFIFO: "is a named pipe, which is never opened: whoever reads it may wait for ever",
    stat.S_ISCHR: "is a device, not a file",
    stat.S_ISBLK: "is a device, not a file",
    stat.S_ISSOCK: "is a socket, not a file",
}


def regular(path: str | os.PathLike[str], *, error: type[FocusError] = DataError, what: str = "") -> Path:
    """The path, if it leads to a regular file; links are followed. `what` it is stands before its name in the error."""
    if reason := problem(path):
        raise error(f"{what} {os.fspath(path)} {reason}".lstrip())
    return Path(path)


def problem(path: str | os.PathLike[str]) -> str:
    """What is wrong with a path that should lead to a regular file; empty where nothing is."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return "is a link to a file that does not exist" if Path(path).is_symlink() else "does not exist"
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            return "is a link that leads back to itself"
        return f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    return next((told for is_kind, told in KINDS.items() if is_kind(mode)), "")


def spelled_here(name: str) -> str:
    """A file's name that stands in a text, as Python spells it here. Both are bytes of UTF-8; where the language is C, those beyond ASCII
    are spelled one by one."""
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))


def as_text(name: str) -> str:
    """What was typed here, as it stands in a text: the inverse of `spelled_here`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def named_in(folder: Path, name: str) -> Path:
    """A path that a list in a folder names. One with backslashes, as it is written on Windows, is the same with slashes unless a file of
    that very name is there."""
    name = spelled_here(name)
    path = folder / name
    return folder / PureWindowsPath(name).as_posix() if "\\" in name and not os.path.lexists(path) else path


def read_text(path: str | os.PathLike[str], *, error: type[FocusError] = DataError, what: str = "", encoding: str = TEXT) -> str:
    """The text of a regular file. Raises `error`, which names it."""
    return _read(path, lambda text: text, "text", error, what, encoding)


def read_json(path: str | os.PathLike[str], *, error: type[FocusError] = DataError, what: str = "") -> Any:
    """What a file of JSON holds. Raises `error`, which names it."""
    return _read(path, json.loads, "JSON", error, what, TEXT)


def read_toml(path: str | os.PathLike[str], *, error: type[FocusError] = DataError, what: str = "") -> dict[str, Any]:
    """What a file of TOML holds, names of files that are no UTF-8 as Python spells them. Raises `error`, which names it."""
    return _read(path, tomllib.loads, "TOML", error, what, TEXT, "surrogateescape")


def _read(
    path: str | os.PathLike[str],
    parse: Callable[[str], T],
    form: str,
    error: type[FocusError],
    what: str,
    encoding: str,
    wrong_bytes: str = "strict",
) -> T:
    file = regular(path, error=error, what=what)
    try:
        return parse(file.read_text(encoding, wrong_bytes))
    except RecursionError:
        raise error(f"{what} {file} cannot be read as {form}: it is nested too deeply".lstrip()) from None
    except (OSError, ValueError) as found:
        reason = found.strerror if isinstance(found, OSError) and found.strerror else found
        raise error(f"{what} {file} cannot be read as {form}: {reason}".lstrip()) from found
