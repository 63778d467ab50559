"""Trying all promises of a plugin, for a report or for pytest. Imports no torch before a promise is tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ConfigError, FocusError, PluginError
from ..plugin.calls import is_interruption, printing_to_stderr, reason
from ..plugin.facts import find_anywhere
from ..plugin.interfaces import Backbone
from ..plugin.registry import Kind, entries_of_file
from .promise import Broken, NotTried, Outcome, Promise, promises
from .subject import Subject

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Tried:
    """What came of all promises of one plugin."""

    subject: Subject
    outcomes: tuple[Outcome, ...]

    def count(self, state: str) -> int:
        return sum(outcome.state == state for outcome in self.outcomes)

    @property
    def broken(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.state == "broken"]

    def as_json(self) -> dict[str, Any]:
        """What ``focus plugins check --json`` prints of a plugin."""
        entry = self.subject.entry
        counts = {state.replace(" ", "_"): self.count(state) for state in ("kept", "broken", "not tried")}
        return {
            "kind": entry.kind,
            "name": self.subject.name,
            "origin": entry.origin,
            **counts,
            "promises": [asdict(one) for one in self.outcomes],
        }


@dataclass(frozen=True)
class Trial:
    """One promise of one plugin: what a test gets from `each_promise`."""

    promise: Promise
    subject: Subject

    def keep(self) -> str:
        """Try it: what is worth telling. Fails the test with `Broken`, and skips it where it cannot be tried here."""
        import pytest

        try:
            with printing_to_stderr():
                return self.promise.attempt(self.subject) or ""
        except NotTried as error:
            pytest.skip(str(error))
        except FocusError as error:
            raise Broken(f"{self.promise.name}: {error}") from error


def subjects(
    reference: str, kind: Kind | None = None, options: Mapping[str, Any] | None = None, *, thorough: bool = False
) -> list[Subject]:
    """The plugin that a name means, or all that a Python file offers (of one kind). `options` are given to ``build``, `thorough` says to
    try what takes minutes too. Raises `PluginError` where there is none."""
    given = dict(options or {})
    if not reference.endswith(".py"):
        entry = find_anywhere(reference, kind)
        family = isinstance(entry.description, Backbone) and entry.description.claims is not None
        return [Subject(entry, given, thorough, reference if family and reference != entry.name else "")]
    offered = [entry for entry in entries_of_file(Path(reference)) if kind in (None, entry.kind)]
    if not offered:
        raise PluginError(f"{reference} offers no {kind or 'plugin'}")
    return [Subject(entry, given, thorough) for entry in offered]


def check(subject: Subject, *, without: Collection[str] = ()) -> Iterator[Outcome]:
    """Try one promise after the other, but those `without`."""
    for_nothing = ""
    for one in promises(subject.entry.kind):
        if one.name in without:
            continue
        outcome = Outcome(one.name, "not tried", f"since '{for_nothing}' is broken") if for_nothing else _outcome(one, subject)
        if one.first and outcome.state == "broken":
            for_nothing = one.name
        yield outcome


def write_sheet(path: Path, tried: Sequence[Subject]) -> None:
    """A contact sheet of practice images of the first task, beside their masks. Raises `ConfigError` where none makes any."""
    from ..data.preview import PRACTICE, write_preview

    tasks = [subject.entry.get() for subject in tried if subject.entry.kind == "task"]
    able = [task for task in tasks if task.practice]
    if not able:
        raise ConfigError(f"--sheet {path}: {', '.join(subject.name for subject in tried)} makes no practice images; leave it out")
    write_preview(path, PRACTICE, task=able[0])


def _outcome(promise: Promise, subject: Subject) -> Outcome:
    started = time.monotonic()

    def after(state: Any, detail: str) -> Outcome:
        return Outcome(promise.name, state, detail, time.monotonic() - started)

    try:
        with printing_to_stderr():
            told = promise.attempt(subject)
    except NotTried as error:
        return after("not tried", str(error))
    except Broken as error:
        return after("broken", str(error))
    except BaseException as error:  # a stranger's code
        if is_interruption(error):
            raise
        return after("broken", reason(error))
    return after("kept", told or "")


def each_promise(
    reference: str,
    *,
    kind: Kind | None = None,
    options: Mapping[str, Any] | None = None,
    thorough: bool = False,
    without: Collection[str] = (),
) -> Callable[[F], F]:
    """A decorator that gives a test function every promise of a plugin, one after the other, as `promise`: call ``promise.keep()``.

    Args:
        reference: the plugin's name, or the path of its Python file.
        kind: where several kinds have a plugin of that name, or the file offers several.
        options: what its ``build`` is given, as by ``backbone.options``; for small networks.
        thorough: whether to try what takes minutes too.
        without: promises, by their names, that are left out.

    Raises `PluginError` where there is no such plugin.
    """
    import pytest

    trials = [
        pytest.param(Trial(one, subject), id=f"{subject.name}: {one.name}")
        for subject in subjects(reference, kind, options, thorough=thorough)
        for one in promises(subject.entry.kind)
        if one.name not in without
    ]
    return pytest.mark.parametrize("promise", trials)
