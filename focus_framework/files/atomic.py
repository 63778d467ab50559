"""Writing files so that a reader, or a power cut, sees the old one or the new one and never half of either."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to; flushed to the disk and renamed to `path` at the end, removed where the block raises.
    Folders above it are made. Raises `DataError` where a device, a pipe or a folder lies there: a rename would put a file in its place."""
    path = Path(path)
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a regular file, so nothing is written there; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".focus-{uuid.uuid4().hex}{path.suffix}")
    beside.touch()
    usual = beside.stat().st_mode
    try:
        yield beside
        beside.chmod(usual)  # some libraries write files that only their owner can read
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
