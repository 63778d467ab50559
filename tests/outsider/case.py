"""A case, what came of it, and the rules that every answer of the program keeps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import focus_framework

if TYPE_CHECKING:
    from .hub import Rule

LIMIT = 20.0
"""Seconds that a case may take where it says nothing else; machines that test are busy."""
LINES = 3
OURS = Path(focus_framework.__file__).parent

UNFORESEEN = re.compile(r"Traceback \(most recent call last\)|not foreseen|unexpected(?! keyword)|Segmentation fault|Fatal Python error")
WARNING = re.compile(r"\w*Warning: |warnings\.warn\(")


def _nothing(folder: Path) -> None:
    """Most cases need no more than the inputs that all have."""


@dataclass(frozen=True)
class Case:
    """A call of the program. ``@/`` in an argument is the folder of the good inputs, of which every case has its own copy."""

    group: str
    what: str
    """What is wrong, as the page "What happens when" says it."""
    arguments: tuple[str, ...]
    named: tuple[str, ...] = ()
    """The error holds one of these. Without any, only form is judged."""
    exits: frozenset[int] = frozenset({1, 2})
    make: Callable[[Path], None] = _nothing
    """Makes what the case is about, in the folder of the inputs."""
    leaves: tuple[str, ...] = ()
    """File name patterns that may appear or change in the working folder although the call failed."""
    limit: float = LIMIT
    path: str = ""
    """A folder of the inputs that is put on Python's path: distributions in it are installed."""
    environment: tuple[tuple[str, str], ...] = ()
    script: str = ""
    """Run by the shell in place of the call."""
    hub: Rule | None = None
    """How a hub on loopback answers; without, there is none."""
    heavy: bool = False
    """Takes seconds: only the whole suite has it."""

    program: str = ""
    """``module:function`` in place of the program, of the runner without torch."""
    needs: str = ""
    """A library without which there is no such case."""

    @property
    def words(self) -> list[str]:
        """What is typed."""
        return ["focus-mask" if self.program else "focus", *self.arguments]

    def __str__(self) -> str:
        return f"{self.what}: {self.script or ' '.join(self.words)}"


@dataclass(frozen=True)
class Outcome:
    """How a call ended. `exit` is None where it had to be killed; `changed` are files of the working folder or the inputs."""

    exit: int | None
    stdout: str
    stderr: str
    seconds: float
    changed: tuple[str, ...]


def complaints(case: Case, outcome: Outcome) -> list[str]:
    """What the answer has of what no answer may have; empty where it is as it should be."""
    if outcome.exit is None:
        return [f"hangs: still there after {case.limit:g} s; {outcome.stderr[-300:]}"]
    if "KeyboardInterrupt" in outcome.stderr and f'File "{OURS}' not in outcome.stderr:
        return []  # interrupted while Python itself started: no line of ours had run
    found = []
    if outcome.exit not in case.exits:
        found.append(f"exit code {outcome.exit}, expected {sorted(case.exits)}")
    if told := UNFORESEEN.search(outcome.stderr + outcome.stdout):
        found.append(f"says {told[0]!r}")
    if told := WARNING.search(outcome.stderr):
        found.append(f"a raw warning: {outcome.stderr[told.start() - 40 : told.end() + 160]!r}")
    if ("--json" in case.arguments or "--json" in case.script) and not _is_json(outcome.stdout):
        found.append(f"stdout is no JSON: {outcome.stdout[:200]!r}")
    if outcome.exit:
        found += _about_failure(case, outcome)
    return found


def _about_failure(case: Case, outcome: Outcome) -> list[str]:
    found = []
    before, error = _split(outcome.stderr)
    if len(error) > LINES or len(before) > 2 * LINES:
        found.append(f"{len(before)} + {len(error)} lines on stderr")
    if any(len(line) > 600 for line in error):
        found.append(f"a line of {max(map(len, error))} characters")
    if case.named and not any(name.lower() in (outcome.stderr + outcome.stdout).lower() for name in case.named):
        found.append(f"names none of {list(case.named)}")
    left = [file for file in outcome.changed if not any(Path(file).match(pattern) for pattern in case.leaves)]
    if left:
        found.append(f"left behind or changed: {', '.join(left[:5])}")
    return found


def _split(stderr: str) -> tuple[list[str], list[str]]:
    """The lines before the error, and its own."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    start = next((index for index, line in enumerate(lines) if line.startswith(("error:", "failed:"))), 0)
    return lines[:start], lines[start:]


def _is_json(text: str) -> bool:
    try:
        return not text.strip() or isinstance(json.loads(text), dict)
    except ValueError:
        return False
