"""A run on practice images with a refiner of random weights, from its first step to a mask."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from support.clip import write_model

from focus_framework.cli import main

SMALL = ["--image-size", "64", "--batch-size", "2", "--set", "data.practice_count=8", "--set", "training.log_every=1"]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code  # type: ignore[return-value]


@pytest.fixture(scope="module", params=["clip", "clip-release"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The refiner's name and the folder of a run of two steps with it."""
    folder = tmp_path_factory.mktemp(request.param)
    options = ["--refiner", request.param, "--clip-model", write_model(folder / "clip"), "--clip-weights", "random"]
    prompts = ["--foreground-prompt", "a soft shadow", "--set", 'prompts.templates=["{}", "a photo: {}"]']
    code = call("train", "--task-plugin", "shadow", *options, *prompts, *SMALL, "--steps", "2", "--out", str(folder / "run"))
    assert code == 0
    yield request.param, folder / "run"


def test_its_loss_is_logged_and_part_of_the_sum(run: tuple[str, Path]) -> None:
    lines = [json.loads(line) for line in (run[1] / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss_clip" in line]
    assert len(steps) == 2
    for line in steps:
        assert line["loss_clip"] > 0
        assert line["loss"] == pytest.approx(sum(line[f"loss_{name}"] for name in ("clip", "label", "mask", "box")), rel=1e-5)


def test_the_checkpoint_has_the_prompts_and_nothing_of_the_refiner(run: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    name, folder = run
    assert call("checkpoint", "inspect", str(folder / "checkpoint.safetensors"), "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["refiner"] == name
    text = json.dumps(facts["prompts"])
    assert "a soft shadow" in text and "background without shadow" in text
    page = (folder / "report.html").read_text("utf-8")
    assert "<td class=text>a soft shadow</td><td class=text>it&#39;s an image of background without shadow.</td>" in page
    assert "<td class=text>command line (foreground), " in page
    with safe_open(folder / "checkpoint.safetensors", "pt") as checkpoint:
        keys = list(checkpoint.keys())
    assert keys and not [key for key in keys if "clip" in key or "refiner" in key or ("_embed." in key and "text" in key)]
    state = torch.load(folder / "training-state" / "state.pt", weights_only=True)
    trained = {key.split(".")[0] for key in state["update"]["refiner"]}
    assert trained == ({"image_embed", "text_embed"} if name == "clip-release" else set())


def test_inference_needs_no_refiner(run: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import focus_framework

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the refiner was built for a prediction")

    monkeypatch.setattr("focus_plugins.refiners.contrast.build", refuse)
    monkeypatch.setattr("focus_plugins.refiners.clip_release.build", refuse)
    model = focus_framework.load(run[1] / "best.safetensors")
    picture = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    assert model.predict(picture).probability.shape == (40, 56)


@pytest.mark.parametrize("run", ["clip-release"], indirect=True)  # the one that trains something of its own
def test_it_goes_on_with_the_refiner_as_it_was(run: tuple[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(run[1], tmp_path / "run")  # the other tests look at the run of two steps, whatever the order
    before = torch.load(folder / "training-state" / "state.pt", weights_only=True)
    assert call("train", "--resume", str(folder), "--steps", "3") == 0
    after = torch.load(folder / "training-state" / "state.pt", weights_only=True)
    assert (before["step"], after["step"]) == (2, 3)
    key = "image_embed.bn1.num_batches_tracked"
    assert after["update"]["refiner"][key] == before["update"]["refiner"][key] * 3 // 2  # as many heads in the third step as in each before
