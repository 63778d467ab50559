"""The vectors of a run's tasks where they are not learned: out of sentences before the first step, out of examples whenever it saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..inference.model import Model
from ..plugin.interfaces import Prompts, ReadsExamples, ReadsPrompts
from .data import RunData
from .validation import readable


def shots(model: Model) -> int:
    """How many examples each training image brings along."""
    config = model.config
    return 0 if config.trains_vectors_alone or not isinstance(model.network.conditioner, ReadsExamples) else config.conditioner.shots


@torch.no_grad()
def read_prompts(model: Model, prompts: Mapping[str, Sequence[Prompts]]) -> None:
    """Fill in the vectors of these tasks where the conditioner reads sentences. Raises `WeightsError` where it cannot."""
    conditioner, tasks = model.network.conditioner, model.config.known_tasks
    if prompts and isinstance(conditioner, ReadsPrompts):
        read = conditioner.prompt_vectors([tuple(pairs) for pairs in prompts.values()])
        for name, vectors in zip(prompts, read, strict=True):
            model.network.vectors[tasks.index(name)] = vectors


@torch.no_grad()
def read_examples(model: Model, data: RunData) -> None:
    """Fill in the vectors of a run's tasks where the conditioner reads examples: training images, evenly out of all."""
    if not isinstance(model.network.conditioner, ReadsExamples):
        return
    for name, part in data.parts.items():
        images = part.samples.images
        chosen = np.linspace(0, len(images) - 1, min(model.config.conditioner.examples, len(images))).round().astype(int)
        skip = model.config.data.unreadable == "skip"
        vectors = model.example_vectors([example for _, example in readable(images, chosen.tolist(), skip=skip)])
        model.network.vectors[model.config.known_tasks.index(name)] = vectors
