"""What is shown in Weights & Biases, with a module of its name that only keeps what it is told."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.training import StopError, lines, run

from focus_framework import ConfigError
from focus_framework.training.record.trackers import check_trackers

WITH = {"training.trackers": ["wandb"]}


class RefusedError(Exception):
    """Stands for the error of wandb."""


@dataclass
class Told:
    """What one run was told."""

    settings: dict[str, Any]
    logged: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    ended: int | None = None

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def finish(self, exit_code: int) -> None:
        self.ended = exit_code


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Told]:
    """The runs, in order. Nobody looks at the page that each leaves."""
    runs: list[Told] = []

    def init(**settings: Any) -> Told:
        runs.append(Told(settings))
        return runs[-1]

    module = ModuleType("wandb")
    vars(module).update(init=init, Error=RefusedError, Image=lambda array: array, Settings=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr("focus_framework.training.run.write_report", lambda *arguments: None)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return runs


def test_it_gets_numbers_images_and_configuration(told: list[Told], tmp_path: Path) -> None:
    run(tmp_path / "mine", **WITH)
    [one] = told
    assert one.settings["project"] == "focus-framework"
    assert one.settings["name"] == "mine"
    assert one.settings["config"]["training"]["batch_size"] == 2
    numbers = [(step, values) for step, values in one.logged if "loss" in values]
    assert numbers == [(line["step"], {k: v for k, v in line.items() if k != "step"}) for line in lines(tmp_path / "mine")]
    assert {"loss_clip", "loss_label", "loss_mask", "loss_box", "learning_rate"} <= numbers[0][1].keys()
    pictures = {step: values["validation"] for step, values in one.logged if "validation" in values}
    assert pictures.keys() == {2, 4}
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 for picture in pictures.values())
    assert one.ended == 0
    assert not list((tmp_path / "mine").glob("events.out.tfevents*"))  # nobody asked for TensorBoard


def test_a_run_that_goes_on_is_the_same_run_there(told: list[Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "another")
    run(tmp_path / "one", **WITH)
    run(tmp_path / "one", resume=True, **WITH, **{"training.steps": 6})
    run(tmp_path / "other", **WITH)
    first, again, other = (one.settings for one in told)
    assert first["id"] == again["id"] != other["id"]
    assert again["resume"] == "allow"
    assert first["project"] == "another"
    assert [step for step, values in told[1].logged if "loss" in values] == [5, 6]


def test_a_run_that_fails_is_one_that_failed_there(told: list[Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise StopError

    monkeypatch.setattr("focus_framework.training.loop.score", fail)
    with pytest.raises(StopError):
        run(tmp_path, **WITH)
    assert told[0].ended == 1


def test_what_it_refuses_is_said_before_the_first_step(told: list[Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**settings: Any) -> None:
        raise RefusedError("No API key configured.\nmore")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with pytest.raises(ConfigError, match=r"\(No API key configured\.\); run: wandb login, or set WANDB_MODE=offline"):
        run(tmp_path, **WITH)
    assert not (tmp_path / "metrics.jsonl").exists()  # a start that failed leaves nothing


def test_without_the_package_a_run_says_what_to_install_and_begins_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # what Python keeps for a module that cannot be imported
    with pytest.raises(ConfigError, match=r"pip install 'focus-framework\[wandb\]'"):
        run(tmp_path / "run", **WITH)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_it_left_behind_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match="not installed"):
        check_trackers(["wandb"])
