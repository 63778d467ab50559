"""The framework out of a program: what an image may be, what a result can do, training, scores, and the page about it."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.training import TINY

import focus_framework as focus
from focus_framework import ConfigError, DataError
from focus_framework.cli.train import SETTINGS
from focus_framework.config.layers import resolve
from focus_framework.config.names import SHORT, by_path
from focus_framework.files.coco import draw
from focus_framework.inference.inputs import as_array, is_batch, split_batch
from focus_framework.inference.result import Result, Results

RGB = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
ROOT = Path(__file__).parents[1]


def png(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return content.getvalue()


SAME: dict[str, Any] = {
    "uint8": RGB,
    "floats to 1": RGB / 255,
    "floats to 255": RGB.astype(np.float32),
    "float16 tensor": torch.from_numpy(RGB).permute(2, 0, 1).half() / 255,
    "tensor": torch.from_numpy(RGB).permute(2, 0, 1),
    "float tensor to 255": torch.from_numpy(RGB).permute(2, 0, 1).float(),
    "channels first": RGB.transpose(2, 0, 1),
    "RGBA": np.dstack([RGB, np.full((5, 7), 9, np.uint8)]),
    "whole numbers": RGB.astype(np.int64),
    "16 bits": RGB.astype(np.uint16) * 257,
    "bytes": png(RGB),
    "bytearray": bytearray(png(RGB)),
    "open file": io.BytesIO(png(RGB)),
    "PIL": Image.fromarray(RGB),
}


@pytest.mark.parametrize("image", SAME.values(), ids=SAME)
def test_one_image_in_many_forms(image: Any) -> None:
    if isinstance(image, io.BytesIO):
        image.seek(0)
    assert np.array_equal(as_array(image), RGB)


def test_grey_is_repeated() -> None:
    grey = RGB[..., 0]
    expected = np.dstack([grey] * 3)
    for image in (grey, grey[..., None], torch.from_numpy(grey), torch.from_numpy(grey)[None], grey / 255):
        assert np.array_equal(as_array(image), expected)
    assert as_array(np.array([[True, False]])).tolist() == [[[255] * 3, [0] * 3]]


def test_a_batch_is_a_list() -> None:
    tensors = torch.from_numpy(RGB).permute(2, 0, 1)[None].repeat(2, 1, 1, 1)
    for batch in (tensors, tensors.float() / 255, tensors.permute(0, 2, 3, 1).numpy()):
        assert is_batch(batch)
        assert [np.array_equal(image, RGB) for image in split_batch(batch)] == [True, True]
    dark = torch.stack([tensors[0] * 0 + 1, tensors[0]]).float()  # the values of one image decide for all of the batch
    assert split_batch(dark)[0].max() == 1


WRONG: dict[str, tuple[Any, str]] = {
    "empty": (np.zeros((0, 5, 3), np.uint8), r"shape \[0, 5, 3\] is no image: it has nothing to look at"),
    "normalised": (torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2, "give it before it is normalised"),
    "not finite": (np.full((4, 4), np.nan), "must be finite"),
    "large numbers": (np.full((4, 4), 300), r"whole numbers of an image lie in 0\.\.255"),
    "two channels": (np.zeros((6, 5, 2), np.uint8), r"not of the shape \[6, 5, 2\]"),
    "five dimensions": (np.zeros((1, 1, 4, 4, 3), np.uint8), "not of the shape"),
    "a number": (3, "not int"),
    "text of objects": (np.array(["a"]), "not an array of"),
    "open as text": (io.StringIO("x"), "open it with"),
    "no image": (b"no image", "not an image"),
    "read to its end": (io.BytesIO(b""), "has nothing left to read"),
}


@pytest.mark.parametrize(("image", "reason"), WRONG.values(), ids=WRONG)
def test_what_is_no_image_is_told(image: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        as_array(image)


def test_a_result_shows_and_saves_itself(tmp_path: Path) -> None:
    probability = np.zeros((5, 7), np.float32)
    probability[1:3, 2:6] = 0.9
    result = Result(probability, RGB)
    shown = Image.open(io.BytesIO(result._repr_png_()))
    sheet = Image.open(io.BytesIO(Results([result, result])._repr_png_()))
    assert shown.format == sheet.format == "PNG"
    assert shown.width > 2 * shown.height  # three beside one another
    assert Image.open(io.BytesIO(Results()._repr_png_())).format == "PNG"
    assert result.overlay().size == (7, 5)
    assert np.array_equal(draw(result.rle(), (5, 7), "here"), result.mask)
    for form, mode in (("mask", "L"), ("binary", "L"), ("cutout", "RGBA"), ("overlay", "RGB")):
        result.save(tmp_path / f"{form}.png", form)
        assert Image.open(tmp_path / f"{form}.png").mode == mode
    result.save(tmp_path / "x.json", "rle")
    assert json.loads((tmp_path / "x.json").read_text()) == result.rle()
    with pytest.raises(ConfigError, match="no form 'outline'"):
        result.save(tmp_path / "y.png", "outline")


def test_keywords_are_the_options_of_the_command_line() -> None:
    assert {str(option.name).removeprefix("training_"): path for path, option in SETTINGS.items()} == SHORT
    assert by_path({"steps": 3, "training__ema": 0.9, "loss.clip": 0.5}) == {"training.steps": 3, "training.ema": 0.9, "loss.clip": 0.5}
    with pytest.raises(ConfigError, match="there is no setting 'bach_size'; did you mean batch_size"):
        by_path({"bach_size": 3})


def test_a_configuration_is_that_of_the_command_line() -> None:
    assert focus.configure("shadow", image_size=64) == resolve("shadow", options={"preprocessing.size": 64}).config


def test_training_and_scores(tmp_path: Path) -> None:
    seen: list[int] = []
    settings = {**TINY, "training.steps": 1, "training.checkpoint_every": 1, "data.validation_limit": 1}
    run = focus.train("shadow", out=tmp_path / "run", on_progress=lambda progress: seen.append(progress.step), **settings)
    assert seen == [1]
    assert run.folder == tmp_path / "run"
    assert run.report.is_file()
    assert set(run.scores) == {"ber"}
    [result] = run.model.predict(torch.rand(1, 3, 48, 64))
    assert result.mask.shape == (48, 64)
    folder = tmp_path / "set"
    for part, image in (("images", RGB), ("masks", (RGB[..., 0] > 99).astype(np.uint8) * 255)):
        (folder / part).mkdir(parents=True)
        Image.fromarray(image).save(folder / part / "a.png")
    table = focus.evaluate(run.best, folder, device="cpu")
    assert table.metrics == ("ber",)
    assert math.isfinite(table.rows[0].values["ber"])
    assert "BER %" in str(table)


def test_the_page_has_a_training_loop_that_learns() -> None:
    *_, loop = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/python.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    told: dict[str, Any] = {}
    exec(compile(loop, "docs/python.md", "exec"), told)
    assert all(map(math.isfinite, told["history"]))
    assert told["history"][-1] < told["history"][0]


def test_the_door_shows_the_public_names_alone() -> None:
    assert dir(focus) == sorted(focus.__all__)
    assert {"load", "train", "evaluate", "build"} <= set(dir(focus))
    assert not {"Any", "annotations", "importlib"} & set(dir(focus))
    assert all(hasattr(focus, name) for name in dir(focus))
