"""A model on data sets, from their names to the table: the same code for the command line and `focus_framework.evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PluginError
from ..plugin.interfaces import METRICS, Task
from ..plugin.registry import registry
from .tables import Table, tables

if TYPE_CHECKING:
    from ..inference.model import Model
    from .report import Section

PRACTICE = "practice"


def evaluate(
    model: Model | str | PathLike[str],
    data: str | PathLike[str] | Sequence[str | PathLike[str]] = PRACTICE,
    task: str | None = None,
    *,
    data_root: str | PathLike[str] | None = None,
    protocol: str = "standard",
    batch_size: int = 8,
    device: str = "auto",
) -> Table:
    """Measure a model, or a checkpoint that `load` takes, as ``focus evaluate`` does.

    `data` is a folder with ``images`` and ``masks``, a known data set, or several of them; by default practice images of the task that
    were not trained on. `task` is what ``--task-plugin`` takes, by default the model's own, of several the first. Returns a row a data
    set, with the task's metrics: ``table.rows[0].values["mae"]``; ``print(table)`` shows all. Raises a `FocusError` for what can be mended.
    """
    from ..inference.model import Model, load

    measured = model if isinstance(model, Model) else load(model, device=device)
    chosen = registry().find_task(task).get() if task else _task_named(measured.task)
    if chosen and len(measured.tasks) > 1:
        measured = measured.for_task(chosen.name)
    references = [data] if isinstance(data, str | PathLike) else list(data)
    root = Path(data_root) if data_root else None
    sections = [
        measure_model(measured, fspath(reference), task=chosen, data_root=root, protocol=protocol, batch_size=batch_size)
        for reference in references
    ]
    return tables([section.evaluation for section in sections], chosen.metrics if chosen else METRICS)[0]


def measure_model(
    model: Model,
    reference: str,
    *,
    task: Task | None,
    data_root: Path | None = None,
    protocol: str = "standard",
    batch_size: int = 8,
    size: int | None = None,
    keep_scores: bool = False,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> Section:
    """One data set by its reference. Practice images have `size` pixels a side, by default as many as the network's input; `on_done` is
    told how many images are measured, of how many."""
    from .report import section_of_model
    from .samples import find_samples, published_figures
    from .scoring import evaluate_model

    samples = find_samples(reference, task=task, root=data_root, size=size or model.config.preprocessing.size)
    done = 0

    def count(name: str) -> None:
        nonlocal done
        done += 1
        on_done(done, len(samples))

    evaluation = evaluate_model(
        model,
        samples,
        data=reference,
        protocol=protocol,
        published=published_figures(reference, task),
        batch_size=batch_size,
        keep_scores=keep_scores,
        on_done=count,
    )
    return section_of_model(evaluation, model, samples)


def _task_named(name: str) -> Task | None:
    """The model's own task; None where its plugin is not installed: then all metrics are measured."""
    try:
        return registry().get("task", name)
    except PluginError:
        return None
