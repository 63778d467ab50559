"""Scoring a model on pairs of picture and mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ..metrics import compute
from ..predict import Model, Result

Truth: TypeAlias = NDArray[np.bool_]
Pairs: TypeAlias = Sequence[tuple[NDArray[np.uint8], Truth]]


def batches(items: Iterable[tuple[NDArray[np.uint8], Truth]], size: int) -> Iterable[list[tuple[NDArray[np.uint8], Truth]]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def score(model: Model, pairs: Iterable[tuple[NDArray[np.uint8], Truth]], metrics: Sequence[str], *, batch_size: int = 16) -> dict[str, float]:
    """Mean of each metric over the pairs for which it is defined (protocol ``standard``); NaN where it is for none."""
    totals = dict.fromkeys(metrics, 0.0)
    counts = dict.fromkeys(metrics, 0)
    was_training = model.training
    for batch in batches(pairs, batch_size):
        results = model.predict([image for image, _ in batch], batch_size=batch_size)
        values = compute([torch.from_numpy(r.probability) for r in results], [torch.from_numpy(truth) for _, truth in batch], metrics)
        for metric in metrics:
            defined = values[metric][values[metric].isfinite()]
            totals[metric] += float(defined.sum())
            counts[metric] += len(defined)
    model.train(was_training)
    return {metric: totals[metric] / counts[metric] if counts[metric] else float("nan") for metric in metrics}


def predictions(model: Model, pairs: Pairs) -> list[Result]:
    """Results of all the pictures."""
    was_training = model.training
    results = model.predict([image for image, _ in pairs])
    model.train(was_training)
    return results
