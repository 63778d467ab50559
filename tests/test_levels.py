"""What a report says beside the metrics: calibration, the best threshold, errors, and two checkpoints against each other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.metrics import jaccard_score

from focus_framework.checkpoint.description import describe
from focus_framework.checkpoint.format import write_checkpoint
from focus_framework.cli import focus
from focus_framework.config.layers import resolve
from focus_framework.evaluation.levels import BINS, Levels, Look
from focus_framework.metrics import iou
from focus_framework.model.build import build_network
from focus_framework.plugin.registry import registry

ROOT = Path(__file__).parents[1]


def maps(count: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    """Blurred levels and masks of several sizes, among them an empty one."""
    random = np.random.default_rng(3)
    made = []
    for index in range(count):
        mask = np.zeros((40 + 8 * index, 56), bool)
        mask[8 : 8 + 5 * index, 10:40] = True
        level = np.clip(mask * 120 + random.normal(70, 40, mask.shape), 0, 255).astype(np.uint8)
        made.append((level, mask))
    return made


def sums() -> Levels:
    levels = Levels()
    for level, mask in maps():
        levels.add(Look.at(level, mask))
    return levels


@pytest.mark.parametrize("cut", [1, 77, 128, 200, 255])
def test_iou_at_a_level_is_that_of_the_map_cut_there(cut: int) -> None:
    for level, mask in maps():
        expected = jaccard_score(mask.ravel(), (level >= cut).ravel(), zero_division=0)
        assert Look.at(level, mask).iou[cut] == pytest.approx(expected)


def test_at_one_half_it_is_the_metric() -> None:
    expected = np.mean([float(iou(torch.from_numpy(level)[None] / 255, torch.from_numpy(mask)[None])) for level, mask in maps()])
    assert sums().mean_iou()[128] == pytest.approx(expected, abs=1e-6)


def test_the_best_threshold_is_the_best_of_all() -> None:
    threshold, best, gain = sums().best_threshold
    tried = {
        cut: np.mean([jaccard_score(m.ravel(), (p / 255 > cut).ravel(), zero_division=0) for p, m in maps()])
        for cut in (0.3, 0.5, 0.6, threshold)
    }
    assert max(tried, key=lambda cut: tried[cut]) == threshold
    assert tried[threshold] == pytest.approx(best) and tried[threshold] - tried[0.5] == pytest.approx(gain) and gain > 0.01


def test_a_threshold_that_is_no_better_stays_at_one_half() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:9] = True
    levels = Levels()
    levels.add(Look.at(mask.astype(np.uint8) * 255, mask))
    assert levels.best_threshold == (pytest.approx(0.5), 1.0, 0.0)
    assert levels.calibration_error == 0


def test_the_calibration_error_is_the_weighted_gap_of_each_bin() -> None:
    expected, images = 0.0, maps()
    probability = np.concatenate([level.ravel() / 255 for level, _ in images])
    truth = np.concatenate([mask.ravel() for _, mask in images])
    weight = np.concatenate([np.full(level.size, 1 / level.size / len(images)) for level, _ in images])
    bins = np.floor(probability * 255 / (256 / BINS)).astype(int)
    for one in range(BINS):
        here = bins == one
        if here.any():
            share = weight[here].sum()
            expected += share * abs(np.average(probability[here], weights=weight[here]) - np.average(truth[here], weights=weight[here]))
    assert sums().calibration_error == pytest.approx(expected)


def test_a_probability_that_means_what_it_says_has_no_error() -> None:
    random = np.random.default_rng(0)
    level = random.integers(0, 256, (600, 600)).astype(np.uint8)
    levels = Levels()
    levels.add(Look.at(level, random.random(level.shape) < level / 255))
    assert levels.calibration_error < 0.01
    assert sum(levels.error_shares.values()) == pytest.approx(1)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two of toy size, whose networks see images of different sizes."""
    written = []
    for size in (64, 96):
        torch.manual_seed(size)
        config = resolve("shadow", file=ROOT / "tests" / "data" / "toy.toml", options={"preprocessing.size": size}).config
        network, entry = build_network(config), registry().find_task("shadow")
        path = tmp_path_factory.mktemp("run") / "best.safetensors"
        write_checkpoint(path, network.state_dict(), describe(config, network, entry, entry.get().pairs()))
        written.append(str(path))
    return written


def test_two_checkpoints_are_measured_on_the_same_images(checkpoints: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("focus_framework.evaluation.samples.PRACTICE_COUNT", 6)
    first, second = checkpoints
    files = ["--report", str(tmp_path / "r.html"), "--csv", str(tmp_path / "t.csv")]
    done = CliRunner().invoke(focus, ["evaluate", "--checkpoint", first, "--against", second, *files, "--json", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [row["source"] for row in told["results"]] == checkpoints
    (comparison,) = told["comparisons"]
    means = {row["source"]: row["metrics"]["mae"] for row in told["results"]}
    best = comparison["best"].get("mae") or comparison["best"]["ber"]
    assert comparison["images"] == 6 and best in checkpoints
    for source, gaps in comparison["difference_to_best"].items():
        if "mae" in gaps:
            assert gaps["mae"]["mean"] == pytest.approx(means[source] - min(means.values()))
            assert gaps["mae"]["low"] <= gaps["mae"]["mean"] <= gaps["mae"]["high"]
    page = (tmp_path / "r.html").read_text()
    assert page.count("what the scores depend on") == 2 and "paired bootstrap" in page
    assert re.search(r"of the error: \d+% ", page)
    assert "minus_best" in (tmp_path / "t.csv").read_text().splitlines()[0]
