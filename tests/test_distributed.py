"""Two processes on this machine's CPU (gloo), started as a user starts them, against one process with the same batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_training import TINY, run, saved

from focus_framework.data.augment import Augmentation
from focus_framework.data.dataset import PracticePictures, TrainingSamples, batches
from focus_framework.errors import ConfigError
from focus_framework.registry import registry
from focus_framework.training.update import share_of_batch

SETTINGS = {
    **TINY,
    "training.batch_size": 4,
    "training.steps": 6,
    "training.checkpoint_every": 3,
    "backbone.options.drop_path_rate": 0.0,  # chance inside the network is of a process, not of a sample
}
LAUNCH = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "focus_framework"],
    "accelerate": ["accelerate.commands.launch", "--cpu", "--num_processes=2", "--main_process_port=0", "-m", "focus_framework"],
}
"""As docs/training.md shows them, here on the CPU."""
PAGE = Path(__file__).parents[1] / "docs" / "training.md"


def call(launcher: str, folder: Path, *more: str) -> list[str]:
    assignments = [f"{name}={json.dumps(value)}" for name, value in SETTINGS.items()]
    words = ["train", "--task-plugin", "shadow", *(word for text in assignments for word in ("--set", text)), "--out", str(folder)]
    return [sys.executable, "-m", *LAUNCH[launcher], *words, *more]


def launched(launcher: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(call(launcher, folder, *more), env=environment, capture_output=True, text=True, timeout=500)


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one") / "run"
    run(folder, **SETTINGS)
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "run"
    ended = launched("torchrun", folder)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stderr.count("training on ") == 1, "only the leading process speaks"
    assert ended.stdout.count("best checkpoint") == 1
    return folder


def test_two_processes_give_the_loss_curve_of_one(alone: Path, together: Path) -> None:
    """Every sum of the losses, every norm and every gradient is over the whole batch, so only rounding differs."""
    ours, theirs = lines(together), lines(alone)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [1, 2, 3, 4, 5, 6]
    names = ("loss", "loss_label", "loss_mask", "loss_box", "gradient_norm")
    largest = max(
        abs(one[name] - other[name]) / max(1.0, abs(other[name])) for one, other in zip(ours, theirs, strict=True) for name in names
    )
    print(f"largest relative difference of the curves: {largest:.1e}")
    assert largest < 1e-4
    assert len({line["loss"] for line in theirs}) == 6


def test_the_scores_are_those_of_one(alone: Path, together: Path) -> None:
    scores = [
        {name: value for line in lines(folder) for name, value in line.items() if name.startswith("validation_")}
        for folder in (alone, together)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_checkpoint_and_state_are_those_of_one(alone: Path, together: Path, tmp_path: Path) -> None:
    ours, theirs = load_file(together / "checkpoint.safetensors"), load_file(alone / "checkpoint.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-3, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")
    summary = run(together, resume=True, **{**SETTINGS, "training.steps": 7})
    assert summary.steps == 7
    assert saved(together).step == 7


def test_accelerate_launches_it_too(tmp_path: Path) -> None:
    ended = launched("accelerate", tmp_path / "run", "--steps", "2")
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2]


def test_the_page_shows_these_calls() -> None:
    page = PAGE.read_text("utf-8")
    assert "torchrun --standalone --nproc_per_node=2 -m focus_framework train --task-plugin shadow" in page
    assert "accelerate launch --num_processes=2 -m focus_framework train --task-plugin shadow" in page


def test_a_signal_to_the_launcher_stops_all_at_one_step_and_saves(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = call("torchrun", folder, "--steps", "5000", "--checkpoint-every", "5000")
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 300
        while not ((folder / "metrics.jsonl").exists() and len(lines(folder)) > 1) and time.monotonic() < until:
            time.sleep(0.2)
        process.terminate()
        _, told = process.communicate(timeout=300)
    assert process.returncode != 0
    assert told.count("stopped by SIGTERM after step") == 2
    assert saved(folder).step == len(lines(folder))


def test_every_sample_is_seen_once_a_pass() -> None:
    task = registry().get("task", "shadow")
    samples = TrainingSamples(PracticePictures(task, 12, size=64), Augmentation.of_task("none", 64, task), seed=0)
    seen: list[str] = []
    for rank in range(3):
        own = batches(samples, batch_size=2, rank=rank, processes=3)
        seen += [name for _, batch in zip(range(2), own, strict=False) for name in batch["name"]]
    assert sorted(seen) == sorted(samples.pictures.names)


def test_a_batch_that_cannot_be_shared_says_what_could() -> None:
    from test_training import tiny

    with pytest.raises(ConfigError, match=r"a batch of 4 cannot be shared by 3 process.*multiple of 3"):
        share_of_batch(tiny(**{"training.batch_size": 4}).config, 3)
    assert share_of_batch(tiny(**{"training.batch_size": 12, "training.accumulate": 2}).config, 3) == 4
