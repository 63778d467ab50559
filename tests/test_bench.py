"""``focus bench``: stages of a small network, by both implementations of the op, and whole runtimes by turns."""

from __future__ import annotations

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support.export import exported, small_model

from focus_framework import ConfigError, WeightsError
from focus_framework.checkpoint.format import write_checkpoint
from focus_framework.cli.bench import bench as command
from focus_framework.deploy import runtimes
from focus_framework.deploy.export.comparing import arguments, cases
from focus_framework.deploy.runtimes import command as start
from focus_framework.deploy.runtimes import read_maps, take_turns, write_calls
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


def test_runtimes_are_timed_with_their_memory_on_the_same_images(tmp_path: Path) -> None:
    model = small_model()
    write_checkpoint(tmp_path / "toy.safetensors", model.network.state_dict(), model.description)
    options = ["--checkpoint", str(tmp_path / "toy.safetensors"), "--image-size", "70", "--batch-size", "2", "--repeats", "2"]
    ran = CliRunner().invoke(command, [*options, "--runtimes", "pytorch,pytorch", "--json"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    result = json.loads(ran.stdout)
    assert (result["image_size"], result["batch_size"], list(result["versions"])) == (96, 2, ["pytorch"])
    found = result["results"]["pytorch"]
    assert found["milliseconds"] > 0 and found["largest_difference"] == 0
    assert found["peak_memory"] is None or found["peak_memory"] > 100


def test_an_exported_file_runs_in_a_process_of_its_own(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    model, file = exported(tmp_path_factory)
    case = cases(model, [(64, 96)])[1]
    write_calls(tmp_path / "calls.npz", [arguments(case, raw=True, model=model)] * 2)
    names = [name for name in ("onnxruntime", "openvino") if find_spec(name)]
    passes = take_turns({name: start(name, file.path, tmp_path / "calls.npz", tmp_path / f"{name}.npz", 1) for name in names}, 3)
    expected = np.stack([each.numpy() for each in model.probabilities(case.prepared)])
    for name in names:
        assert len(passes[name]) == 3 and all(each["wall"] > 0 for each in passes[name])
        for maps in read_maps(tmp_path / f"{name}.npz"):
            np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_what_a_runtime_cannot_open_is_told(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "model.onnx").write_text("nothing")
    write_calls(tmp_path / "calls.npz", [{"image": np.zeros(1), "inner": np.zeros(2), "size": np.zeros(2)}])
    with pytest.raises(WeightsError, match=r"onnxruntime cannot run the network: .*model\.onnx"):
        take_turns({"onnxruntime": start("onnxruntime", tmp_path / "model.onnx", tmp_path / "calls.npz", tmp_path / "maps.npz", 1)}, 1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--runtimes", "pytorch,tensorrt"], "runtime 'tensorrt' is not known; choose from pytorch, onnxruntime, openvino"),
        (["--runtimes", ""], "runtime '' is not known"),
        (["--runtimes", "pytorch,onnxruntime"], 'onnxruntime is not installed; run: pip install "focus-framework[export]"'),
        (["--runtimes", "pytorch", "--device", "cuda"], "--runtimes are timed on the CPU; leave --device cuda out"),
        (
            ["--checkpoint", "a.safetensors", "--set", "training.seed=1"],
            "--checkpoint brings its own settings; leave --preset and --set out",
        ),
    ],
)
def test_wrong_calls_are_named(options: list[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape(told)):
        CliRunner().invoke(command, options, catch_exceptions=False)
