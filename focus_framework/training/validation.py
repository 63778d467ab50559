"""Scoring a model on pairs of image and mask, by the numbers that ``focus evaluate`` gives."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from ..data.dataset import Example
from ..errors import DataError
from ..evaluation.metrics import Totals
from ..evaluation.scoring import as_levels, measure
from ..inference.model import Model

logger = logging.getLogger(__name__)

PROTOCOL = "standard"


def score(
    model: Model, examples: Sequence[Example], metrics: Sequence[str], *, batch_size: int = 16, skip_unreadable: bool = False
) -> dict[str, float]:
    """Each metric over the examples, protocol `PROTOCOL`: NaN where none defines it. An image that cannot be read raises `DataError`,
    or is left out."""
    total = Totals.of(metrics)
    for start in range(0, len(examples), batch_size):
        indices = range(start, min(start + batch_size, len(examples)))
        batch = [example for _, example in readable(examples, indices, skip=skip_unreadable)]
        results = model.predict([image for image, _ in batch], batch_size=batch_size)
        for (_, truth), result in zip(batch, results, strict=True):
            total.add(measure(as_levels(result, PROTOCOL), truth, metrics, protocol=PROTOCOL))
    return {name: float(value) for name, value in total.values().items()}


def readable(examples: Sequence[Example], indices: Iterable[int], *, skip: bool) -> Iterator[tuple[int, Example]]:
    """The examples at `indices` with their numbers; one that cannot be read raises `DataError`, or is left out."""
    for index in indices:
        try:
            yield index, examples[index]
        except DataError as error:
            if not skip:
                raise
            logger.warning("left out: %s", error)
