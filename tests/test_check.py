"""``focus data``: a clean folder passes, and of a spoilt one every fault is listed with the file that has it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from focus_framework.cli.data import data
from focus_framework.data.check import ALL_AROUND, _border, check, write_pairs
from focus_framework.data.pairs import find_pairs
from focus_framework.errors import ConfigError, DataError
from focus_framework.files.images import read_image
from focus_framework.plugin.interfaces import Dataset, Prompts, Task

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
DISC = np.hypot(*(np.mgrid[0:40, 0:60] - np.array([20, 30])[:, None, None])) < 12


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve sound pairs."""
    for number in range(12):
        save(tmp_path / "images" / f"{number:02}.png", picture(number))
        save(tmp_path / "masks" / f"{number:02}.png", DISC * np.uint8(255))
    return tmp_path


def found(report) -> list[tuple[str, str]]:
    return sorted((problem.kind, Path(problem.file).name) for problem in report.problems)


def test_sound_data_has_no_problems(folder):
    seen = []
    report = check(str(folder), on_pair=lambda: seen.append(1))
    assert (report.pairs, report.problems, len(report.good)) == (12, (), 12)
    assert len(seen) == 12


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


FAULTS = {
    "unreadable image": (lambda f: cut(f / "images/03.png"), ("unreadable", "03.png"), r"cannot read .*images/03\.png"),
    "unreadable mask": (lambda f: (f / "masks/03.png").write_text("text"), ("unreadable", "03.png"), r"cannot read .*masks/03\.png"),
    "no mask": (lambda f: (f / "masks/04.png").unlink(), ("missing-mask", "04.png"), "no mask"),
    "no image": (lambda f: (f / "images/05.png").unlink(), ("missing-image", "05.png"), "no image"),
    "size": (lambda f: save(f / "masks/06.png", DISC[:, :50] * np.uint8(255)), ("size-mismatch", "06.png"), r"50 x 40, but .* is 60 x 40"),
    "one grey pixel": (lambda f: save(f / "masks/07.png", np.where(np.arange(60) == 9, 100, DISC * 255).astype(np.uint8)),
                       ("not-two-valued", "07.png"), "3 grey values from 0 to 255"),
    "empty": (lambda f: save(f / "masks/08.png", np.zeros((40, 60), np.uint8)), ("empty-mask", "08.png"), "all of it is background"),
    "index instead of white": (lambda f: save(f / "masks/08.png", DISC.astype(np.uint8)), ("empty-mask", "08.png"), "0 to 1, above 127"),
    "full": (lambda f: save(f / "masks/09.png", np.full((40, 60), 255, np.uint8)), ("full-mask", "09.png"), "all of it is foreground"),
    "copy": (lambda f: save(f / "images/10.png", picture(2)), ("duplicate-image", "10.png"), r"the same image as .*02\.png"),
    "same name": (lambda f: save(f / "images/02.bmp", picture(77)), ("same-name", "02.png"), r"differs from .*02\.bmp in its suffix"),
    "inverted": (lambda f: save(f / "masks/11.png", ~DISC * np.uint8(255)), ("suspicious-polarity", "11.png"), "unlike in the other masks"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found_alone(folder, fault):
    spoil, expected, detail = FAULTS[fault]
    spoil(folder)
    report = check(str(folder))
    assert found(report) == [expected]
    assert re.search(detail, report.problems[0].detail)
    assert len(report.good) == (12 if fault == "same name" else 11)


def test_all_faults_are_found_together_and_the_rest_can_be_kept(folder):
    for fault in ("unreadable image", "no mask", "no image", "size", "one grey pixel", "empty", "full", "copy", "inverted"):
        FAULTS[fault][0](folder)
    report = check(str(folder))
    expected = {"unreadable": "03", "missing-mask": "04", "missing-image": "05", "size-mismatch": "06", "not-two-valued": "07",
                "empty-mask": "08", "full-mask": "09", "duplicate-image": "10", "suspicious-polarity": "11"}  # fmt: skip
    assert {(kind, f"{stem}.png") for kind, stem in expected.items()} <= set(found(report))
    assert [pair.name for pair in report.good] == ["00", "01", "02"]
    write_pairs(folder / "lists" / "good.csv", report.good)
    again = find_pairs(str(folder / "lists" / "good.csv"))
    assert [pair.name for pair in again] == ["00", "01", "02"]
    assert again[0].image.samefile(folder / "images" / "00.png")


def test_a_large_object_at_the_border_is_no_inverted_mask(folder):
    large = np.ones((40, 60), bool)
    large[:20, :54] = False  # more than half of the image and 62 of 100 pixels of its border
    save(folder / "masks" / "11.png", large * np.uint8(255))
    assert not check(str(folder)).problems


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real photographs is not beside the checkout")
@pytest.mark.parametrize(("name", "false", "found"), [("benchmarks/ECSSD", 0, 944), ("shadow", 0, 48), ("shadow_strokes", 1, 28)])
def test_real_masks_are_told_from_inverted_ones(name, false, found):
    folder = SHARED / name / ("ground_truth_mask" if "ECSSD" in name else "masks")
    masks = [read_image(path)[..., 0] > 127 for path in sorted(folder.glob("*.png"))]
    assert sum(_border(mask) > ALL_AROUND for mask in masks) == false
    assert sum(_border(~mask) > ALL_AROUND for mask in masks) == found


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real photographs is not beside the checkout")
@pytest.mark.parametrize("name", ["shadow", "shadow_strokes"])
def test_a_real_set_that_is_inverted_is_one_problem(name):
    (problem,) = [p for p in check(f"{SHARED / name},foreground=black").problems if p.kind == "suspicious-polarity"]
    assert problem.detail.endswith("add foreground=white")


def test_masks_that_are_all_inverted_are_one_problem(folder):
    for number in range(12):
        save(folder / "masks" / f"{number:02}.png", ~DISC * np.uint8(255))
    (problem,) = check(str(folder)).problems
    assert (problem.kind, problem.file) == ("suspicious-polarity", str(folder))
    assert "12 of 12 masks" in problem.detail and "foreground=black" in problem.detail
    assert not check(f"{folder},foreground=black").problems


def test_a_copy_across_parts_and_under_another_format_is_found(tmp_path):
    for part, seed in (("train", 1), ("val", 2), ("test", 1)):
        suffix = "bmp" if part == "test" else "png"
        save(tmp_path / part / "images" / f"{part}.{suffix}", picture(seed))
        save(tmp_path / part / "masks" / f"{part}.png", DISC * np.uint8(255))
    (problem,) = check(str(tmp_path)).problems
    assert problem.kind == "duplicate-image"
    assert problem.file.endswith("test.bmp") and problem.detail.endswith("train.png, which is in the train part")


def test_files_that_a_list_names_are_looked_for(folder):
    (folder / "pairs.csv").write_text("image,mask\nimages/00.png,masks/00.png\nimages/gone.png,masks/01.png\nimages/02.png,masks/x.png\n")
    report = check(str(folder / "pairs.csv"))
    assert found(report) == [("missing-file", "pairs.csv, line 3"), ("missing-file", "pairs.csv, line 4")]
    with pytest.raises(DataError, match=r"line 3: .*gone\.png does not exist \(2 files are missing"):
        find_pairs(str(folder / "pairs.csv"))


def test_an_incomplete_copy_of_a_published_set_is_a_problem(folder):
    dataset = Dataset(name="discs", images=["images"], masks=["masks"], split="train", count=13)
    task = Task(name="t", title="T", prompts=Prompts("a", "b"), metrics=("mae",), primary_metric="mae", datasets=[dataset])
    (problem,) = check("discs", task=task, root=folder).problems
    assert (problem.kind, problem.file, problem.detail) == ("count", "discs", "12 images, a complete copy has 13")


def focus(*arguments: object):
    return CliRunner().invoke(data, [str(argument) for argument in arguments])


def test_check_on_the_command_line(folder):
    result = focus("check", folder)
    assert (result.exit_code, result.stdout) == (0, "12 pairs, 0 problems\n")
    assert "checked 12/12" in result.stderr
    FAULTS["empty"][0](folder)
    result = focus("check", folder, "--json", "--good-pairs", folder / "good.csv")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["pairs"] == 12
    assert [(p["kind"], Path(p["file"]).name) for p in answer["problems"]] == [("empty-mask", "08.png")]
    assert all(problem["detail"] for problem in answer["problems"])
    assert len(list(csv.DictReader((folder / "good.csv").open()))) == 11
    assert focus("check", folder).stdout.endswith("12 pairs, 1 problem\n")
    assert isinstance(focus("check", folder / "nowhere").exception, DataError)
    assert isinstance(focus("check", "no-such-set").exception, ConfigError)


def test_preview_on_the_command_line(folder):
    result = focus("preview", folder, "--out", folder / "sheets" / "s.png", "--count", 5, "--size", 80, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"sheet": str(folder / "sheets" / "s.png"), "shown": 5, "pairs": 12}
    sheet = read_image(folder / "sheets" / "s.png")
    assert sheet.shape[0] > 3 * 80 and sheet.shape[1] > 2 * 80
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 1000


def test_generate_on_the_command_line(tmp_path):
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    for out, seed in ((first, 3), (again, 3), (other, 4)):
        result = focus("generate", "salient", "--out", out, "--count", 2, "--size", 32, "--seed", seed, "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["pairs"] == 2
    assert [p.name for p in find_pairs(str(first))] == ["00000", "00001"]
    for pair, same, differs in zip(find_pairs(str(first)), find_pairs(str(again)), find_pairs(str(other)), strict=True):
        assert pair.read_image().shape == (32, 32, 3)
        assert np.array_equal(pair.read_image(), same.read_image()) and np.array_equal(pair.read_mask(), same.read_mask())
        assert not np.array_equal(pair.read_image(), differs.read_image())
    assert not check(str(first)).problems


def test_list_on_the_command_line(tmp_path):
    save(tmp_path / "NC4K/Imgs/1.jpg", picture(0))
    save(tmp_path / "NC4K/GT/1.png", DISC * np.uint8(255))
    (tmp_path / "CHAMELEON/Imgs").mkdir(parents=True)
    (tmp_path / "CHAMELEON/GT").mkdir()
    rows = {row["name"]: row for row in json.loads(focus("list", "--json", "--data-root", tmp_path).stdout)["datasets"]}
    assert (rows["nc4k"]["found"], rows["nc4k"]["pairs"], rows["nc4k"]["expected"]) == (True, 1, 4121)
    assert (rows["chameleon"]["found"], rows["chameleon"]["pairs"]) == (True, 0)
    assert (rows["ecssd"]["found"], rows["ecssd"]["looked"]) == (False, [str(tmp_path / "ECSSD/images")])
    table = focus("list", "--task-plugin", "camouflage", "--data-root", tmp_path).stdout
    assert "cod10k-test" in table and "not found" in table and "ecssd" not in table


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real photographs is not beside the checkout")
@pytest.mark.parametrize("task", ["shadow", "forgery", "camouflage", "defocus"])
def test_real_photographs_are_sound(task):
    report = check(str(SHARED / task))
    assert report.pairs > 5 and not report.problems


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real photographs is not beside the checkout")
def test_the_one_copy_among_the_salient_photographs_is_found():
    assert found(check(str(SHARED / "salient"))) == [("duplicate-image", "human_270.jpg")]


def test_a_kind_of_problem_is_said_once(folder):
    for number in range(8):
        save(folder / "masks" / f"{number:02}.png", DISC * np.uint8(255) // (1 + np.arange(60, dtype=np.uint8) % 3))
    told = focus("check", folder).stdout.splitlines()
    assert told[0] == "not-two-valued: 8 files" and told[4] == "  and 5 more; --all lists them"
    assert len(told) == 6 and told[-1] == "12 pairs, 8 problems"
    assert len(focus("check", folder, "--all").stdout.splitlines()) == 9
    assert len(json.loads(focus("check", folder, "--json").stdout)["problems"]) == 8
