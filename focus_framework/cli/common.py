"""What several commands share: the options they have in common, results on stdout, everything else on stderr."""

from __future__ import annotations

import codecs
import io
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click
from click.shell_completion import CompletionItem

from ..errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from ..inference.model import Model
    from ..plugin.registry import Kind

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, all else on stderr.")


overwrite_option = click.option("--overwrite", is_flag=True, help="Write into --out though it holds files that are not of this kind.")


PREDICTION = ("flip", "scales", "tile", "overlap", "temperature", "precision")


def prediction_options(command: Callable[..., None]) -> Callable[..., None]:
    """How a model sees an image; the command gets what was given as one mapping, `prediction`, for `load`."""
    options = (
        click.option("--flip/--no-flip", default=None, help="Average with the mask of the mirror image."),
        click.option(
            "--scales", callback=_numbers, metavar="S,...", help="Average over these multiples of the network's size: 0.75,1,1.25."
        ),
        click.option(
            "--tile", type=int, metavar="PIXELS", help="Cut larger images into tiles of this side, blended where they overlap; 0: never."
        ),
        click.option("--overlap", type=float, metavar="SHARE", help="Share of a tile that it has in common with the next one."),
        click.option("--temperature", type=float, metavar="T", help="Below 1 makes soft maps sharper, above 1 softer; 1: as they come."),
        click.option("--precision", metavar="auto|fp32|bf16", help="Numeric precision; auto tries both on the first images."),
    )

    @wraps(command)
    def gathered(*args: Any, **given: Any) -> None:
        command(*args, prediction={name: given.pop(name) for name in PREDICTION}, **given)

    for option in reversed(options):
        gathered = option(gathered)
    return gathered


