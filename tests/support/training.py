"""Training runs of toy size, and what they leave."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from focus_framework.config.layers import Resolved, resolve
from focus_framework.plugin.registry import registry
from focus_framework.training.record.state import TrainingState, load_state
from focus_framework.training.record.summary import Summary
from focus_framework.training.run import train

TINY = {
    "backbone.options.embed_dim": 32,
    "backbone.options.depth": 4,
    "backbone.options.num_heads": 2,
    "backbone.options.drop_path_rate": 0.1,
    "pixel_decoder.width": 32,
    "pixel_decoder.layers": 1,
    "pixel_decoder.feedforward": 32,
    "decoder.layers": 2,
    "decoder.feedforward": 32,
    "loss.points": 64,
    "preprocessing.size": 64,
    "data.practice_count": 8,
    "data.validation_limit": 3,
    "data.workers": 0,
    "training.batch_size": 2,
    "training.steps": 4,
    "training.log_every": 1,
    "training.checkpoint_every": 2,
    "training.device": "cpu",
}


def tiny(task: str = "shadow", **settings: Any) -> Resolved:
    return resolve(task, options={**TINY, **settings})


def run(
    folder: Path, task: str = "shadow", *, resume: bool = False, clock: Callable[[], float] = time.monotonic, **settings: Any
) -> Summary:
    summary = train(tiny(task, **settings), registry().find_task(task), folder, resume=resume, clock=clock)
    assert summary
    return summary


def saved(folder: Path) -> TrainingState:
    state = load_state(folder)
    assert state
    return state


class StopError(Exception):
    """Stands for whatever ends a run in the middle."""


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
