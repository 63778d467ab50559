"""The tasks that a checkpoint knows, and scores by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def tasks_of(description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a checkpoint's description says of each of its tasks: ``name``, ``title``, ``metrics``, ``primary_metric``, ``prompts``."""
    return list(description.get("tasks") or [{**description["task"], "prompts": description["prompts"]}])


def label(task: str, metric: str, tasks: Sequence[str]) -> str:
    """What a score is called among those of all tasks that a network knows: of one task by its metric, of several ``task.metric``."""
    return metric if len(tasks) == 1 else f"{task}.{metric}"


def joined(by_task: Mapping[str, Mapping[str, float]], tasks: Sequence[str]) -> dict[str, float]:
    """Scores of some of the tasks in one table, by their labels."""
    return {label(task, metric, tasks): value for task, scores in by_task.items() for metric, value in scores.items()}


def scores_of(task: str, scores: Mapping[str, float], tasks: Sequence[str]) -> dict[str, float]:
    """Those of one task out of such a table, by their metrics."""
    if len(tasks) == 1:
        return dict(scores)
    start = f"{task}."
    return {name.removeprefix(start): value for name, value in scores.items() if name.startswith(start)}
