"""The figures that a GPU owes, as far as they go without one: resuming, and what could not be measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: python -m benchmarks.gpu measures it")


def gpu(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(folder), "--parts", "op", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_part_goes_as_far_as_it_can_and_is_not_done_twice(tmp_path: Path) -> None:
    first = gpu(tmp_path)
    assert first.returncode == 0, first.stderr
    assert "[1, 5376, 256]" in first.stdout  # the output of the pixel decoder's shapes
    assert "**Not measured**: times of the op. There is no GPU here" in first.stdout
    kept = tmp_path / "op.json"
    found = json.loads(kept.read_text())
    assert found["complete"] and len(found["rows"]) == 3

    kept.write_text(json.dumps({**found, "seconds": 12345.0}))
    assert "12345 s" in gpu(tmp_path).stdout  # read, not measured again

    # Of another machine, or broken off: measured again.
    kept.write_text(json.dumps({**found, "seconds": 12345.0, "complete": False}))
    assert "12345 s" not in gpu(tmp_path).stdout


def test_a_part_that_fails_says_so_and_keeps_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "focus_framework").mkdir()
    (tmp_path / "focus_framework" / "__init__.py").write_text("raise SystemError('a broken installation')")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    ended = gpu(tmp_path / "out")
    assert ended.returncode == 1
    assert "SystemError: a broken installation (op.log has all)" in ended.stdout
    assert not json.loads((tmp_path / "out" / "op.json").read_text())["complete"]
