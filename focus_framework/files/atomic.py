"""Writing files so that a reader, or a power cut, sees the old one or the new one and never half of either."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ConfigError, DataError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BESIDE = re.compile(r"\.focus-[0-9a-f]{32}(\..*)?")
"""Names of files that are being written."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to; flushed to the disk and renamed to `path` at the end, removed where the block raises.
    Folders above it are made. Raises `DataError` where a device, a pipe or a folder lies there: a rename would put a file in its place;
    an `OSError` of the system names `path`, not the name beside it."""
    path = Path(path)
    with _replacing(path, path.with_name(f".focus-{uuid.uuid4().hex}{path.suffix}")) as beside:
        yield beside


@contextmanager
def replacing_alone(path: str | Path) -> Iterator[Path]:
    """The same for a file that takes long: the name beside follows from `path`, so that the next call writes over what one that was killed
    has left. Raises `ConfigError` where another process is writing it."""
    path = Path(path)
    beside = path.with_name(f".focus-{hashlib.md5(path.name.encode(), usedforsecurity=False).hexdigest()}{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _held(path, beside), _replacing(path, beside):
        yield beside


@contextmanager
def _held(path: Path, beside: Path) -> Iterator[None]:
    if fcntl is None:  # and a file that is open cannot be renamed there
        yield
        return
    with beside.open("ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"another process is writing {path}; wait for it, or choose another name") from None
        yield


@contextmanager
def _replacing(path: Path, beside: Path) -> Iterator[Path]:
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a regular file, so nothing is written there; choose another name")
    with _naming(path, beside):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch()
        usual = beside.stat().st_mode
        try:
            yield beside
            beside.chmod(usual)  # some libraries write files that only their owner can read
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            with suppress(OSError):  # its folder is gone; what went wrong before is the error
                beside.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path, beside: Path) -> Iterator[None]:
    """Errors of the system that name no file, the one beside, or a folder above, with the name that the user knows."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename and Path(os.fsdecode(error.filename)) not in (beside, *path.parents)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed had begun to write in a folder and those below it. Only for a folder in which nobody else
    is writing now."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if BESIDE.fullmatch(name):
                (Path(place) / name).unlink(missing_ok=True)
