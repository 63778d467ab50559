"""What a run writes while it goes on: `metrics.jsonl`, and what its trackers show."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...config.schema import RunConfig
from ...files.atomic import replacing
from .folder import saving
from .trackers import open_trackers


class Log:
    """One JSON object a line, flushed line by line, and the same numbers in the trackers. A run that goes on appends; lines of steps
    that are done again (after `start`) are dropped first, so that every step stands there once. Without a folder (a process that only
    helps) nothing is written."""

    def __init__(self, folder: Path | None, config: RunConfig, *, start: int = 0) -> None:
        self._folder = folder
        if folder is None:
            return
        self.path = folder / "metrics.jsonl"
        kept = [line for line in _complete_lines(self.path) if json.loads(line)["step"] <= start]
        with replacing(self.path) as beside:
            beside.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")
        self._trackers = open_trackers(folder, start, config)

    def write(self, record: Mapping[str, Any]) -> None:
        """`record` has ``step``; its other numbers become scalars. Raises `SaveError` where the disk is full."""
        if self._folder is None:
            return
        with saving(self._folder):
            self._write(record)

    def _write(self, record: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(dict(record), allow_nan=False) + "\n")
        self._file.flush()
        numbers = {name: value for name, value in record.items() if name != "step" and isinstance(value, int | float)}
        for tracker in self._trackers:
            tracker.scalars(numbers, record["step"])

    def picture(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """An image `[H, W, 3]` for the trackers."""
        if self._folder is not None:
            with saving(self._folder):
                for tracker in self._trackers:
                    tracker.picture(name, image, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._folder is not None:
            closing: list[Callable[[], None]] = [partial(tracker.close, failed=kind is not None) for tracker in self._trackers]
            for close in (self._file.close, *closing):
                with suppress(OSError):  # a full disk, of which `write` has told already
                    close()


def _complete_lines(path: Path) -> list[str]:
    """Lines of an earlier part of the run; a last line that was cut off is not one."""
    if not path.exists():
        return []
    return [line for line in path.read_text("utf-8").split("\n")[:-1] if line]
