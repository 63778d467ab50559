"""Ending a run early but in order: a signal is noted, the loop finishes its step, saves, and says how to go on."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from ...errors import FocusError, Interrupted

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C, what ends a process politely, and what SLURM can send before it takes a machine away (``--signal=USR1@120``)."""


class StoppedError(FocusError):
    """A signal ended the run; everything is saved. The exit code is the shell's: 128 and the signal's number."""

    def __init__(self, number: int, step: int, folder: Path, *, leads: bool = True) -> None:
        self.exit_code = 128 + number
        self.leads = leads
        """Whether the process that it ended is the one that speaks."""
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} after step {step}, which is saved; focus train --resume {folder} resumes from there")


class Signals:
    """Notes the first of `SIGNALS` while it is entered; a second SIGINT ends the program at once, as it usually does."""

    def __init__(self) -> None:
        self.received = 0
        """The signal's number, 0 for none."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self.received == signal.SIGINT:
            raise Interrupted
        self.received = number

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
