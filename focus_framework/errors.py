"""Everything that can go wrong with a person's input, as one small family.

A message says what is wrong with which file or value, what would be right, and what to type next. The command line prints
it alone; a traceback is for ``--debug`` and for errors outside this family, which are bugs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHOWN = 40
"""Known names that an error lists; the rest is counted."""


class FocusError(Exception):
    """Base of all errors that a user can mend. `exit_code` is what the command line ends with."""

    exit_code = 1


class ConfigError(FocusError):
    """The call was wrong: an unknown option, a value out of range, options that exclude each other."""

    exit_code = 2


class PluginError(FocusError):
    """A plugin is missing, broken, or returned something of the wrong kind."""

    exit_code = 2


class DataError(FocusError):
    """An image, a mask or a data set cannot be used."""


class WeightsError(FocusError):
    """Weights or a checkpoint cannot be loaded, read or fitted."""


class DeviceError(FocusError):
    """The device asked for is not there."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C as the command line hears it, so that a plugin which raises `KeyboardInterrupt` by itself is not taken for it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known ones, or all of them."""
    names = sorted(known)
    more = len(names) - SHOWN
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        # A slip of the fingers (plugin for plugins) leaves one name far nearer than the rest, which are then no help.
        near = difflib.get_close_matches(name, near, n=3, cutoff=0.8) or near
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(names[:SHOWN]) or 'none'}" + (f" and {more} more" if more > 0 else "")
