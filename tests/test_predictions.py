"""Predictions as files, from a model that is known: the foreground is where the image is red."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from focus_framework import ConfigError, DataError
from focus_framework.files.coco import run_lengths
from focus_framework.inference.many.listing import Listing
from focus_framework.inference.many.predicting import write_predictions
from focus_framework.inference.outputs import FORMS, parse_forms
from focus_framework.inference.result import Result

RED = SimpleNamespace(stream=lambda images, batch_size: (Result((image[..., 0] / 255).astype(np.float32), image) for image in images))


def picture(path: Path, *, height: int = 20, width: int = 30) -> Path:
    """Black with a red block in rows 4 to 9, columns 6 to 19, and red at 100 (below one half) in the last row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[4:10, 6:20, 0] = 255
    pixels[-1, :, 0] = 100
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def block(height: int = 20, width: int = 30) -> np.ndarray[Any, Any]:
    mask = np.zeros((height, width), bool)
    mask[4:10, 6:20] = True
    return mask


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}


def test_every_form_holds_what_it_says(tmp_path: Path) -> None:
    source = picture(tmp_path / "in" / "cat.png")
    out = tmp_path / "out"
    report = write_predictions(RED, Listing([source]), out, forms=FORMS, category="shadow")
    assert files(out) == {"mask/cat.png", "binary/cat.png", "cutout/cat.png", "overlay/cat.png", "rle.json"}
    assert {str(path.relative_to(out)) for path in dict(report.files())[source]} == files(out)
    assert report.failed == 0

    mask = cv2.imread(str(out / "mask" / "cat.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (20, 30)
    assert np.array_equal(mask, np.where(block(), 255, np.where(np.arange(20)[:, None] == 19, 100, 0)))
    binary = cv2.imread(str(out / "binary" / "cat.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(binary, np.where(block(), 255, 0))
    cutout = cv2.imread(str(out / "cutout" / "cat.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(cutout[..., 3], mask)
    assert np.array_equal(cutout[..., 2], mask)  # red of BGRA
    overlay = cv2.imread(str(out / "overlay" / "cat.png"))
    assert overlay.shape == (20, 30, 3)
    assert (overlay[15:18] == 0).all()
    assert overlay[4, 12, 2] == 255  # the outline


def decode(segmentation: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Run lengths to a mask as the COCO format describes them: value by value, down the columns."""
    height, width = segmentation["size"]
    values: list[bool] = []
    for index, length in enumerate(segmentation["counts"]):
        values += [index % 2 == 1] * length
    assert len(values) == height * width
    return np.array(values).reshape(width, height).T


def test_rle_is_a_coco_data_set(tmp_path: Path) -> None:
    first, empty = picture(tmp_path / "a.png"), tmp_path / "b.png"
    Image.new("RGB", (8, 6)).save(empty)
    out = tmp_path / "out"
    write_predictions(RED, Listing([first, empty]), out, forms=["rle"], category="shadow")
    assert files(out) == {"rle.json"}
    table = json.loads((out / "rle.json").read_text())
    assert table["images"] == [
        {"id": 1, "file_name": "a.png", "height": 20, "width": 30},
        {"id": 2, "file_name": "b.png", "height": 6, "width": 8},
    ]
    assert [category["name"] for category in table["categories"]] == ["shadow"]
    (annotation,) = table["annotations"]
    assert np.array_equal(decode(annotation["segmentation"]), block())
    assert (annotation["image_id"], annotation["area"], annotation["bbox"]) == (1, 84, [6, 4, 14, 6])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_run_lengths_can_be_undone(share: float) -> None:
    mask = np.random.default_rng(0).random((7, 11)) < share
    counts = run_lengths(mask)
    assert np.array_equal(decode({"size": [7, 11], "counts": counts}), mask)
    assert all(length > 0 for length in counts[1:])


def test_one_form_lies_in_the_folder_itself(tmp_path: Path) -> None:
    write_predictions(RED, Listing([picture(tmp_path / "cat.jpeg")]), tmp_path / "out")
    assert files(tmp_path / "out") == {"cat.png"}


def test_images_of_one_stem_get_names_of_their_own(tmp_path: Path) -> None:
    paths = [picture(tmp_path / name) for name in ("a/cat.png", "b/cat.png", "b/Cat.bmp", "b/cat-2.png")]
    report = write_predictions(RED, Listing([paths[0], tmp_path / "b"]), tmp_path / "out")
    assert list(report.files()) == [
        (path, [tmp_path / "out" / f"{name}.png"])
        for path, name in zip([paths[0], paths[2], paths[3], paths[1]], ["cat", "Cat-2", "cat-2-2", "cat-3"], strict=True)
    ]
    assert len(files(tmp_path / "out")) == 4


def test_a_image_named_twice_is_predicted_once(tmp_path: Path) -> None:
    path = picture(tmp_path / "in" / "cat.png")
    (tmp_path / "link.png").symlink_to(path)
    listing = Listing([path, tmp_path / "in", tmp_path / "in" / ".." / "in" / "cat.png", tmp_path / "link.png"])
    assert [found.path for found in listing] == [path]


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    picture(tmp_path / "below" / "cat.png")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="has no images"):
        Listing([tmp_path])


def test_one_bad_image_among_many(tmp_path: Path) -> None:
    good = [picture(tmp_path / "in" / name) for name in ("a.png", "c.png")]
    bad = tmp_path / "in" / "b.png"
    bad.write_bytes(good[0].read_bytes()[:60])
    done: list[str] = []
    report = write_predictions(
        RED, Listing([tmp_path / "in"]), tmp_path / "out", forms=["mask", "rle"], on_done=lambda entry, *_: done.append(entry.name)
    )
    assert [path for path, _ in report.files()] == good
    ((path, error),) = report.failures()
    assert path == bad
    assert "b.png" in error
    assert files(tmp_path / "out") == {"a.png", "c.png", "rle.json"}
    assert [image["file_name"] for image in json.loads((tmp_path / "out" / "rle.json").read_text())["images"]] == ["a.png", "c.png"]
    assert done == ["a", "b", "c"]


def test_what_fails_while_it_is_written_leaves_nothing_behind(tmp_path: Path) -> None:
    source = picture(tmp_path / "cat.png")
    (tmp_path / "out" / "overlay" / "cat.png").mkdir(parents=True)  # a folder where the file should go
    report = write_predictions(RED, Listing([source]), tmp_path / "out", forms=["mask", "overlay"])
    assert list(report.files()) == []
    assert [path for path, _ in report.failures()] == [source]
    assert files(tmp_path / "out") == set()


def test_predictions_never_replace_the_images(tmp_path: Path) -> None:
    source = picture(tmp_path / "cat.png")
    before = source.read_bytes()
    (tmp_path / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="would replace an image"):
        write_predictions(RED, Listing([source]), tmp_path / "elsewhere")
    assert source.read_bytes() == before


def test_forms_may_be_repeated_and_joined_by_commas() -> None:
    assert parse_forms(["rle", "mask, cutout", "rle"]) == ["rle", "mask", "cutout"]


def test_an_unknown_form_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no form 'masks'; known: mask, binary"):
        write_predictions(RED, Listing([picture(tmp_path / "cat.png")]), tmp_path / "out", forms=["masks"])
    assert not (tmp_path / "out").exists()
