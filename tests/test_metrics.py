"""The metrics against PySODMetrics, scikit-learn and the authors' own numbers."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score

from focus_framework import metrics
from focus_framework.errors import ConfigError, DataError
from focus_framework.plugin.interfaces import METRICS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import py_sod_metrics

REFERENCE = Path(__file__).parent / "data" / "release"


def blob(height: int, width: int, seed: int) -> np.ndarray:
    """A mask of a few smooth lumps."""
    noise = np.random.default_rng(seed).standard_normal((height, width))
    smooth = cv2.GaussianBlur(noise, (0, 0), max(1.0, min(height, width) / 10))
    return smooth > np.quantile(smooth, 0.75)


def soft(mask: np.ndarray, seed: int, low: int = 0, high: int = 255) -> np.ndarray:
    """A prediction as a network makes it: shifted, blurred, noisy, `low` to `high`."""
    random = np.random.default_rng(seed)
    shifted = np.roll(mask, (2, -1), (0, 1)).astype(np.float64)
    value = cv2.GaussianBlur(shifted, (0, 0), 2.5) + 0.08 * random.standard_normal(mask.shape)
    value = (value - value.min()) / (value.max() - value.min())
    return np.round(low + value * (high - low)).astype(np.uint8)


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(7)
    made: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for index, (height, width) in enumerate([(64, 64), (97, 61), (33, 128), (71, 71)]):
        mask = blob(height, width, index)
        made[f"soft {height}x{width}"] = soft(mask, index), mask
        made[f"soft narrow range {height}x{width}"] = soft(mask, index, 37, 181), mask
        made[f"binary {height}x{width}"] = (soft(mask, index) > 127).astype(np.uint8) * 255, mask
        made[f"random {height}x{width}"] = random.integers(0, 256, (height, width), np.uint8), random.random((height, width)) > 0.6
        made[f"few levels {height}x{width}"] = random.integers(0, 4, (height, width)).astype(np.uint8) * 60, mask
        made[f"perfect {height}x{width}"] = mask.astype(np.uint8) * 255, mask
        made[f"inverted {height}x{width}"] = (~mask).astype(np.uint8) * 255, mask
    mask = blob(40, 55, 9)
    noise = random.integers(0, 256, (40, 55), np.uint8)
    made["empty truth"] = noise, np.zeros_like(mask)
    made["full truth"] = noise, np.ones_like(mask)
    for level in (0, 1, 77, 127, 128, 200, 255):
        constant = np.full((40, 55), level, np.uint8)
        made[f"constant {level}"] = constant, mask
        made[f"constant {level}, empty truth"] = constant, np.zeros_like(mask)
        made[f"constant {level}, full truth"] = constant, np.ones_like(mask)
        made[f"constant {level}, small truth"] = constant, np.pad(np.ones((3, 3), bool), ((10, 27), (20, 32)))
    for row, column in ((0, 0), (20, 30), (39, 54), (39, 5), (3, 54)):
        one = np.zeros_like(mask)
        one[row, column] = True
        made[f"one pixel at {row},{column}"] = noise, one
        made[f"all but one pixel at {row},{column}"] = noise, ~one
    line = random.integers(0, 256, (1, 37), np.uint8)
    made["1xN"] = line, line > 100
    made["Nx1"] = line.T, line.T > 100
    made["1xN empty"] = line, line > 255
    made["2x2"] = np.array([[0, 128], [255, 3]], np.uint8), np.array([[True, False], [True, False]])
    made["2x3"] = np.array([[9, 128, 200], [255, 3, 4]], np.uint8), np.array([[True, False, True], [False, False, False]])
    half = np.zeros((48, 48), bool)
    half[:24] = True
    made["flat quadrants"] = np.where(half, 90, np.where(np.arange(48) < 20, 33, 201)).astype(np.uint8), half & (np.arange(48) < 20)
    return made


CASES = cases()


def reference(level: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """The numbers of PySODMetrics and scikit-learn for an 8-bit map."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        handlers = {
            "ber": py_sod_metrics.BERHandler(with_dynamic=False, with_adaptive=False, with_binary=True),
            "f_beta": py_sod_metrics.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3),
        }
        structure, alignment = py_sod_metrics.Smeasure(), py_sod_metrics.Emeasure()
        weighted, error = py_sod_metrics.WeightedFmeasure(), py_sod_metrics.MAE()
        thresholded = py_sod_metrics.FmeasureV2(handlers)
        for one in (structure, alignment, weighted, error, thresholded):
            one.step(level, mask.astype(np.uint8) * 255)
        e_measure, f_beta = alignment.get_results()["em"], thresholded.get_results()["f_beta"]
        flat, positive = mask.ravel(), level.ravel() / 255 > 0.5
        mixed = mask.any() and not mask.all()
        return {
            "s_measure": structure.get_results()["sm"],
            "e_measure_mean": e_measure["curve"].mean(),
            "e_measure_max": e_measure["curve"].max(),
            "e_measure_adaptive": e_measure["adp"],
            "weighted_f": weighted.get_results()["wfm"],
            "f_beta_mean": f_beta["dynamic"].mean(),
            "f_beta_max": f_beta["dynamic"].max(),
            "f_beta_adaptive": f_beta["adaptive"],
            "mae": error.get_results()["mae"],
            "ber": 100 * thresholded.get_results()["ber"]["binary"] if mixed else np.nan,
            "f1": f1_score(flat, positive, zero_division=0),
            "iou": jaccard_score(flat, positive, zero_division=0),
            "auc": roc_auc_score(flat, level.ravel()) if mixed else np.nan,
        }


