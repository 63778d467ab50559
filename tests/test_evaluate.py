"""Evaluation of files and models, the command, its tables and its page."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from focus_framework import metrics
from focus_framework.cli.evaluate import evaluate
from focus_framework.data.pair import Pair
from focus_framework.errors import ConfigError, DataError
from focus_framework.evaluation import scoring
from focus_framework.evaluation.report import Section, View, render, worst_median_best
from focus_framework.evaluation.samples import match_predictions, pair_predictions, published_figures
from focus_framework.evaluation.scoring import Evaluation, Score, evaluate_files, evaluate_model
from focus_framework.evaluation.tables import as_csv, as_latex, tables
from focus_framework.files.images import write_image
from focus_framework.inference.result import Result
from focus_framework.plugin.interfaces import METRICS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import py_sod_metrics

SIZES = ((40, 52), (33, 47), (48, 48), (25, 60), (37, 41), (44, 30), (30, 30))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions as .png and masks as .bmp, of seven sizes; the last mask is empty."""
    random = np.random.default_rng(5)
    for name in ("predictions", "masks", "images"):
        (tmp_path / name).mkdir()
    for index, (height, width) in enumerate(SIZES):
        noise = cv2.GaussianBlur(random.standard_normal((height, width)), (0, 0), 5)
        mask = noise > np.quantile(noise, 0.7)
        level = np.clip(cv2.GaussianBlur(mask.astype(float), (0, 0), 1 + index) * 200 + 30 * random.random(mask.shape), 0, 255)
        write_image(tmp_path / "predictions" / f"scene {index}.png", level.astype(np.uint8))
        write_image(tmp_path / "masks" / f"scene {index}.bmp", (mask & (index < 6)).astype(np.uint8) * 255)
        write_image(tmp_path / "images" / f"scene {index}.png", random.integers(0, 256, (height, width, 3), np.uint8))
    return tmp_path / "predictions", tmp_path / "masks"


