"""Calling what others wrote: whatever it raises becomes one error that names the plugin, and what it prints goes to stderr."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TypeVar

from ..errors import FocusError, Interrupted, PluginError

T = TypeVar("T")


@contextmanager
def calling(plugin: str, function: str, *, passing: Callable[[BaseException], bool] = lambda error: False) -> Iterator[None]:
    """A block that runs `function` of `plugin`, ``task shadow`` or a file's name.

    Raises `PluginError` for whatever comes out of it, `SystemExit` and the like included, but a `FocusError` as it is, Ctrl-C, and
    what `passing` says.
    """
    try:
        with printing_to_stderr():
            yield
    except FocusError:
        raise
    except BaseException as error:  # a stranger's code: nothing that it raises may end the program without a name
        if is_interruption(error) or passing(error):
            raise
        raise PluginError(f"{plugin}: {function} raised {reason(error)}") from error


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """``print`` writes to stderr in the block; stdout belongs to the program. Only the main thread can say so for all."""
    if threading.current_thread() is not threading.main_thread() or sys.stderr is None:
        yield
        return
    with redirect_stdout(_Stderr(sys.stderr)):
        yield


class _Stderr:
    """A stream that writes to another one and cannot close it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """Nothing: the stream is the program's."""


def is_interruption(error: BaseException) -> bool:
    """Whether somebody has asked the program to end, as opposed to a plugin that raises `KeyboardInterrupt` by itself: told apart
    wherever a handler of ours says what was a signal."""
    if isinstance(error, Interrupted):
        return True
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def reason(error: BaseException) -> str:
    """An error in one line, whatever a stranger's message looks like."""
    try:
        text = str(error)
    except Exception:  # its own __str__ raises
        text = "it cannot be shown"
    shown = text if isinstance(error, FocusError) else f"{type(error).__name__}: {text}" if text else type(error).__name__
    line = " ".join(shown.split())
    return line if len(line) <= 300 else f"{line[:300]} ..."
