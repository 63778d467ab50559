"""Whose code it was: an error in the middle of a run, out of what a plugin built, gets the name of the plugin and the function.

Nothing is done before there is an error: its traceback shows whose functions were running.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import NamedTuple

import torch
from torch import nn

from ..errors import FocusError, PluginError
from ..plugin.calls import is_interruption, printing_to_stderr, reason

Parts = Mapping[str, object]
"""What plugins built, by ``backbone vit`` and the like."""


@contextmanager
def naming_plugins(
    parts: Parts, *, passing: Callable[[BaseException], bool] = lambda error: False, otherwise: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """A block in which networks of plugins run. What one of them raises becomes a `PluginError`, but for too little memory and what
    `passing` says is no fault of theirs. For an error that is not out of one of
    them, but perhaps of what one gave, `otherwise` is asked, which may raise such an error itself."""
    try:
        with printing_to_stderr():
            yield
    except FocusError:
        raise
    except BaseException as error:
        if is_interruption(error) or is_memory_short(error) or passing(error):
            raise
        if found := blamed(error, parts):
            raise PluginError(f"{found.plugin}: {found.function} raised {reason(error)}") from error
        if isinstance(error, Exception):
            otherwise()
        raise


def is_memory_short(error: BaseException) -> bool:
    """Which is no fault of a plugin."""
    told = str(error) if isinstance(error, RuntimeError) else ""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        sign in told for sign in ("not enough memory", "can't allocate memory", "out of memory")
    )


class Blamed(NamedTuple):
    """Where an error came from."""

    plugin: str
    function: str
    line: str
    """The innermost line of the plugin's own file, or else of whom it called, with its file and number."""


def blamed(error: BaseException, parts: Parts) -> Blamed | None:
    """The plugin and its function that ran when the error came: the outermost by the object, else, as of a function of autograd that runs
    backwards, the innermost by the file of the plugin's class."""
    modules = {plugin: whole for plugin, whole in parts.items() if isinstance(whole, nn.Module)}
    owners = {id(module): plugin for plugin, whole in modules.items() for module in whole.modules()}
    files = {file: plugin for plugin, whole in modules.items() if (file := _file(type(whole)))}
    steps = [step for step in walk_tb(error.__traceback__) if not _is_library(str(step[0].f_globals.get("__name__", "")))]
    for frame, _ in steps:
        itself = frame.f_locals.get("self")
        if isinstance(itself, nn.Module) and id(itself) in owners:
            return Blamed(owners[id(itself)], _called(frame.f_code.co_name), _line(steps))
    for frame, _ in reversed(steps):
        if frame.f_code.co_filename in files:
            return Blamed(files[frame.f_code.co_filename], _called(frame.f_code.co_name), _line(steps))
    return None


def _line(steps: Sequence[tuple[FrameType, int]]) -> str:
    frame, number = steps[-1]
    text = linecache.getline(frame.f_code.co_filename, number).strip()
    return f"{Path(frame.f_code.co_filename).name} line {number}, {text:.100}"


def _called(function: str) -> str:
    return "its network" if function.startswith("<") else f"{function}()"


def _file(kind: type) -> str | None:
    try:
        file = inspect.getsourcefile(kind)
    except (TypeError, OSError):
        return None
    return None if _is_library(kind.__module__) else file


def _is_library(module: str) -> bool:
    """Of the framework or of torch: their functions run on behalf of a plugin."""
    return module.partition(".")[0] in ("torch", "accelerate", "focus_framework")
