"""Training from a program: what ``focus train`` does, without a command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from ..config.names import by_path
from ..config.schema import RunConfig
from ..errors import FocusError
from ..inference.model import Model, load
from .loop import Progress
from .plan import plan
from .record.summary import Summary
from .run import train as run

Place = str | PathLike[str]


@dataclass(frozen=True)
class Run:
    """A training run that has come to its end."""

    summary: Summary

    @property
    def folder(self) -> Path:
        """Everything that the run has left."""
        return self.summary.folder

    @property
    def best(self) -> Path:
        """The checkpoint with the best score of the task's primary metric."""
        return self.summary.best

    @property
    def scores(self) -> Mapping[str, float]:
        """Those of the best checkpoint on the validation images."""
        return self.summary.validation

    @property
    def report(self) -> Path:
        """A page on the run."""
        return self.summary.report

    @cached_property
    def model(self) -> Model:
        """The best checkpoint, loaded."""
        return load(self.best)


def train(
    task: str | None = None,
    *,
    data: Place | None = None,
    init: Place | None = None,
    minutes: float | None = None,
    out: Place | None = None,
    preset: str | None = None,
    config: Place | None = None,
    resume: Place | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    **settings: Any,
) -> Run:
    """Train as ``focus train`` does, with the same defaults.

    Args:
        task: what ``--task-plugin`` takes, several with commas between them; not needed with `init`, `config` or `resume`, which know it.
        data: a folder with ``images`` and ``masks``, a known data set, ...; without it, practice images of the task.
        init: a checkpoint to start from: a file, ``hf://owner/name``, or a known name.
        minutes: length of the run; the schedule follows it.
        out: folder of the run; without it, a new one below ``runs``.
        preset: ``quick``, or with `init` ``finetune``, unless given.
        config: settings as TOML, as a run folder's ``config.toml`` has them.
        resume: the folder of a run to go on with.
        on_progress: called after every step.
        settings: any setting: an option's name (``batch_size=4``), or its path with two underscores for each dot
            (``training__weight_decay=0.1``).

    Raises a `FocusError` for what can be mended. Of several processes only the main one returns a `Run`; the others end.
    """
    options = {
        name: value if value is None or isinstance(value, int | float) else fspath(value)
        for name, value in {"data": data, "minutes": minutes}.items()
    }
    given = by_path({**{name: value for name, value in options.items() if value is not None}, **settings})
    resolved, entry = plan(
        task,
        preset=preset,
        file=Path(config) if config else None,
        options={**given, "init": fspath(init) if init else None},
        resume=Path(resume) if resume else None,
    )
    folder = resume or out
    summary = run(resolved, entry, Path(folder) if folder else None, resume=resume is not None, on_progress=on_progress)
    if summary is None:
        raise FocusError("this process only helped; the main one has the result")
    return Run(summary)


def configure(
    task: str | None = None, *, init: Place | None = None, preset: str | None = None, config: Place | None = None, **settings: Any
) -> RunConfig:
    """The configuration that `train` would use, for `build` and for a look at it. Arguments as those of `train`."""
    options = {**by_path(settings), "init": fspath(init) if init else None}
    return plan(task, preset=preset, file=Path(config) if config else None, options=options)[0].config
