"""The starter as it lies in this repository: its files, its facts, and that it knows what it was made for."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.metrics import roc_auc_score

from focus_framework import load
from focus_framework.checkpoint.format import read_checkpoint, read_description, write_checkpoint
from focus_framework.plugin.kit.practice import practice_pair
from focus_framework.plugin.registry import registry

STARTER = Path(__file__).parents[1] / "starter"
WEIGHTS = STARTER / "focus_framework_starter" / "weights"
FACTS = json.loads((WEIGHTS / "facts.json").read_text("utf-8"))


def test_the_files_are_small_and_those_that_the_facts_say():
    assert set(FACTS) == {file.stem for file in WEIGHTS.glob("*.safetensors")} - {"encoder"}
    for task, fact in FACTS.items():
        assert hashlib.sha256((WEIGHTS / f"{task}.safetensors").read_bytes()).hexdigest() == fact["sha256"]
    sizes = [file.stat().st_size for file in WEIGHTS.glob("*.safetensors")]
    assert max(sizes) <= 10_000_000
    assert sum(sizes) <= 40_000_000


def test_the_notice_names_the_files_whose_encoder_was_changed():
    changed = []
    for file in WEIGHTS.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            changed += [file.name] if any(name.startswith("encoder.backbone.body.") for name in opened.keys()) else []  # noqa: SIM118
    notice = (STARTER / "NOTICE").read_text("utf-8")
    assert [name for name in changed if f"weights/{name}" not in notice] == []
    assert changed


@pytest.mark.parametrize("task", FACTS)
def test_the_card_gives_the_figures_of_the_facts(task):
    card = (STARTER / "README.md").read_text("utf-8")
    for row in FACTS[task]["figures"]:
        cells = [f"{value:.3f}" if value < 1 else f"{value:.1f}" for value in row["metrics"].values()]
        line = next(line for line in card.splitlines() if line.startswith(f"| {task} | {row['data']} |"))
        assert all(cell in line for cell in cells), (line, cells)


@pytest.mark.parametrize("task", ["salient", "shadow"])
def test_it_finds_drawn_things_that_it_never_saw(task):
    model = load(WEIGHTS / f"{task}.safetensors")
    pairs = [practice_pair(registry().get("task", task), seed=1, split="test", index=i, size=128) for i in range(6)]
    results = model.predict([image for image, _ in pairs])
    scores = [roc_auc_score(mask.ravel(), result.probability.ravel()) for (_, mask), result in zip(pairs, results, strict=True)]
    assert np.mean(scores) > 0.75


def test_its_description_names_no_folder_of_the_machine_that_trained_it():
    for task in FACTS:
        assert '"/' not in json.dumps(read_description(WEIGHTS / f"{task}.safetensors"))


def test_averaged_checkpoints_have_the_mean_of_their_weights(tmp_path):
    runs = {name: tmp_path / f"{name}.safetensors" for name in ("one", "other")}
    description, state = read_checkpoint(WEIGHTS / "shadow.safetensors")
    moved = "decoder.query_content"
    write_checkpoint(runs["one"], state, description)
    write_checkpoint(runs["other"], {**state, moved: state[moved].float() + 1}, description)
    command = [sys.executable, str(STARTER / "average.py"), "--out", str(tmp_path / "mean"), *map(str, runs.values())]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, mean = read_checkpoint(tmp_path / "mean" / "best.safetensors")
    for name, tensor in state.items():
        assert torch.allclose(mean[name].float(), tensor.float() + 0.5 * (name == moved), atol=1e-6), name
