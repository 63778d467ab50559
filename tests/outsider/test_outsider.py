"""Every case, judged. In the short form one of each kind and a share of the rest, the same ones every time.

``OUTSIDER=whole`` runs all, ``OUTSIDER=checkpoints``, or another group, all of that one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

import pytest

from . import page, uploads
from .case import Case, complaints
from .house import House
from .uploads import Upload

WANTED = os.environ.get("OUTSIDER", "a share")
SHARE = {
    "wrong calls": 1,
    "checkpoints": 2,
    "images and masks": 8,
    "films": 6,
    "exported files": 2,
    "uploads": 2,
    "plugins": 10,
    "starters": 6,
    "starts and several tasks": 5,
    "the hub": 3,
    "surroundings": 3,
}
"""Of so many kinds of a group one is in the short form, with its first case."""


T = TypeVar("T", Case, Upload)


def _chosen(every: Iterable[T]) -> list[T]:
    if WANTED != "a share":
        return [case for case in every if WANTED in ("whole", case.group)]
    first: dict[str, dict[str, T]] = {}
    for case in every:
        if not case.heavy:
            first.setdefault(case.group, {}).setdefault(case.what, case)
    return [case for group, kinds in first.items() for case in list(kinds.values())[:: SHARE[group]]]


@pytest.mark.outsider
@pytest.mark.parametrize("case", _chosen(page.cases()), ids=str)
def test_answer(case: Case, house: House, record_property) -> None:  # type: ignore[no-untyped-def]
    if case.needs:
        pytest.importorskip(case.needs)
    record_property("outsider", case.group)
    outcome = house.run(case)
    found = complaints(case, outcome)
    assert not found, "\n".join([*found, f"exit {outcome.exit} after {outcome.seconds:.1f} s", outcome.stderr[-1500:]])


@pytest.mark.outsider
@pytest.mark.parametrize("upload", _chosen(uploads.cases()), ids=str)
def test_answer_to_what_is_sent(upload: Upload, request: pytest.FixtureRequest, record_property) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip(upload.needs)
    record_property("outsider", upload.group)
    found = request.getfixturevalue("stranger").complaints(upload)
    assert not found, "\n".join(found)


def test_the_page_is_made_of_these_cases() -> None:
    assert page.PAGE.read_text("utf-8") == page.render([*page.cases(), *uploads.cases()]), "run python -m outsider.page in tests"
