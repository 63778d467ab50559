"""Every case, judged. In the short form one of each kind and a share of the rest, the same ones every time."""

from __future__ import annotations

import os

import pytest

from . import broken_plugins, calls, checkpoints, pictures, surroundings
from .case import Case, complaints
from .house import House

WHOLE = os.environ.get("OUTSIDER") == "whole"
SHARE = 40
"""One case of so many is in the short form."""


def _chosen() -> list[Case]:
    every = [case for source in (calls, pictures, checkpoints, broken_plugins, surroundings) for case in source.cases()]
    seen: set[tuple[str, str]] = set()
    chosen = []
    for index, case in enumerate(every):
        kind = (case.group, case.what)
        if WHOLE or (not case.heavy and (kind not in seen or index % SHARE == 0)):
            chosen.append(case)
        seen.add(kind)
    return chosen


@pytest.mark.outsider
@pytest.mark.skipif("OUTSIDER" not in os.environ, reason="the cases are met one class after another; OUTSIDER=short tries them")
@pytest.mark.parametrize("case", _chosen(), ids=str)
def test_answer(case: Case, house: House, record_property) -> None:  # type: ignore[no-untyped-def]
    record_property("outsider", case.group)
    outcome = house.run(case)
    found = complaints(case, outcome)
    assert not found, "\n".join([*found, f"exit {outcome.exit} after {outcome.seconds:.1f} s", outcome.stderr[-1500:]])