def finite(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """A range of click's lets NaN pass."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is not a number", context, parameter)
    return value


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> list[float] | None:
    try:
        return None if value is None else [float(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 0.75,1,1.25") from None


def print_json(result: Mapping[str, Any]) -> None:
    """One JSON object on stdout. Numbers that JSON does not have (NaN, infinite) become null, paths become strings."""
    from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

    try:
        text = to_json(result, inf_nan_mode="null").decode()
    except PydanticSerializationError:  # the name of a file that is no text; JSON's escapes keep it as Python has it
        text = json.dumps(to_jsonable_python(result, inf_nan_mode="null"))
    if _kept is None:
        click.echo(text)
        return
    with os.fdopen(os.dup(_kept), "w", encoding="utf-8") as stdout:
        stdout.write(f"{text}\n")


_kept: int | None = None
"""The program's own stdout while all else that is written there goes to stderr; see `keep_stdout`."""


def keep_stdout() -> None:
    """From now on only `print_json` writes to stdout: what plugins and libraries of C print goes to stderr, so that the one JSON object
    can be read. Does nothing where stdout is not the process's own, as in a test."""
    global _kept
    if _kept is None and sys.stdout is not None and sys.stdout is sys.__stdout__:
        with suppress(OSError):  # a stream is closed
            kept = os.dup(1)
            os.dup2(2, 1)
            _kept = kept


def note(text: str) -> None:
    """A line for the person, on stderr."""
    click.echo(text, err=True)


class _Tolerant(io.FileIO):
    """A stream that may be full or closed: what cannot be written is lost, and the work goes on."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _as_it_can(error: UnicodeError) -> tuple[bytes, int]:
    """For `codecs`: bytes of a file's name as they are, and a question mark for every other sign that the terminal does not have."""
    assert isinstance(error, UnicodeEncodeError)
    signs = map(ord, error.object[error.start : error.end])
    return bytes(sign - 0xDC00 if 0xDC80 <= sign <= 0xDCFF else ord("?") for sign in signs), error.end


def keep_streams() -> None:
    """Let the process work on where stdout or stderr is closed, stderr is full, or stdout takes few signs. Without a stream `print` would
    write to the other."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8")  # noqa: PTH123, SIM115 - lives as long as the process
            setattr(sys, name, stream)
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("focus", _as_it_can)
        sys.stdout.reconfigure(errors="focus")
    if sys.stderr is sys.__stderr__ and sys.stderr is not None:
        quiet = io.BufferedWriter(_Tolerant(sys.stderr.fileno(), "w", closefd=False))
        sys.stderr = io.TextIOWrapper(quiet, encoding=sys.stderr.encoding, errors="backslashreplace", line_buffering=True)


class _Stderr(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at that moment: while a bar is shown, rich puts lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def log_to_stderr() -> None:
    """Show what the framework logs; libraries keep their own, quieter, level."""
    logger = logging.getLogger("focus_framework")
    if not logger.handlers:
        logger.addHandler(_Stderr())
        logger.setLevel(logging.INFO)
        logger.propagate = False
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a home that cannot be written to, which costs it a second


def complete_plugins(kind: Kind, *others: str) -> Any:
    """A ``shell_complete`` callback with the names of the plugins of a kind, and `others`."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from ..plugin.registry import registry

        found = [(entry.name, entry.description.title) for entry in registry().of_kind(kind) if entry.description]
        items = [*found, *((name, "") for name in others)]
        return [CompletionItem(name, help=title) for name, title in items if name.startswith(incomplete)]

    return complete


class Progress:
    """Progress of long work on stderr: a bar on a terminal, elsewhere a plain line every `interval` seconds and at the end."""

    def __init__(self, total: int, what: str, *, interval: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.what, self.interval, self._clock = total, what, interval, clock
        self.done = 0
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        self._last = self._clock()
        return self

    def _start_bar(self) -> None:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(self.what, total=1.0, text="")
        self._bar.start()

    def advance(self, note: str = "") -> None:
        """One more of `total` is done; `note` is shown behind the count."""
        self.done += 1
        self.show(self.done / self.total, f"{self.done}/{self.total} {note}".rstrip())

    def show(self, share: float, text: str) -> None:
        """So much of the work is done, 0 to 1."""
        now = self._clock()
        if self._bar is None and sys.stderr.isatty():  # not before: of several processes only the main one gets here
            self._start_bar()
        if self._bar:
            self._bar.update(self._task, completed=share, text=text)
        elif share >= 1 or now - self._last >= self.interval:
            self._last = now
            click.echo(f"{self.what} {text}", err=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()


def fetch_shown(fetch: Callable[[Callable[[int, int], None]], Path]) -> Path:
    """What `fetch` gets with the progress of its bytes shown."""
    from ..checkpoint.download import in_words

    with Progress(1, "fetched") as progress:
        return fetch(lambda here, total: progress.show(here / max(total, 1), f"{in_words(here)} of {in_words(total)}"))


def check_named(checkpoint: str | None, task_plugin: str | None) -> None:
    """Raise `ConfigError` where a call names no network."""
    if checkpoint is None and task_plugin is None:
        raise ConfigError("give either --checkpoint, a file or a name, or --task-plugin, for the first checkpoint that the task knows")


def tasks_named(model: Model, task_plugin: str | None) -> tuple[str, ...]:
    """The tasks of a model that ``--task-plugin`` names; without it the first, which is then said where there are others."""
    from ..plugin.registry import registry, split_tasks

    if task_plugin is None:
        if len(model.tasks) > 1:
            note(f"the checkpoint knows the tasks {', '.join(model.tasks)}; this is {model.task}: --task-plugin names another, or several")
        return (model.task,)
    if task_plugin == "all" and "all" not in model.tasks:
        return model.tasks
    named = [registry().find_task(name).name if ":" in name or name.endswith(".py") else name for name in split_tasks(task_plugin)]
    return tuple(dict.fromkeys(named))


def one_task(model: Model, task_plugin: str | None, done: str) -> Model:
    """The model of the one task that ``--task-plugin`` names, or of the first; `done` is what is done with one at a time."""
    name, *others = tasks_named(model, task_plugin)
    if others:
        raise ConfigError(f"one task at a time is {done}; {task_plugin} names several")
    return model.for_task(name)


def first_known(task_plugin: str) -> Path:
    """The file of the first checkpoint that a task knows, fetched where it is not here; says which it is."""
    from ..checkpoint.known import first_of, obtain, size_in_words
    from ..plugin.registry import registry

    known = first_of(registry().find_task(task_plugin))
    checkpoint = known.checkpoint
    note(f"task {known.task}: checkpoint {checkpoint.name}, {checkpoint.title} ({size_in_words(checkpoint)})")
    return fetch_shown(lambda show: obtain(known, show))
