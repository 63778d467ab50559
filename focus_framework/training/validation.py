"""Scoring a model on pairs of picture and mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..data.dataset import Example
from ..metrics import compute
from ..predict import Model


def score(model: Model, examples: Sequence[Example], metrics: Sequence[str], *, batch_size: int = 16) -> dict[str, float]:
    """Mean of each metric (protocol ``standard``) over the examples for which it is defined; NaN where it is for none."""
    totals = dict.fromkeys(metrics, 0.0)
    counts = dict.fromkeys(metrics, 0)
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        results = model.predict([image for image, _ in batch], batch_size=batch_size)
        probabilities = [torch.from_numpy(result.probability) for result in results]
        values = compute(probabilities, [torch.from_numpy(truth) for _, truth in batch], metrics)
        for metric in metrics:
            defined = values[metric][values[metric].isfinite()]
            totals[metric] += float(defined.sum())
            counts[metric] += len(defined)
    return {metric: totals[metric] / counts[metric] if counts[metric] else float("nan") for metric in metrics}