@pytest.mark.parametrize("case", CASES)
def test_equals_the_field_s_reference(case: str) -> None:
    level, mask = CASES[case]
    values = metrics.compute(torch.from_numpy(level / 255)[None], torch.from_numpy(mask)[None])
    expected = reference(level, mask)
    assert {name: value.item() for name, value in values.items()} == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("kind", ["float32", "uint8", "list", "numpy"])
def test_every_form_of_input_gives_the_same_numbers(kind: str) -> None:
    names = [name for name in CASES if "64x64" in name]
    levels = [torch.from_numpy(CASES[name][0]) for name in names]
    masks = [torch.from_numpy(CASES[name][1]) for name in names]
    expected = metrics.compute(torch.stack(levels).double() / 255, torch.stack(masks))
    given = {
        "float32": (torch.stack(levels).float() / 255, torch.stack(masks)),
        "uint8": (torch.stack(levels), torch.stack(masks).to(torch.uint8) * 255),
        "list": ([level.float() / 255 for level in levels], masks),
        "numpy": (torch.stack(levels).numpy(), torch.stack(masks).numpy()),
    }[kind]
    for name, values in metrics.compute(*given).items():
        assert values.dtype == torch.float64
        torch.testing.assert_close(values, expected[name], rtol=0, atol=1e-9, equal_nan=True)


def test_maps_that_are_not_8_bit() -> None:
    """PySODMetrics reads floating point maps too, in 0..255."""
    random = np.random.default_rng(3)
    mask = blob(60, 83, 4)
    value = np.clip(soft(mask, 5) / 255 + 0.1 * random.random(mask.shape), 0, 1)
    for name, got in metrics.compute(torch.from_numpy(value), torch.from_numpy(mask)).items():
        expected = {
            **reference(value * 255, mask),
            "auc": roc_auc_score(mask.ravel(), value.ravel()),
            "f1": f1_score(mask.ravel(), value.ravel() > 0.5),
        }
        assert got.item() == pytest.approx(expected[name], abs=1e-6), name


def test_auc_counts_ties_of_maps_that_are_not_8_bit() -> None:
    random = np.random.default_rng(11)
    value = random.integers(0, 40, (30, 30)) / 39.5
    mask = random.random((30, 30)) < value
    assert metrics.auc(torch.from_numpy(value), torch.from_numpy(mask)).item() == pytest.approx(
        roc_auc_score(mask.ravel(), value.ravel()), abs=1e-12
    )


@pytest.mark.parametrize("name", METRICS)
def test_each_function_gives_what_compute_gives(name: str) -> None:
    maps = [torch.from_numpy(CASES[case][0]).float() / 255 for case in ("soft 64x64", "soft 97x61", "empty truth")]
    truths = [torch.from_numpy(CASES[case][1]) for case in ("soft 64x64", "soft 97x61", "empty truth")]
    torch.testing.assert_close(
        getattr(metrics, name)(maps, truths), metrics.compute(maps, truths, [name])[name], rtol=0, atol=1e-12, equal_nan=True
    )


