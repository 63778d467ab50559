"""The fitted temperature: what it does to a map, how it is found, and that it travels with the checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from support.training import run

from focus_framework import load
from focus_framework.checkpoint import read_description
from focus_framework.model.joint import join, with_temperature
from focus_framework.training.calibration import fit_temperature


def test_a_temperature_of_one_half_squares_the_odds():
    p = torch.tensor([0.0, 0.2, 0.5, 0.7, 1.0], dtype=torch.float64)
    torch.testing.assert_close(with_temperature(p, 0.5), p**2 / (p**2 + (1 - p) ** 2))


def test_no_pixel_crosses_one_half_and_a_binary_map_stays():
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 3), torch.randn(2, 2, 8, 8)
    for temperature in (0.3, 3.0):
        assert torch.equal(join(*logits, "soft", temperature=temperature) > 0.5, join(*logits, "soft") > 0.5)
        assert torch.equal(join(*logits, "release", temperature=temperature), join(*logits, "release"))


@pytest.mark.parametrize("true_temperature", [0.4, 2.5])
def test_the_temperature_is_that_of_a_logistic_regression_without_intercept(true_temperature):
    random = np.random.default_rng(0)
    odds = random.normal(0, 1.5, (4, 64, 64))
    masks = random.random(odds.shape) < 1 / (1 + np.exp(-odds / true_temperature))
    maps = (1 / (1 + np.exp(-odds))).astype(np.float32)
    fitted = fit_temperature(zip(maps, masks, strict=True))
    oracle = LogisticRegression(fit_intercept=False, C=np.inf).fit(odds.reshape(-1, 1), masks.ravel())
    assert fitted.temperature == pytest.approx(1 / oracle.coef_.item(), rel=0.005)
    assert fitted.images == 4
    assert fitted.after < fitted.before


def test_exact_zeros_and_ones_that_are_wrong_do_not_break_it():
    fitted = fit_temperature([(np.array([[0.0, 1.0]], np.float32), np.array([[True, False]]))])
    assert fitted.temperature == pytest.approx(10, rel=0.01)


def test_a_run_fits_it_and_the_checkpoint_carries_it(tmp_path):
    summary = run(tmp_path, **{"training.calibrate": True, "data.train": "practice"})
    description = read_description(summary.best)
    fitted = description["calibration"]
    assert load(summary.best).config.prediction.temperature == fitted["temperature"] != 1
    assert fitted["images"] > 0
    assert fitted["after"] <= fitted["before"]
