"""What a run trains on, watches and is finally tested on: pairs on disk, or practice images, of one task or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..config.schema import RunConfig
from ..data.augment import Augmentation
from ..data.dataset import Images, JointSamples, PairImages, PracticeImages, TrainingSamples, batches
from ..data.pairs import training_pairs
from ..errors import ConfigError
from ..evaluation.baselines import baselines
from ..plugin.interfaces import Task
from ..plugin.kit.practice import Split
from .processes.team import Team
from .update import share_of_batch

PRACTICE = "practice"
PRACTICE_ASIDE = 64
"""Practice images in the validation and in the test part each."""
PRACTICE_SEEN = 128
"""Training images from which baselines take their thresholds."""


@dataclass(frozen=True)
class TaskData:
    """Validation decides which checkpoint is the best; nothing is chosen by the test images, which only practice images have."""

    task: Task
    samples: TrainingSamples
    validation: Images | None
    test: Images | None

    @property
    def summary(self) -> str:
        """How much there is, for the log."""
        aside = f", {len(self.validation)} for validation" if self.validation else ", none for validation"
        test = f", {len(self.test)} for the test" if self.test else ""
        return f"{len(self.samples.images)} images{aside}{test}"

    def baselines(self) -> dict[str, float]:
        """The primary metric of non-learned baselines on the test images, where the run draws its images itself."""
        if self.test is None:
            return {}
        return dict(baselines(self.samples.images[:PRACTICE_SEEN], self.test[:], self.task.primary_metric))


@dataclass(frozen=True)
class RunData:
    """Those of each task of a run, by its name, and the samples that are mixed of them."""

    parts: Mapping[str, TaskData]
    samples: JointSamples

    @property
    def summary(self) -> str:
        """As `TaskData.summary`, by task where there are several."""
        told = [f"{name}: {part.summary}" if len(self.parts) > 1 else part.summary for name, part in self.parts.items()]
        return "; ".join(told)

    @property
    def validation_count(self) -> int:
        return sum(len(part.validation or ()) for part in self.parts.values())

    def batches(self, config: RunConfig, team: Team, *, first_step: int, device: torch.device) -> Iterator[dict[str, Any]]:
        """This process's shares of the batches of the steps from `first_step` on, without end."""
        return batches(
            self.samples,
            batch_size=share_of_batch(config, team.size),
            first_step=first_step,
            workers=config.data.workers,
            rank=team.rank,
            processes=team.size,
            pin_memory=device.type == "cuda",
            skip_unreadable=config.data.unreadable == "skip",
        )


def load_data(config: RunConfig, tasks: Sequence[Task], *, shots: int = 0) -> RunData:
    """The data of each task, and `shots` examples with each sample. Raises `DataError` where there is nothing to train on, `ConfigError`
    where the data of a task are not said."""
    names = [task.name for task in tasks]
    train = by_task(config.data.train, names, "data.train")
    validation = by_task(config.data.validation, names, "data.validation") if config.data.validation else dict.fromkeys(names, "")
    parts = {task.name: _load_one(config, task, train[task.name], validation[task.name]) for task in tasks}
    first = len(config.conditioner.kept)
    samples = JointSamples([part.samples for part in parts.values()], config.data.shares, first_task=first, shots=shots)
    return RunData(parts, samples)


def by_task(reference: str, names: Sequence[str], setting: str) -> dict[str, str]:
    """What ``--data`` says of each task: ``shadow=folder,salient=practice``, or one reference for all of them. Raises `ConfigError` that
    names the task that nothing is said of."""
    found: dict[str, str] = {}
    for part in reference.split(","):
        name, equals, value = part.partition("=")
        if equals and name.strip() in names:
            last = name.strip()
            if last in found:
                raise ConfigError(f"{setting} = {reference!r} says twice what task {last} has; say it once")
            found[last] = value
        elif found:
            found[last] += f",{part}"  # an option of the data of the task before it
        else:
            return dict.fromkeys(names, reference)
    if missing := [name for name in names if not found.get(name)]:
        raise ConfigError(f"{setting} = {reference!r} says nothing of task {missing[0]}; add {missing[0]}=DATA, or {missing[0]}=practice")
    return found


def _load_one(config: RunConfig, task: Task, train: str, validation: str) -> TaskData:
    data, seed, size = config.data, config.training.seed, config.preprocessing.size
    augmentation = Augmentation.of_task(data.augmentation, size, task, stretched=config.preprocessing.resize == "square")
    if train == PRACTICE:

        def practice(split: Split, count: int) -> PracticeImages:
            return PracticeImages(task, count, size=size, split=split, seed=seed)

        samples = TrainingSamples(practice("train", data.practice_count), augmentation, seed=seed)
        aside_count = min(PRACTICE_ASIDE, data.validation_limit)
        return TaskData(task, samples, practice("validation", aside_count), practice("test", aside_count))
    pairs, aside = training_pairs(train, validation, share=data.validation_share, seed=seed, task=task, root=data.root or None)
    samples = TrainingSamples(PairImages(pairs), augmentation, seed=seed)
    return TaskData(task, samples, PairImages(aside[: data.validation_limit]) if aside else None, None)
