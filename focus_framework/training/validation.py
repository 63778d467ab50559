"""Scoring a model on pairs of picture and mask."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import torch

from ..data.dataset import Example
from ..errors import DataError
from ..metrics import compute
from ..predict import Model

logger = logging.getLogger(__name__)


def score(
    model: Model, examples: Sequence[Example], metrics: Sequence[str], *, batch_size: int = 16, skip_unreadable: bool = False
) -> dict[str, float]:
    """Mean of each metric (protocol ``standard``) over the examples for which it is defined; NaN where it is for none. A picture that
    cannot be read raises `DataError`, or is left out."""
    totals = dict.fromkeys(metrics, 0.0)
    counts = dict.fromkeys(metrics, 0)
    for start in range(0, len(examples), batch_size):
        batch = list(readable(examples, range(start, min(start + batch_size, len(examples))), skip=skip_unreadable))
        results = model.predict([image for image, _ in batch], batch_size=batch_size)
        probabilities = [torch.from_numpy(result.probability) for result in results]
        values = compute(probabilities, [torch.from_numpy(truth) for _, truth in batch], metrics)
        for metric in metrics:
            defined = values[metric][values[metric].isfinite()]
            totals[metric] += float(defined.sum())
            counts[metric] += len(defined)
    return {metric: totals[metric] / counts[metric] if counts[metric] else float("nan") for metric in metrics}


def readable(examples: Sequence[Example], indices: range, *, skip: bool) -> Iterator[Example]:
    """The examples at `indices`; one that cannot be read raises `DataError`, or is left out."""
    for index in indices:
        try:
            yield examples[index]
        except DataError as error:
            if not skip:
                raise
            logger.warning("left out: %s", error)