def reference(predictions: Path, masks: Path) -> dict[str, float]:
    """What PySODMetrics prints for the folders: its own loop over files read by OpenCV."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        structure, alignment, weighted = py_sod_metrics.Smeasure(), py_sod_metrics.Emeasure(), py_sod_metrics.WeightedFmeasure()
        error, thresholded = py_sod_metrics.MAE(), py_sod_metrics.Fmeasure()
        for path in sorted(predictions.iterdir()):
            level = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            mask = cv2.imread(str(masks / f"{path.stem}.bmp"), cv2.IMREAD_GRAYSCALE)
            for one in (structure, alignment, weighted, error, thresholded):
                one.step(level, mask)
    e_measure, f_beta = alignment.get_results()["em"], thresholded.get_results()["fm"]
    return {
        "s_measure": structure.get_results()["sm"],
        "e_measure_mean": e_measure["curve"].mean(),
        "e_measure_max": e_measure["curve"].max(),
        "e_measure_adaptive": e_measure["adp"],
        "weighted_f": weighted.get_results()["wfm"],
        "f_beta_mean": f_beta["curve"].mean(),
        "f_beta_max": f_beta["curve"].max(),
        "f_beta_adaptive": f_beta["adp"],
        "mae": error.get_results()["mae"],
    }


def test_a_folder_gets_the_numbers_of_the_reference(folders: tuple[Path, Path]) -> None:
    result = evaluate_files(pair_predictions(*folders), data="scenes")
    assert result.count == len(SIZES)
    assert {name: result.metrics[name] for name in METRICS[:9]} == pytest.approx(reference(*folders), abs=1e-6)


def test_the_mean_of_maxima_would_not_be_the_maximum_of_the_mean(folders: tuple[Path, Path]) -> None:
    """The test above could not tell them apart otherwise."""
    result = evaluate_files(pair_predictions(*folders), data="scenes", keep_scores=True)
    mean = np.mean([score.values["f_beta_max"] for score in result.scores])
    assert abs(mean - result.metrics["f_beta_max"]) > 1e-3


def test_undefined_values_are_counted_and_left_out(folders: tuple[Path, Path]) -> None:
    result = evaluate_files(pair_predictions(*folders), data="scenes", keep_scores=True)
    assert result.undefined == {"ber": 1, "auc": 1}
    defined = [score.values["auc"] for score in result.scores][:6]
    assert result.metrics["auc"] == pytest.approx(np.mean(defined))
    assert np.isnan(result.scores[6].values["auc"])


def test_missing_and_surplus_predictions_are_listed(folders: tuple[Path, Path]) -> None:
    predictions, masks = folders
    (predictions / "scene 3.png").rename(predictions / "other.png")
    with pytest.raises(DataError, match=r"1 masks have no prediction: scene 3; 1 predictions have no mask: other"):
        pair_predictions(predictions, masks)
    pairs = [Pair(mask, mask, "white", mask.stem) for mask in sorted(masks.iterdir())]
    with pytest.raises(DataError, match=r"1 masks have no prediction: scene 3; 1 predictions have no mask: other"):
        pair_predictions(predictions, pairs)


def test_a_prediction_of_another_size_is_an_error_that_names_both(folders: tuple[Path, Path]) -> None:
    write_image(folders[0] / "scene 2.png", np.zeros((50, 48), np.uint8))
    with pytest.raises(DataError, match=r"scene 2\.png is 48x50 .*scene 2\.bmp is 48x48"):
        evaluate_files(match_predictions(*folders, resize=False).predicted, data="scenes")


def test_no_more_files_are_read_ahead_than_there_is_room_for() -> None:
    begun: list[int] = []

    def jobs() -> Iterator[tuple[str, object]]:
        for index in range(50):
            begun.append(index)
            yield str(index), dict

    with scoring.ThreadPoolExecutor(2) as pool:
        for done, (name, _) in enumerate(scoring._in_order(pool, jobs(), 4)):
            assert name == str(done)
            assert len(begun) <= done + 4


class FakeModel:
    """Predicts, for each image, a map made of the image itself."""

    @staticmethod
    def probability(picture: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(picture.mean(axis=2).astype(np.float32) / 255, (0, 0), 1.5)

    def stream(self, images: Iterable[np.ndarray], *, batch_size: int) -> Iterator[Result]:
        for image in images:
            yield Result(self.probability(image), image)


@pytest.mark.parametrize("protocol", ["standard", "release"])
def test_a_model_and_the_files_it_wrote_get_the_same_numbers(folders: tuple[Path, Path], tmp_path: Path, protocol: str) -> None:
    images, masks = tmp_path / "images", folders[1]
    pairs = [Pair(image, masks / f"{image.stem}.bmp", "white", image.stem) for image in sorted(images.iterdir())]
    written = tmp_path / "written"
    written.mkdir()
    for pair in pairs:
        write_image(written / f"{pair.name}.png", np.rint(FakeModel.probability(pair.read_image()) * 255).astype(np.uint8))
    of_model = evaluate_model(FakeModel(), pairs, data="scenes", protocol=protocol)  # type: ignore[arg-type]
    of_files = evaluate_files(pair_predictions(written, pairs), data="scenes", protocol=protocol)
    assert of_model.metrics == pytest.approx(of_files.metrics, abs=1e-9, nan_ok=True)
    assert of_model.undefined == of_files.undefined


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError), scoring._one_thread_each():
        raise ValueError
    assert torch.get_num_threads() == before


def invoke(*arguments: object) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(evaluate, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.exception


def test_the_command_prints_one_json_object(folders: tuple[Path, Path]) -> None:
    code, out, _ = invoke("--predictions", folders[0], "--masks", folders[1], "--json")
    [result] = json.loads(out)["results"]
    assert code == 0
    assert (result["count"], result["protocol"], result["undefined"]) == (7, "standard", {"ber": 1, "auc": 1})
    assert list(result["metrics"]) == list(METRICS)
    assert result["metrics"]["s_measure"] == pytest.approx(reference(*folders)["s_measure"], abs=1e-6)


def test_the_command_writes_tables_and_page(folders: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = {form: out / f"table.{form}" for form in ("csv", "latex", "report")}
    options = [part for form, file in files.items() for part in (f"--{form}", file)]
    code, printed, _ = invoke("--predictions", folders[0], "--data", f"images={tmp_path / 'images'},masks={folders[1]}", *options)
    assert code == 0
    assert "protocol standard" in printed
    [row] = csv.DictReader(files["csv"].read_text().splitlines())
    assert row["protocol"] == "standard"
    assert float(row["weighted_f"]) == pytest.approx(reference(*folders)["weighted_f"], abs=1e-6)
    assert files["latex"].read_text().count(r"\\") == 2
    page = files["report"].read_text()
    assert page.count("<figure>") == 7 * 4  # each image once, of four images
    assert all(f"scene {index}" in page for index in range(7))
    assert page.count("<svg") == 2  # the curves, and what the scores depend on
    assert "Calibration error (ECE)" in page and "Threshold with the highest mean IoU" in page and "of the error: " in page
    assert 'src="http' not in page and 'href="http' not in page.replace('xlink:href="http', "")
    assert list(out.iterdir()) and not list(out.glob(".focus-*"))


def test_any_name_is_text_on_the_page(tmp_path: Path) -> None:
    hostile = r"<script>alert('$\x$ & \"y\"')</script>"
    level = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    scores = tuple(Score(f"{hostile}{index}", dict.fromkeys(METRICS, 0.5)) for index in range(3))
    curves = {name: [0.5] * 256 for name in ("precision", "recall", "f_beta", "e_measure")}
    one = replace(some(hostile, s_measure=0.5), curves=curves, scores=scores, undefined={"ber": 1})
    section = Section(one, lambda name: View(None, level > 100, level))
    page = render([section, section], tables([one], ["s_measure"]), "s_measure")
    assert page.count("<script>") == 1  # the page's own
    assert page.count("alert(") >= 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "either --checkpoint"),
        (("--checkpoint", "c", "--predictions", "."), "either --checkpoint"),
        (("--checkpoint", "c", "--masks", "."), "--masks goes with --predictions"),
        (("--checkpoint", "c", "--against", "c"), "is the checkpoint itself"),
        (("--predictions", ".", "--masks", ".", "--against", "c"), "--against c goes with --checkpoint"),
        (("--predictions", "."), "either --masks DIR or one --data"),
        (("--predictions", ".", "--masks", ".", "--data", "x"), "either --masks DIR or one --data"),
        (("--predictions", ".", "--data", "x", "--data", "y"), "either --masks DIR or one --data"),
    ],
)
def test_wrong_calls(arguments: tuple[str, ...], said: str) -> None:
    _, _, error = invoke(*arguments)
    assert isinstance(error, ConfigError)
    assert said in str(error)
    assert error.exit_code == 2


def some(data: str, protocol: str = "standard", **metrics_of: float) -> Evaluation:
    published = {"paper, DINOv2-g": {"s_measure": 0.912, "mae": 0.025}}
    return Evaluation(data=data, count=3, protocol=protocol, metrics=metrics_of, undefined={}, curves={}, published=published)


def test_numbers_of_two_protocols_never_share_a_table() -> None:
    with pytest.raises(ConfigError, match="release and standard cannot share"):
        tables([some("a"), some("b", "release")])
    own, published = tables([some("camo-test", s_measure=0.5, mae=0.1)], ["s_measure", "mae"])
    assert (own.protocol, published.protocol) == ("standard", "release")
    assert own.cells() == [["camo-test", "this run", "3", "0.5000", "0.1000"]]
    assert published.cells() == [["camo-test", "paper, DINOv2-g", "", "0.9120", "0.0250"]]
    [both] = tables([some("a", "release"), some("b", "release")], ["s_measure"])
    assert [row.data for row in both.rows] == ["a", "a", "b", "b"]
    assert [line.split(",")[0] for line in as_csv([own, published]).splitlines()] == ["protocol", "standard", "release"]


def test_latex_is_escaped() -> None:
    [own, _] = tables([some("a_b & 50%")], ["ber"])
    assert r"a\_b \& 50\%" in as_latex([own])


def test_worst_median_and_best_are_shown_once_each() -> None:
    scores = [Score(str(value), {"mae": value / 10, "s_measure": float("nan")}) for value in (3, 1, 5, 2, 4, 0, 6)]
    chosen = worst_median_best(scores, "mae", count=2)
    assert {kind: [score.name for score in some] for kind, some in chosen.items()} == {
        "Worst": ["6", "5", "4"],
        "Median": ["3", "2"],
        "Best": ["1", "0"],
    }
    assert list(map(len, worst_median_best(scores, "mae", worst=1).values())) == [1, 2, 2]
    assert worst_median_best(scores, "s_measure") == {}
    assert [score.name for score in worst_median_best(scores[:2], "mae")["Worst to best"]] == ["3", "1"]


def test_published_figures_are_those_of_the_data_set() -> None:
    figures = published_figures("istd-test", None)
    assert any(values.get("ber") == pytest.approx(0.98, abs=0.005) for values in figures.values())
    assert published_figures("some/folder", None) == {}


def batch(seed: int, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(count, 20, 24, generator=generator) > 0.6
    return (0.3 * truth + 0.7 * torch.rand(truth.shape, generator=generator)), truth


def test_classes_sum_over_batches_and_processes() -> None:
    (first, first_truth), (second, second_truth) = batch(0), batch(1, 5)
    everything = metrics.compute([*first, *second], [*first_truth, *second_truth], curves=True)
    here, there = metrics.MetricSet(), metrics.MetricSet()
    here.update(first, first_truth)
    there.update(second[:2], second_truth[:2])
    there.update(second[2:], second_truth[2:])
    here.merge_state(there)
    for name, value in here.compute().items():
        curve = {"e_measure_max": 3, "f_beta_max": 2}.get(name)
        expected = everything[name].mean() if curve is None else everything["curves"][:, curve].mean(0).max()
        assert value.item() == pytest.approx(expected.item(), abs=1e-12), name


def test_processes_exchange_states_of_constant_size() -> None:
    """torchmetrics' own road: every state is gathered, then reduced as it says."""
    here, there = metrics.FBetaMax(), metrics.FBetaMax()
    here.update(*batch(0))
    there.update(*batch(1, 5))
    sizes = [getattr(there, name).numel() for name in there._defaults]
    expected = metrics.FBetaMax()
    expected.update(*batch(0))
    expected.update(*batch(1, 5))
    others = {id(getattr(here, name)): getattr(there, name) for name in here._defaults}
    here.sync(dist_sync_fn=lambda state, group: [state, others[id(state)]], distributed_available=lambda: True)
    assert here._computed is None
    assert here.totals.value("f_beta_max").item() == pytest.approx(expected.compute().item(), abs=1e-12)
    assert sum(sizes) == 1 + 1 + 1 + 4 * 256


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_has_a_class(name: str) -> None:
    one = getattr(metrics, "".join(part.capitalize() for part in name.split("_")))()
    one.update(*batch(2))
    several = metrics.MetricSet([name])
    several.update(*batch(2))
    assert one.compute().item() == several.compute()[name].item()
    assert one.higher_is_better is (name not in ("mae", "ber"))
    one.reset()
    assert int(one.images) == 0
