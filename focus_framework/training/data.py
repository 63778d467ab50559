"""What a run trains on, watches and is finally tested on: pairs on disk, or practice images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..config.schema import RunConfig
from ..data.augment import Augmentation
from ..data.dataset import Images, PairImages, PracticeImages, TrainingSamples, batches
from ..data.pairs import training_pairs
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
class RunData:
    """Validation decides which checkpoint is the best; nothing is chosen by the test images, which only practice images have."""

    samples: TrainingSamples
    validation: Images | None
    test: Images | None

    @property
    def summary(self) -> str:
        """How much there is, for the log."""
        aside = f", {len(self.validation)} for validation" if self.validation else ", none for validation"
        test = f", {len(self.test)} for the test" if self.test else ""
        return f"{len(self.samples.images)} images{aside}{test}"

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

    def baselines(self, metric: str) -> dict[str, float]:
        """`metric` of non-learned baselines on the test images; practice images only, which are made so that it fails."""
        if self.test is None:
            return {}
        return baselines(self.samples.images[:PRACTICE_SEEN], self.test[:], metric)


def load_data(config: RunConfig, task: Task) -> RunData:
    """Raises `DataError` where there is nothing to train on."""
    data, seed, size = config.data, config.training.seed, config.preprocessing.size
    augmentation = Augmentation.of_task(data.augmentation, size, task)
    if data.train == PRACTICE:

        def practice(split: Split, count: int) -> PracticeImages:
            return PracticeImages(task, count, size=size, split=split, seed=seed)

        samples = TrainingSamples(practice("train", data.practice_count), augmentation, seed=seed)
        aside_count = min(PRACTICE_ASIDE, data.validation_limit)
        return RunData(samples, practice("validation", aside_count), practice("test", aside_count))
    train, aside = training_pairs(data.train, data.validation, share=data.validation_share, seed=seed, task=task, root=data.root or None)
    samples = TrainingSamples(PairImages(train), augmentation, seed=seed)
    return RunData(samples, PairImages(aside[: data.validation_limit]) if aside else None, None)
