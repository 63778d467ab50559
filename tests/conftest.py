"""What several test files share: the table of deviations from the authors' release, printed at the end of a run."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script; then no program under test would hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

TABLE = pytest.StashKey["Deviations"]()


@dataclass
class Deviations:
    """The largest deviation of every stage that was compared, and what is allowed."""

    rows: dict[str, tuple[float, float, str]] = field(default_factory=dict)

    def check(self, stage: str, ours: Tensor, theirs: Tensor, allowed: float, kind: str = "absolute") -> None:
        """Compare, remember, fail where `allowed` is exceeded. `kind`: ``absolute``, ``relative`` (to the largest of theirs), ``norm`` (of
        the difference, relative to theirs), or ``share`` (of values that differ at all)."""
        assert ours.shape == theirs.shape, f"{stage}: {list(ours.shape)} instead of {list(theirs.shape)}"
        difference = (ours.double() - theirs.double()).abs()
        if kind == "share":
            found = (difference > 0).double().mean().item()
        elif kind == "norm":
            found = (difference.norm() / theirs.double().norm()).item()
        else:
            scale = theirs.double().abs().max().clamp_min(1e-30).item() if kind == "relative" else 1.0
            found = (difference.max() / scale).item()
        self.rows[stage] = (max(found, self.rows.get(stage, (0.0,))[0]), allowed, kind)
        assert found <= allowed, f"{stage}: {kind} deviation {found:.2e}, allowed {allowed:.0e}"


@pytest.fixture(scope="session")
def deviations(request: pytest.FixtureRequest) -> Deviations:
    return request.config.stash.setdefault(TABLE, Deviations())


@pytest.fixture(scope="module")
def single_thread():
    """One thread, so that sums are added in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash.get(TABLE, None)
    if table and table.rows:
        terminalreporter.section("largest deviation from the authors' release")
        width = max(map(len, table.rows))
        for stage, (found, allowed, kind) in table.rows.items():
            terminalreporter.write_line(f"{stage:{width}}  {found:8.1e}  allowed {allowed:7.0e}  {kind}")
