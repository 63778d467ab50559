"""``focus doctor``: facts, the op in use, and problems that come with a way out."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from focus_framework import ops
from focus_framework.cli.doctor import doctor as command
from focus_framework.deploy import doctor
from focus_framework.model.ops import choice


def test_json_holds_versions_device_and_op(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOCUS_OPS", "reference")
    ran = CliRunner().invoke(command, ["--device", "cpu", "--json"], catch_exceptions=False)
    found = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert found["packages"]["torch"] == torch.__version__.split("+")[0]
    assert found["device"]["name"] == "cpu"
    assert found["ops"] == ops.describe("cpu")
    assert found["ops"]["change"] == "unset FOCUS_OPS"
    assert not any("deformable attention" in problem for problem in found["problems"])


def test_a_missing_compiled_op_is_a_problem_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOCUS_OPS", raising=False)
    monkeypatch.setattr(choice, "native_module", lambda: None)
    ran = CliRunner().invoke(command, ["--device", "cpu"], catch_exceptions=False)
    problems = [line for line in ran.stdout.splitlines() if line.startswith("problem")]
    assert any("focus-framework-ops is not installed; run: pip install --no-build-isolation ./csrc" in line for line in problems)


def test_a_device_that_is_not_there_is_a_problem_and_no_crash() -> None:
    found = doctor.examine("cuda:77")
    assert found["device"]["name"] == "cpu"
    assert any("cuda:77" in problem for problem in found["problems"])
    device = next(line for line in doctor.lines(found) if line.startswith("device"))
    assert "cpu (in its place)" in device
