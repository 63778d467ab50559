"""``--precision auto``: bf16 where the device computes in it and a trial shows it faster and no worse, and never without a word."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.training import run, tiny

from focus_framework.config.layers import with_prediction
from focus_framework.inference import model as models
from focus_framework.inference import precision as precisions
from focus_framework.inference.model import Model
from focus_framework.inference.precision import Choice, choose, computing_in, half_precision
from focus_framework.model.build import build_network
from focus_framework.training import precision as training

CPU = torch.device("cpu")


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "half_precision", lambda device: ("some_bf16",))


def taking(fp32: float, bf16: float, difference: float = 0.0) -> Callable[[], float]:
    """Works so many seconds, and gives 1, or 1 and the difference under autocast."""

    def call() -> float:
        half = torch.is_autocast_enabled("cpu")
        time.sleep(bf16 if half else fp32)
        return 1.0 + difference * half

    return call


def chosen(call: Callable[[], float]) -> Choice:
    return choose(call, CPU, lambda first, second: abs(first - second), allowed=0.1, what="numbers")


@pytest.mark.parametrize(
    ("call", "precision", "said"),
    [
        (taking(0.04, 0.01), "bf16", ["of fp32's time", "some_bf16"]),
        (taking(0.01, 0.04), "fp32", ["taken at 0.95 or less"]),
        (taking(0.04, 0.01, 0.2), "fp32", ["numbers differed by 0.2", "more than 0.1 is too much"]),
        (taking(0.04, 0.01, float("nan")), "fp32", ["numbers differed by nan"]),
    ],
)
@pytest.mark.usefixtures("able")
def test_half_is_taken_where_it_is_faster_and_no_worse(call: Callable[[], float], precision: str, said: list[str]) -> None:
    choice = chosen(call)
    assert choice.precision == precision and all(part in choice.why for part in said), choice


def test_what_pytorch_does_not_report_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "avx2": True, "cpu_name": "Xeon bf16"})
    assert half_precision(CPU) == ()
    choice = chosen(lambda: pytest.fail("was tried"))
    assert choice.precision == "fp32" and "report no arithmetic in bf16 for cpu" in choice.why
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True, "avx512_bf16": True, "avx2": True})
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert half_precision(CPU) == ("amx_bf16", "avx512_bf16")
    assert half_precision(torch.device("mps")) == ()


def model(precision: str) -> Model:
    config = tiny().config
    torch.manual_seed(1)
    return Model(with_prediction(config, {"precision": precision}), build_network(config)).eval()


def test_prediction_follows_the_choice_and_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    full, half = (model(name).predict(image).probability for name in ("fp32", "bf16"))
    assert 0 < np.abs(full - half).mean() < models.ALIKE
    for precision, expected in (("fp32", full), ("bf16", half)):
        asked: list[str] = []

        def decided(*arguments: object, precision: str = precision, asked: list[str] = asked, **named: object) -> Choice:
            asked.append(precision)
            return Choice(precision, "told so")  # type: ignore[arg-type]

        monkeypatch.setattr(models, "choose", decided)
        auto = model("auto")
        assert auto.precision is None
        assert np.array_equal(auto.predict(image).probability, expected) and np.array_equal(auto.predict(image).probability, expected)
        assert asked == [precision] and str(auto.precision) == f"{precision}: told so"


@pytest.mark.usefixtures("able")
def test_the_trial_of_a_prediction_measures_both(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "focus_framework"):
        model("auto").predict(np.zeros((64, 64, 3), np.uint8))
    assert "predicting in" in caplog.text and "of fp32's time" in caplog.text and "maps differed by" in caplog.text


@pytest.mark.usefixtures("able")
def test_training_decides_before_the_first_step_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "focus_framework"):
        summary = run(tmp_path, **{"training.precision": "auto", "training.steps": 2})
    kept = tomllib.loads((tmp_path / "config.toml").read_text())["training"]["precision"]
    assert kept in ("fp32", "bf16") and summary.precision.startswith(f"{kept}: in a trial bf16 took")
    assert "training in " + summary.precision in caplog.text and "losses differed by" in summary.precision
    assert summary.precision.split("(")[0] in summary.report.read_text().replace("&#39;", "'")
    run(tmp_path, resume=True, **{"training.precision": kept, "training.steps": 3})


def test_the_trial_of_a_training_is_a_step_and_leaves_chance_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {}

    def tried(call: Callable[[], float], *arguments: object, **named: object) -> Choice:
        for precision in ("fp32", "bf16"):
            with computing_in(precision, CPU):
                losses[precision] = call()
        return Choice("bf16", "told so")

    monkeypatch.setattr(training, "choose", tried)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    resolved, choice = training.decide(tiny(**{"training.precision": "auto"}))
    assert torch.equal(torch.get_rng_state(), before)
    assert resolved.config.training.precision == "bf16" and choice == Choice("bf16", "told so")
    assert losses["fp32"] != losses["bf16"] and losses["bf16"] == pytest.approx(losses["fp32"], rel=training.ALIKE)
    given = tiny(**{"training.precision": "bf16"})
    assert training.decide(given) == (given, None)


def test_several_processes_make_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    resolved, choice = training.decide(tiny(**{"training.precision": "auto"}))
    assert resolved.config.training.precision == "fp32" and choice and "--precision bf16 says it for all" in choice.why


def test_half_precision_that_the_processor_lacks_is_said_to_be_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("focus_framework.training.run.half_precision", lambda device: ())
    with caplog.at_level("WARNING", "focus_framework"):
        run(tmp_path, **{"training.precision": "bf16", "training.steps": 1})
    assert "no arithmetic in bf16" in caplog.text and "--precision fp32" in caplog.text
