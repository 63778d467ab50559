"""The house that cases run in, and the counts by kind at the end of a run."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .house import House

if TYPE_CHECKING:
    from .server import Stranger


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "outsider"
    folder.mkdir(exist_ok=True)
    house = House(folder)
    yield house
    house.close()


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    from .server import Stranger  # needs what the service needs

    with Stranger(tmp_path_factory.mktemp("collected")) as stranger:
        yield stranger


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, group in report.user_properties:
                if name == "outsider" and report.when == "call":
                    total[group] += 1
                    right[group] += outcome == "passed"
    if not total:
        return
    terminalreporter.section("answered as they should be")
    for group in total:
        terminalreporter.write_line(f"{group:24} {right[group]:5} of {total[group]}")
    if file := os.environ.get("OUTSIDER_COUNTS"):
        Path(file).write_text(json.dumps({group: [right[group], total[group]] for group in total}))
