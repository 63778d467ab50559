"""``focus bench``: stages of a small network, by both implementations of the op."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from focus_framework.cli.bench import bench as command
from focus_framework.model.ops import choice

ARGUMENTS = ["--image-size", "33", "--repeats", "1", "--device", "cpu", "--json"]


def test_json_holds_the_stages_of_each_implementation() -> None:
    pytest.importorskip("focus_ops", reason="focus-framework-ops is not installed")
    before = os.environ.get("FOCUS_OPS")
    ran = CliRunner().invoke(command, ARGUMENTS, catch_exceptions=False)
    assert ran.exit_code == 0
    result = json.loads(ran.stdout)
    assert result["image_size"] == 64
    assert list(result["results"]) == ["native", "reference"]
    for kinds in result["results"].values():
        inference, training = kinds["inference"], kinds["training"]
        stages = ["prior", "backbone", "interactions", "pixel decoder", "ground decoder"]
        assert [stage for stage in inference if stage in stages] == stages
        assert 0 < sum(inference[stage] for stage in stages) <= inference["total"]
        assert 0 < inference["deformable attention"] < inference["total"]
        parts = sum(training[stage] for stage in ("forward", "losses", "backward", "optimizer"))
        assert 0 < parts <= training["total"]
    assert os.environ.get("FOCUS_OPS") == before


def test_without_the_compiled_op_its_absence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "native_module", lambda: None)
    ran = CliRunner().invoke(command, ARGUMENTS, catch_exceptions=False)
    result = json.loads(ran.stdout)
    assert list(result["results"]) == ["reference"]
    assert "not installed" in result["skipped"]["native"]