def test_nearest_foreground_is_the_one_that_scipy_takes() -> None:
    """Ties decide which error a background pixel takes over: scattered pixels have many."""
    from focus_framework.evaluation.metrics.weighted import _squared_distance, _with_error_of_nearest_foreground

    for seed in range(12):
        random = np.random.default_rng(seed)
        mask = random.random((31, 42)) < 0.01 + 0.04 * seed
        error = random.random(mask.shape)
        row, column = distance_transform_edt(~mask, return_distances=False, return_indices=True)
        expected = np.where(mask, error, error[row, column])
        truth = torch.from_numpy(mask)[None]
        got = _with_error_of_nearest_foreground(torch.from_numpy(error)[None], truth, _squared_distance(truth))[0, 3:-3, 3:-3]
        window = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        np.testing.assert_array_equal(got.numpy()[window], expected[window])


def test_release_protocol_gives_the_authors_numbers() -> None:
    from safetensors.torch import load_file

    tensors = load_file(REFERENCE / "metrics.safetensors")
    theirs = {
        "SM": "s_measure", "EM": "e_measure_mean", "WFM": "weighted_f", "MAE": "mae", "FM": "f_beta_adaptive", "F1": "f1",
        "AUC": "auc", "BER_as_authors_average_it": "ber",
    }  # fmt: skip
    expected = json.loads((REFERENCE / "metrics.json").read_text())
    for case, numbers in expected.items():
        got = metrics.compute(tensors[f"{case}.pred"].float(), tensors[f"{case}.gt"].bool(), protocol="release")
        for their_name, name in theirs.items():
            assert got[name].item() == pytest.approx(numbers[their_name], abs=1e-6), f"{case} {name}"


def test_release_protocol_reads_a_soft_map_as_binary() -> None:
    level, mask = CASES["soft 64x64"]
    binary = torch.from_numpy((level > 127).astype(np.float32))
    truth = torch.from_numpy(mask)
    standard = metrics.compute(binary, truth)
    release = metrics.compute(torch.from_numpy(level / 255), truth, protocol="release")
    assert release["ber"].item() == pytest.approx(0.75 * standard["ber"].item())
    assert release["auc"].item() == pytest.approx(1 - standard["ber"].item() / 100)
    assert release["s_measure"].item() == standard["s_measure"].item()


def test_curves_are_those_of_the_reference() -> None:
    level, mask = CASES["soft narrow range 97x61"]
    curves = metrics.compute(torch.from_numpy(level), torch.from_numpy(mask), [], curves=True)["curves"][0].numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        thresholded, alignment = py_sod_metrics.Fmeasure(), py_sod_metrics.Emeasure()
    for one in (thresholded, alignment):
        one.step(level, mask.astype(np.uint8) * 255)
    result = thresholded.get_results()
    expected = [result["pr"]["p"], result["pr"]["r"], result["fm"]["curve"], alignment.get_results()["em"]["curve"]]
    np.testing.assert_allclose(curves, np.stack(expected), atol=1e-9)


def test_wrong_input_is_named() -> None:
    truth = torch.ones(1, 4, 5, dtype=torch.bool)
    with pytest.raises(DataError, match=r"\[1, 4, 6\].*\[1, 4, 5\]"):
        metrics.mae(torch.zeros(1, 4, 6), truth)
    with pytest.raises(DataError, match="sigmoid"):
        metrics.mae(torch.full((1, 4, 5), 3.0), truth)
    with pytest.raises(DataError, match="nan"):
        metrics.mae(torch.full((1, 4, 5), torch.nan), truth)
    with pytest.raises(DataError, match="2 predictions for 1 masks"):
        metrics.mae([torch.zeros(4, 5)] * 2, [truth[0]])
    with pytest.raises(ConfigError, match="s_measure"):
        metrics.compute(torch.zeros(1, 4, 5), truth, ["s_mesure"])
    with pytest.raises(ConfigError, match="release"):
        metrics.compute(torch.zeros(1, 4, 5), truth, protocol="releas")


@pytest.mark.parametrize("shape", [(0, 4, 4), (1, 0, 4), (0,), ()])
def test_maps_of_size_0_are_refused_by_their_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=re.escape(f"the prediction has shape {list(shape)}")):
        metrics.mae(torch.zeros(shape), torch.zeros(shape))
    with pytest.raises(DataError, match="both lists are empty"):
        metrics.s_measure([], [])
