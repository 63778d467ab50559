"""What a promise is: a function named for what it tries, and how its outcome is told. Imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..plugin.registry import KINDS, Kind

if TYPE_CHECKING:
    from .subject import Subject

Try: TypeAlias = "Callable[[Subject], str | None]"
"""Raises `Broken` or `NotTried`; what it returns is a figure worth telling."""
State: TypeAlias = Literal["kept", "broken", "not tried"]
WHERE = ("descriptions", "tasks", "networks", "backbones", "enhancers", "refiners", "conditioners")
"""Modules of this package with promises, in the order in which they are tried."""


class Broken(AssertionError):  # noqa: N818 - what a test says of it is no error of ours
    """A promise that a plugin does not keep; the message says what came instead."""


class NotTried(Exception):  # noqa: N818 - nor is this one
    """A promise that cannot be tried here; the message says why."""


@dataclass(frozen=True)
class Promise:
    """One thing that plugins of some kinds promise."""

    name: str
    """The promise in words, which is the name of its function."""
    about: str
    """The function's docstring."""
    kinds: tuple[Kind, ...]
    attempt: Try
    first: bool
    """Whether all that comes after makes no sense where it is broken."""


@dataclass(frozen=True)
class Outcome:
    """What came of a promise."""

    promise: str
    state: State
    detail: str = ""
    """What is broken, why it was not tried, or a figure."""
    seconds: float = 0.0


_PROMISES: list[Promise] = []


def promise(*kinds: Kind, first: bool = False) -> Callable[[Try], Try]:
    """Marks a function as the trial of a promise of plugins of these kinds, of all kinds where none is named."""

    def keep(attempt: Try) -> Try:
        name = attempt.__name__.replace("_", " ")
        _PROMISES.append(Promise(name, " ".join((attempt.__doc__ or "").split()), kinds or tuple(KINDS), attempt, first))
        return attempt

    return keep


def promises(kind: Kind) -> list[Promise]:
    """The promises of a kind of plugin, in the order in which they are tried: first those that others hang on."""
    for name in WHERE:
        importlib.import_module(f".{name}", __package__)
    return sorted((one for one in _PROMISES if kind in one.kinds), key=lambda one: not one.first)
