"""The road from one end to the other, on the command line, with a network of toy size: train, predict, evaluate, go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from focus_framework import cli as frame

GLASS = Path(__file__).parents[1] / "examples" / "focus-task-glass" / "focus_task_glass.py"
TOY = Path(__file__).parent / "data" / "toy.toml"


def focus(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        frame.main([str(argument) for argument in arguments])
    return ended.value.code  # type: ignore[return-value]


def focus_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """What the command prints on stdout: exactly one JSON object."""
    capsys.readouterr()
    assert focus(*arguments, "--json") == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of different sizes with a bright disc, and its masks."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for side in ("images", "masks"):
        (root / side).mkdir()
    for number in range(6):
        height, width = (int(size) for size in random.integers(60, 100, 2))
        mask = np.zeros((height, width), np.uint8)
        cv2.circle(mask, (width // 2, height // 2), 15, 255, -1)
        noise = random.integers(0, 60, (height, width, 3)).astype(np.uint8)
        Image.fromarray(np.where(mask[..., None] > 0, 255 - noise, noise)).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on the practice images of the example's task."""
    out = tmp_path_factory.mktemp("runs") / "glass"
    assert focus("train", "--task-plugin", GLASS, "--config", TOY, "--steps", "2", "--out", out) == 0
    return out


def test_a_run_leaves_what_it_should(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"config.toml", "metrics.jsonl", "checkpoint.safetensors", "best.safetensors", "training-state", "samples"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert "report.html" in names
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2]
    for key in ("loss", "loss_clip", "loss_label", "loss_mask", "loss_box", "learning_rate", "images_per_second"):
        assert np.isfinite(records[0][key])
    sheets = list((run / "samples").glob("*.png"))
    assert sheets
    assert all(np.asarray(Image.open(sheet)).std() > 0 for sheet in sheets)


def test_a_run_can_be_gone_on_with_alone(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "again"
    assert focus("train", "--task-plugin", GLASS, "--data", folder, "--config", TOY, "--steps", "2", "--out", out) == 0
    assert focus("train", "--resume", out, "--steps", "3") == 0
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3]
    assert focus_json(capsys, "train", "--resume", out)["steps"] == 3  # nothing is left to do


def test_an_existing_run_is_not_written_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "best.safetensors").read_bytes()
    assert focus("train", "--task-plugin", GLASS, "--config", TOY, "--steps", "2", "--out", run) == 2
    assert "--resume" in capsys.readouterr().err
    assert (run / "best.safetensors").read_bytes() == before


def test_train_on_a_folder_predict_and_evaluate(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    arguments = ["--task-plugin", "salient", "--data", folder, "--config", TOY, "--minutes", "0.02", "--out", out]
    ended = focus_json(capsys, "train", *arguments)
    assert Path(ended["checkpoint"]) == out / "checkpoint.safetensors"
    assert Path(ended["best"]) == out / "best.safetensors"
    assert ended["steps"] >= 1
    assert ended["seconds"] > 0
    assert set(ended["validation"]) >= {"s_measure", "mae"}

    masks = tmp_path / "masks"
    written = focus_json(capsys, "predict", folder / "images", "--checkpoint", ended["best"], "--out", masks)
    assert written["failed"] == []
    assert sorted(Path(path).name for path in written["written"]) == [f"{number}.png" for number in range(6)]
    for path in written["written"]:
        assert Image.open(path).size == Image.open(folder / "images" / Path(path).name).size
        assert Image.open(path).mode == "L"

    by_model = focus_json(capsys, "evaluate", "--checkpoint", ended["best"], "--task-plugin", "salient", "--data", folder)
    by_files = focus_json(capsys, "evaluate", "--predictions", masks, "--masks", folder / "masks")
    for printed in (by_model, by_files):
        (result,) = printed["results"]
        assert result["count"] == 6
    errors = []
    for number in range(6):
        soft, truth = (np.asarray(Image.open(side / f"{number}.png")) / 255 for side in (masks, folder / "masks"))
        errors.append(np.abs((soft - soft.min()) / (soft.max() - soft.min()) - truth).mean())  # as the standard protocol stretches maps
    assert by_files["results"][0]["metrics"]["mae"] == pytest.approx(np.mean(errors), abs=1e-6)
    assert by_model["results"][0]["metrics"]["mae"] == pytest.approx(np.mean(errors), abs=2 / 255)


def test_one_bad_image_among_good_ones(run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = tmp_path / "images"
    pictures.mkdir()
    for number in range(2):
        (pictures / f"{number}.png").write_bytes((folder / "images" / f"{number}.png").read_bytes())
    (pictures / "cut.png").write_bytes((folder / "images" / "3.png").read_bytes()[:500])
    arguments = ["predict", pictures, "--checkpoint", run / "best.safetensors", "--out", tmp_path / "out", "--save", "mask,overlay"]
    written = focus_json(capsys, *arguments, code=1)
    assert [Path(failure["input"]).name for failure in written["failed"]] == ["cut.png"]
    assert {path.name for path in (tmp_path / "out").rglob("*.*") if path.suffix} == {"0.png", "1.png"}  # and the folder's mark


def test_the_checkpoint_says_what_it_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = focus_json(capsys, "checkpoint", "inspect", run / "best.safetensors")
    assert facts["task"] == "glass"
    assert {"backbone", "enhancer", "refiner", "prompts", "preprocessing", "parameters", "plugins", "licence"} <= set(facts)


BAD_DATA = {
    "no such folder": (["--data", "nowhere"], "nowhere"),
    "an empty folder": (["--data", "{tmp}/empty"], "empty"),
    "masks of another size": (["--data", "{tmp}/sizes"], "is 33 x 44 but its image is"),
    "masks of another size, read by a worker": (["--data", "{tmp}/sizes", "--set", "data.workers=1"], "is 33 x 44 but its image is"),
    "no such weights": (["--backbone-weights", "{tmp}/none.pth"], "none.pth"),
    "no such backbone": (["--backbone", "resnet5O"], "resnet5O"),
    "no such refiner": (["--refiner", "clpi"], "did you mean clip"),
    "no such device": (["--device", "cuda:9"], "cuda:9"),
}


@pytest.mark.parametrize(("arguments", "named"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_input_to_training_is_one_clear_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    (tmp_path / "empty" / "images").mkdir(parents=True)
    (tmp_path / "empty" / "masks").mkdir()
    for side in ("images", "masks"):
        (tmp_path / "sizes" / side).mkdir(parents=True)
        for path in (folder / side).iterdir():
            picture = Image.open(path)
            (picture.resize((33, 44)) if side == "masks" else picture).save(tmp_path / "sizes" / side / path.name)
    out = tmp_path / "run"
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    code = focus("train", "--task-plugin", "salient", "--config", TOY, "--steps", "1", "--out", out, *given)
    err = capsys.readouterr().err
    last = err.strip().splitlines()[-2:]
    assert code in (1, 2)
    assert named in " ".join(last)
    assert any(line.startswith("error: ") for line in last)
    assert "Traceback" not in err
    assert "not foreseen" not in err
    assert not (out / "best.safetensors").exists()
