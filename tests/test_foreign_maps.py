"""Other people's maps: other sizes, suffixes and kinds of files, masks without a map, and several methods in one table."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import cv2
import numpy as np
import py_sod_metrics
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score

from focus_framework.cli import focus
from focus_framework.errors import ConfigError
from focus_framework.evaluation.comparison import compare
from focus_framework.evaluation.metrics import compute
from focus_framework.evaluation.samples import align, match_predictions
from focus_framework.evaluation.scoring import Evaluation, Score, measure

HEIGHT, WIDTH, COUNT = 24, 36, 6
ECSSD = Path(__file__).parents[1].parent / "shared" / "data" / "benchmarks" / "ECSSD" / "ground_truth_mask"


def mask(index: int) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.hypot(y - 12, x - 10 - index) < 7


def level(index: int, noise: float = 0.3) -> np.ndarray:
    random = np.random.default_rng(index)
    soft = cv2.GaussianBlur(mask(index).astype(np.float32), (5, 5), 0)
    return np.uint8(np.clip(soft + noise * random.random((HEIGHT, WIDTH)), 0, 1) * 255)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    folder = tmp_path / "masks"
    folder.mkdir()
    for index in range(COUNT):
        Image.fromarray(mask(index) * np.uint8(255)).save(folder / f"{index:04}.png")
    return folder


def write(folder: Path, image: Image.Image, index: int, behind: str = "", suffix: str = "png") -> None:
    folder.mkdir(exist_ok=True)
    image.save(folder / f"{index:04}{behind}.{suffix}")


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(focus, ["evaluate", *map(str, arguments)])


def said(result: Result) -> str:
    """Its output in one line, as tables break their titles; or the error that ends it."""
    return " ".join(result.stdout.split()) + str(result.exception or "")


def numbers(*arguments: object) -> dict:
    told = evaluate(*arguments, "--json")
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)["results"][0]


KINDS = {
    "RGBA": lambda grey: Image.fromarray(np.dstack([grey] * 3 + [np.full_like(grey, 255)])),
    "palette": lambda grey: Image.fromarray(grey).convert("P"),
    "16-bit": lambda grey: Image.fromarray(grey.astype(np.uint16) * 257),
    "grey and alpha": lambda grey: Image.fromarray(grey).convert("LA"),
    "RGB": lambda grey: Image.fromarray(grey).convert("RGB"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_numbers(kind: str, masks: Path, tmp_path: Path) -> None:
    for index in range(COUNT):
        write(tmp_path / "grey", Image.fromarray(level(index)), index)
        write(tmp_path / "other", KINDS[kind](level(index)), index)
    expected = numbers("--predictions", tmp_path / "grey", "--masks", masks)
    assert numbers("--predictions", tmp_path / "other", "--masks", masks)["metrics"] == expected["metrics"]


def test_jpeg_maps_are_near(masks: Path, tmp_path: Path) -> None:
    for index in range(COUNT):
        write(tmp_path / "grey", Image.fromarray(level(index)), index)
        write(tmp_path / "jpeg", Image.fromarray(level(index)), index, suffix="jpg")
    exact, near = (numbers("--predictions", tmp_path / name, "--masks", masks)["metrics"]["mae"] for name in ("grey", "jpeg"))
    assert near == pytest.approx(exact, abs=0.02)


def test_maps_of_another_size_are_resized_and_counted(masks: Path, tmp_path: Path) -> None:
    small = [cv2.resize(level(index), (20, 20), interpolation=cv2.INTER_AREA) for index in range(COUNT)]
    for index in range(COUNT):
        write(tmp_path / "maps", Image.fromarray(small[index] if index else level(0)), index)
    told = numbers("--predictions", tmp_path / "maps", "--masks", masks, "--protocol", "standard")
    assert (told["resized"], told["count"]) == (COUNT - 1, COUNT)
    grown = [level(0), *(cv2.resize(one, (WIDTH, HEIGHT)) for one in small[1:])]
    stretched = [(one - one.min()) / (one.max() - one.min()) for one in (g.astype(float) for g in grown)]
    expected = np.mean([np.abs(one - mask(index)).mean() for index, one in enumerate(stretched)])
    assert told["metrics"]["mae"] == pytest.approx(expected, abs=1e-6)
    assert "5 maps resized to their masks, bilinearly" in said(evaluate("--predictions", tmp_path / "maps", "--masks", masks))
    refused = evaluate("--predictions", tmp_path / "maps", "--masks", masks, "--no-resize")
    assert refused.exit_code == 1 and "is 20x20 but its mask" in said(refused)


def test_resized_maps_follow_the_rules_of_the_libraries(masks: Path, tmp_path: Path) -> None:
    """Resized first, at 8 bits, for all metrics; stretched where PySODMetrics stretches, left as they are where scikit-learn does."""
    small = [cv2.resize(level(index) // 2 + 40, (20, 20), interpolation=cv2.INTER_AREA) for index in range(COUNT)]
    for index in range(COUNT):
        write(tmp_path / "maps", Image.fromarray(small[index]), index)
    told = numbers("--predictions", tmp_path / "maps", "--masks", masks)["metrics"]
    structure, adaptive = py_sod_metrics.Smeasure(), py_sod_metrics.Fmeasure()
    pooled: dict[str, list[float]] = {"f1": [], "iou": [], "auc": []}
    for index in range(COUNT):
        grown, truth = cv2.resize(small[index], (WIDTH, HEIGHT)), mask(index)
        for handler in (structure, adaptive):
            handler.step(grown, truth.astype(np.uint8) * 255)
        flat = truth.ravel()
        pooled["f1"].append(f1_score(flat, grown.ravel() > 127, zero_division=0.0))
        pooled["iou"].append(jaccard_score(flat, grown.ravel() > 127, zero_division=0.0))
        pooled["auc"].append(roc_auc_score(flat, grown.ravel()))
    assert told["s_measure"] == pytest.approx(structure.get_results()["sm"], abs=1e-6)
    assert told["f_beta_adaptive"] == pytest.approx(adaptive.get_results()["fm"]["adp"], abs=1e-6)
    assert {name: told[name] for name in pooled} == pytest.approx({name: np.mean(values) for name, values in pooled.items()})
    assert "stretched to its own minimum and maximum, but for F1, AUC and IoU" in said(
        evaluate("--predictions", tmp_path / "maps", "--masks", masks)
    )


def test_a_suffix_behind_all_names_is_recognised(masks: Path, tmp_path: Path) -> None:
    for index in range(COUNT):
        write(tmp_path / "maps", Image.fromarray(level(index)), index, behind="_HS")
    told = evaluate("--predictions", tmp_path / "maps", "--masks", masks, "--json")
    assert json.loads(told.stdout)["results"][0]["count"] == COUNT and "'_hs' behind the names" in told.stderr


@pytest.mark.parametrize(
    ("predictions", "masks", "found", "ending"),
    [
        (["a", "b"], ["a", "b"], {"a": "a", "b": "b"}, ""),
        (["A", "b"], ["a", "B"], {"a": "A", "B": "b"}, ""),
        (["x/a_HS", "x/b_HS"], ["a", "b"], {"a": "x/a_HS", "b": "x/b_HS"}, "_hs"),
        (["a", "b"], ["a_GT", "b_GT"], {"a_GT": "a", "b_GT": "b"}, ""),
        (["im_1_sal", "im_2_sal"], ["im_1", "im_2", "im"], {"im_1": "im_1_sal", "im_2": "im_2_sal"}, "_sal"),
        (["p/1", "q/1"], ["p/1", "q/1"], {"p/1": "p/1", "q/1": "q/1"}, ""),
        (["c"], ["a"], {}, ""),
    ],
)
def test_names_are_aligned(predictions: list[str], masks: list[str], found: dict[str, str], ending: str) -> None:
    assert align(predictions, masks) == (found, ending)


def test_masks_without_a_map(masks: Path, tmp_path: Path) -> None:
    for index in range(COUNT - 1):
        write(tmp_path / "maps", Image.fromarray(level(index)), index)
    call = ("--predictions", tmp_path / "maps", "--masks", masks)
    refused = evaluate(*call)
    assert "1 masks have no prediction: 0005" in said(refused) and "--missing skip" in said(refused)
    skipped, zero = numbers(*call, "--missing", "skip"), numbers(*call, "--missing", "zero")
    assert (skipped["count"], skipped["missing"]) == (COUNT - 1, {"count": 1, "as": "skip"})
    assert (zero["count"], zero["missing"]) == (COUNT, {"count": 1, "as": "zero"})
    empty = mask(COUNT - 1).mean()
    assert zero["metrics"]["mae"] * COUNT == pytest.approx(skipped["metrics"]["mae"] * (COUNT - 1) + empty)
    assert "1 masks without a map left out" in said(evaluate(*call, "--missing", "skip"))
    assert "1 masks without a map count as maps of zeros" in said(evaluate(*call, "--missing", "zero"))


def test_several_methods_in_one_table(masks: Path, tmp_path: Path) -> None:
    for index in range(COUNT):
        write(tmp_path / "good", Image.fromarray(level(index, noise=0.1)), index)
        write(tmp_path / "bad", Image.fromarray(level(index, noise=0.8)), index)
    files = {"csv": tmp_path / "t.csv", "latex": tmp_path / "t.tex", "report": tmp_path / "t.html"}
    call = ["--predictions", f"F3_Net={tmp_path / 'good'}", "--predictions", f"DSS={tmp_path / 'bad'}", "--masks", masks]
    told = evaluate(*call, "--json", *(part for name, file in files.items() for part in (f"--{name}", file)))
    assert told.exit_code == 0, told.output
    result = json.loads(told.stdout)
    assert [one["source"] for one in result["results"]] == ["F3_Net", "DSS"]
    comparison = result["comparison"]
    assert comparison["best"]["mae"] == "F3_Net" and comparison["images"] == COUNT
    gap = comparison["difference_to_best"]["DSS"]["mae"]
    means = [one["metrics"]["mae"] for one in result["results"]]
    assert gap["mean"] == pytest.approx(means[1] - means[0]) and 0 < gap["low"] < gap["mean"] < gap["high"]
    rows = list(csv.DictReader(files["csv"].open()))
    assert [row["source"] for row in rows] == ["F3_Net", "DSS"] and float(rows[1]["mae_minus_best"]) == pytest.approx(gap["mean"])
    assert rows[0]["mae_minus_best"] == ""
    latex = files["latex"].read_text()
    assert r"F3\_Net" in latex and latex.count(r"\begin{tabular}") == 2 and "best" in latex
    page = files["report"].read_text()
    shown = f"{gap['mean']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"
    assert "F3_Net" in page and "paired bootstrap" in page and shown in page
    assert re.sub(r"[+-][\d.]+", r"$\g<0>$", shown) in latex and "$-$ best" in latex
    text = said(evaluate(*call))
    assert "paired bootstrap" in text and "F3_Net" in text and "best" in text


def test_methods_are_named_and_named_apart(masks: Path, tmp_path: Path) -> None:
    wrong = evaluate("--predictions", "F3Net=nowhere", "--masks", masks)
    assert isinstance(wrong.exception, ConfigError) and "there is no folder nowhere" in said(wrong)
    twice = evaluate("--predictions", f"a={masks}", "--predictions", f"a={masks}", "--masks", masks)
    assert isinstance(twice.exception, ConfigError) and "two methods are called 'a'" in said(twice)


def scored(source: str, values: list[float]) -> Evaluation:
    scores = tuple(Score(str(index), {"mae": value}) for index, value in enumerate(values))
    return Evaluation("d", len(values), "standard", {}, {}, {}, scores=scores, source=source)


def test_the_interval_is_that_of_paired_differences() -> None:
    """Against the normal approximation; and pairing takes out what images have in common."""
    random = np.random.default_rng(5)
    hard, gap = random.random(400) * 10, random.normal(0.02, 0.05, 400)
    found = compare([scored("a", list(hard)), scored("b", list(hard + gap))], ["mae"]).rows["b"]["mae"]
    half = 1.96 * gap.std() / np.sqrt(400)
    assert found.mean == pytest.approx(gap.mean())
    assert (found.low, found.high) == (pytest.approx(gap.mean() - half, abs=half / 5), pytest.approx(gap.mean() + half, abs=half / 5))


def test_an_undefined_image_takes_no_part() -> None:
    found = compare([scored("a", [0.1, float("nan"), 0.1]), scored("b", [0.2, 0.9, 0.2])], ["mae"])
    assert found.best["mae"] == "a" and found.rows["b"]["mae"].mean == pytest.approx(0.1)


@pytest.mark.skipif(not ECSSD.is_dir(), reason="the folder of real benchmarks is not beside the checkout")
def test_maps_made_of_real_masks(tmp_path: Path) -> None:
    """ECSSD's first forty masks as somebody's maps: 480 x 480, RGBA, with an ending, two of them missing."""
    chosen = sorted(ECSSD.iterdir())[:40]
    (tmp_path / "masks").mkdir()
    (tmp_path / "maps").mkdir()
    for index, path in enumerate(chosen):
        (tmp_path / "masks" / path.name).symlink_to(path.resolve())
        if index not in (3, 7):
            Image.open(path).convert("RGBA").resize((480, 480)).save(tmp_path / "maps" / f"{path.stem}_sal.png", compress_level=0)
    matched = match_predictions(tmp_path / "maps", tmp_path / "masks", missing="skip")
    assert (len(matched.predicted), len(matched.missing), matched.suffix) == (38, 2, "_sal")
    told = numbers("--predictions", tmp_path / "maps", "--masks", tmp_path / "masks", "--missing", "skip")
    assert told["resized"] == 38 and told["metrics"]["mae"] < 0.01 and told["metrics"]["iou"] > 0.97


@pytest.mark.parametrize("protocol", ["standard", "release"])
def test_levels_are_measured_as_the_numbers_that_they_stand_for(protocol: str) -> None:
    """The quick way for 8 bits and the plain one; a map of nothing but 0 and 1 is nearly black in both."""
    for grey in (level(0), level(0) // 2, np.uint8(mask(0)), np.zeros((HEIGHT, WIDTH), np.uint8)):
        quick = measure(grey, mask(1), protocol=protocol)
        plain = compute(torch.from_numpy(grey).double() / 255, torch.from_numpy(mask(1)), protocol=protocol, curves=True)
        assert quick.keys() == plain.keys()
        assert all(torch.equal(quick[name].nan_to_num(-1), plain[name].nan_to_num(-1)) for name in plain)
