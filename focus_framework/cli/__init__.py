"""The command line ``focus``: a group whose commands are imported when they are called, and the one place where errors end."""

from __future__ import annotations

import faulthandler
import importlib
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import click

from .. import runtime
from ..errors import ConfigError, FocusError, Interrupted, did_you_mean
from ..version import __version__

COMMANDS = {
    "train": ("train:train", "Train on a task's images, or on its practice images."),
    "predict": ("predict:predict", "Write the masks of images, at the images' own size."),
    "evaluate": ("evaluate:evaluate", "Measure a checkpoint on data sets, or mask files against the true masks."),
    "export": ("export:export", "Write a checkpoint as a file that gives the same masks without this framework."),
    "serve": ("serve:serve", "Answer with masks over HTTP, and show a page for people."),
    "explain": ("explain:explain", "Show what the network sees on the way from an image to its mask."),
    "data": ("data:data", "List known data sets; check, look at and make pairs of image and mask."),
    "checkpoint": ("checkpoint:checkpoint", "Show what a checkpoint holds; list, fetch, import and share."),
    "prompts": ("prompts:prompts", "Show the prompts of a task, and try prompts on examples."),
    "plugins": ("plugins:plugins", "List what is installed; start a plugin, and try what one promises."),
    "bench": (
        "bench:bench",
        "Measure the speed of each stage of inference and training, with and without the compiled deformable attention.",
    ),
    "doctor": ("doctor:doctor", "Show versions, device, which deformable attention runs and why, and what is wrong."),
}
"""Name of a command: where it lies in this package, and its one-line help (a test keeps it equal to the command's own)."""

BEYOND = 1 << 63
"""Numbers from here on are refused: no library takes them."""
LINES, WIDE = 3, 500
"""Lines of an error that are shown, and characters of each; ``--debug`` shows all."""
SIZES = re.compile(r"--[\w-]*(?:size|tile|longest|scales|workers|set|config)\b")
"""Options that decide how much memory is taken."""
SHORT = re.compile(
    r"out of memory|can't allocate memory|not enough memory|Unable to allocate|Storage size calculation overflowed|array is too big"
)
"""What libraries say where memory is short."""


@dataclass
class Settings:
    """What the options that every command takes have said so far."""

    debug: bool = False


def _remember_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.find_object(Settings).debug = True  # type: ignore[union-attr]  # main() made it


def _debug_option() -> click.Option:
    help_text = "Show the traceback of an error."
    return click.Option(["--debug"], is_flag=True, is_eager=True, expose_value=False, callback=_remember_debug, help=help_text)


def _accept_debug(command: click.Command) -> None:
    """Let a command, and the commands below it, take ``--debug`` as the group does, and no number that no machine can hold."""
    if not any("--debug" in parameter.opts for parameter in command.params):
        command.params.append(_debug_option())
        for parameter in command.params:
            if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType):
                parameter.type = _bounded(parameter.type)
            elif isinstance(parameter.type, click.Path) and not parameter.type.file_okay:
                parameter.type = _checked(parameter.type, lambda path: Path(path).is_dir() or not os.path.lexists(path), "{} is no folder.")
    for child in command.commands.values() if isinstance(command, click.Group) else ():
        _accept_debug(child)


def _bounded(kind: click.ParamType[Any]) -> click.ParamType[Any]:
    """The same type, for finite numbers of 63 bits; NaN is below none."""
    return _checked(kind, lambda number: abs(number) < BEYOND, "{} is no number that can be used.")


def _checked(kind: click.ParamType[Any], right: Callable[[Any], bool], otherwise: str) -> click.ParamType[Any]:
    """The same type, for values that are right; `otherwise` says of others what is wrong. click's own folders may be pipes."""
    narrower, convert = copy(kind), kind.convert

    def checked(value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        converted = convert(value, parameter, context)
        if not right(converted):
            kind.fail(otherwise.format(value), parameter, context)
        return converted

    narrower.__dict__["convert"] = checked
    return narrower


class LazyGroup(click.Group):
    """A group that reads names and help out of `COMMANDS` and imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(f".{module}", __name__), attribute)
        _accept_debug(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:  # click looks for suggestions among loaded commands, here none
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"there is no command {args[0]!r}; {did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, params=[_debug_option()], context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="focus", message="%(prog)s %(version)s")
def focus() -> None:
    """Find the foreground of images: what stands out, hides, casts a shadow, is in focus or was pasted in.

    The task is a plugin; focus plugins list shows those installed. Results go to stdout, all else to stderr.

    \b
    To begin with:
      focus predict photo.jpg --task-plugin salient            a first mask
      focus train --task-plugin shadow                         a first network
      focus train --task-plugin salient --init salient --data my-folder
                                                               your own images
    """
    from .common import log_to_stderr

    log_to_stderr()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process: 0 done, 1 the work or part of it failed, 2 a wrong call, 130 interrupted."""
    settings = Settings()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "torch" not in sys.modules:  # else a program called this, which has settled it or does not want to
        runtime.prepare()
    if sys.__stderr__ and not faulthandler.is_enabled():
        faulthandler.enable(sys.__stderr__)  # so that a crash of native code shows where it happened
    code: Any = None
    from .common import keep_stdout, keep_streams

    keep_streams()
    try:
        _refuse_empty(arguments)
        if "--json" in arguments:
            keep_stdout()
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            sys.unraisablehook = _interrupt_again
            signal.signal(signal.SIGINT, _interrupt)  # elsewhere Python allows no handlers; a script's background stays deaf
        if "--debug" not in arguments and not sys.warnoptions:
            warnings.simplefilter("ignore")  # what libraries tell their developers; our own goes through the log
        code = focus.main(args=arguments, prog_name="focus", obj=settings, standalone_mode=False)
        sys.stdout.flush()  # here, where a reader that has gone away (``| head``) can still be met quietly
    except BrokenPipeError:
        _drop(sys.stdout)
        code = 1
    except Exception as error:
        if settings.debug:
            traceback.print_exc()
        with suppress(OSError):  # nobody can be told where stderr is full
            code = _report(error, arguments)
        code = 1 if code is None else code
        _drop(*((sys.stdout,) if isinstance(error, OSError) else ()))
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def _interrupt_again(lost: sys.UnraisableHookArgs) -> None:
    """Where Python itself was in the middle of something, as in an import, it shows an exception and goes on: then ask once more."""
    if isinstance(lost.exc_value, Interrupted) and hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return
    sys.__unraisablehook__(lost)


def _drop(*streams: Any) -> None:
    """Let what a stream still holds go nowhere, so that Python's end does not stumble over it too."""
    for stream in streams:
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Raise `ConfigError` for an empty argument, most likely a variable of a shell that is not set. As a path it would be read as the
    current folder."""
    for before, value in pairwise(["focus", *arguments]):
        if not value.strip() or (value.startswith("--") and value.endswith("=")):
            where = value.strip().rstrip("=") or (before if before.startswith("-") else "an argument")
            raise ConfigError(f"{where} is empty; give it a value, or leave it out")


def _report(error: Exception, arguments: Sequence[str]) -> int:
    """Print an error on stderr, in one or two lines, and return the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    if isinstance(error, click.Abort):
        click.echo("interrupted", err=True)
        return 130
    click.echo(f"error: {_in_short(_describe(error, arguments))}", err=True)
    if isinstance(error, click.UsageError) and error.ctx:
        click.echo(f"See {error.ctx.command_path} --help", err=True)
    return error.exit_code if isinstance(error, click.ClickException | FocusError) else 1


def _in_short(text: str) -> str:
    """Its first lines, each as far as it can be read: what a library or a long name puts into an error may be pages."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(line if len(line) <= WIDE else f"{line[:WIDE]} ..." for line in lines[:LINES])


def _describe(error: Exception, arguments: Sequence[str]) -> str:
    if isinstance(error, click.ClickException):
        return re.sub(r"Got unexpected extra arguments? \((.*)\)", r"Too many arguments: \1", error.format_message())
    if isinstance(error, FocusError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, MemoryError) or SHORT.search(str(error)):
        given = ", ".join(dict.fromkeys(word for word in arguments if SIZES.match(word)))
        return f"the memory does not suffice{_asked(error)}; make less of it at a time{f' (this call says {given})' if given else ''}"
    return f"{type(error).__name__}: {error}\nUnexpected error, please report it; the same call with --debug shows where it happened."


def _asked(error: Exception) -> str:
    """How much was asked for at once, where the error says so."""
    found = re.search(r"allocate (\d+) bytes", str(error))
    return f": {int(found[1]) / 2**30:,.0f} GiB were asked for at once" if found else ""
