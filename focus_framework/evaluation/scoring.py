"""Predictions against masks: anybody's mask files, or a model over data sets.

Maps of a model are rounded to 8 bits, as its mask files are, so that a checkpoint and the files it wrote get the same numbers. No
map is kept: memory does not grow with the number of images, but for the numbers of each image where they are asked for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..plugin.interfaces import METRICS
from ..runtime import allowed_processors
from .errors import Errors
from .levels import Levels, Look
from .metrics import CURVES, Totals, compute
from .samples import Grey, Mask, Predicted, Sample
from .tables import OWN

if TYPE_CHECKING:
    from ..inference.model import Model
    from ..inference.result import Result


@dataclass(frozen=True)
class Score:
    """The numbers of one image; NaN where one is undefined."""

    name: str
    values: Mapping[str, float]
    area: float = math.nan
    """Share of the image that is foreground."""
    errors: Errors | None = None
    """Where its map is wrong."""


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one data set by one protocol."""

    data: str
    count: int
    """Images."""
    protocol: str
    metrics: Mapping[str, float]
    """Over all images; NaN where no image defines it."""
    undefined: Mapping[str, int]
    """Images for which a metric is undefined, which are left out of its mean; names without any are left out."""
    curves: Mapping[str, Sequence[float]]
    """Mean precision, recall, F-beta and E at the thresholds 255, 254, ..., 0."""
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Figures of others; all that are known were made by the protocol ``release``."""
    scores: tuple[Score, ...] = ()
    """Those of each image, where they were asked for."""
    levels: Levels | None = None
    """What the levels of all maps say, where the scores of each image were asked for."""
    source: str = OWN
    """Whose maps these are."""
    resized: int = 0
    """Maps that had another size than their mask."""
    missing: int = 0
    """Masks without a map."""
    missing_as: str = ""
    """What became of these: ``skip`` or ``zero``."""
    surplus: int = 0
    """Maps without a mask, which were left out."""

    @property
    def label(self) -> str:
        """The data set, and whose maps these are where that is not clear."""
        return self.data if self.source == OWN else f"{self.source}, {self.data}"

    @property
    def stamp(self) -> tuple[str, ...]:
        """What was done to the maps before they were measured, for the protocol."""
        zero = self.missing_as == "zero"
        notes = [
            (self.resized, "maps resized to their masks, bilinearly"),
            (self.missing, "masks without a map count as maps of zeros" if zero else "masks without a map left out"),
            (self.surplus, "maps without a mask left out"),
        ]
        of = "" if self.source == OWN else f"{self.source}: "
        return tuple(f"{of}{number} {what}" for number, what in notes if number)

    def as_json(self) -> dict[str, Any]:
        """What ``focus evaluate --json`` prints for it."""
        return {
            "data": self.data,
            "source": self.source,
            "count": self.count,
            "protocol": self.protocol,
            "metrics": dict(self.metrics),
            "undefined": dict(self.undefined),
            "resized": self.resized,
            "missing": {"count": self.missing, "as": self.missing_as},
            "surplus": self.surplus,
            "published": {"protocol": "release", "figures": dict(self.published)} if self.published else {},
        }


def evaluate_files(
    predicted: Sequence[Predicted],
    *,
    data: str,
    protocol: str = "standard",
    published: Mapping[str, Mapping[str, float]] | None = None,
    keep_scores: bool = False,
    on_done: Callable[[str], None] = lambda name: None,
) -> Evaluation:
    """Grey mask files against masks, on all cores. Raises `DataError` for a file that cannot be read, or that has not the size of its
    mask and must not be resized."""
    resized: list[str] = []

    def read(one: Predicted) -> tuple[Grey, Mask]:
        level, mask, was_resized = one.read_as_it_is()
        if was_resized:
            resized.append(one.name)  # threads may append side by side
        return level, mask

    jobs = ((one.name, partial(_score, partial(read, one), protocol, keep_scores)) for one in predicted)
    workers = allowed_processors()
    with _one_thread_each(), ThreadPoolExecutor(workers) as pool:
        evaluation = _collect(_in_order(pool, jobs, 2 * workers), data, protocol, published, keep_scores, on_done)
    return replace(evaluation, resized=len(resized))


def evaluate_model(
    model: Model,
    samples: Sequence[Sample],
    *,
    data: str,
    protocol: str = "standard",
    published: Mapping[str, Mapping[str, float]] | None = None,
    batch_size: int = 8,
    keep_scores: bool = False,
    on_done: Callable[[str], None] = lambda name: None,
) -> Evaluation:
    """A model's maps at source size against the masks of a data set; while it works on the next images, the last ones are measured.

    Raises `DataError` for an image or mask that cannot be read, or where their sizes differ.
    """

    def jobs() -> Iterator[Job]:
        results = model.stream((sample.read_image() for sample in samples), batch_size=batch_size)
        for sample, result in zip(samples, results, strict=True):
            yield sample.name, partial(_score, partial(_with_mask, sample, as_levels(result, protocol)), protocol, keep_scores)

    with ThreadPoolExecutor(2) as pool:
        return _collect(_in_order(pool, jobs(), 2 * batch_size), data, protocol, published, keep_scores, on_done)


def as_levels(result: Result, protocol: str) -> Grey:
    """A model's map as its file has it, 0..255: the grey one, or, for the protocol ``release``, the binary one."""
    return np.rint((result.mask if protocol == "release" else result.probability) * np.float32(255)).astype(np.uint8)


def measure(level: Grey, mask: Mask, metrics: Sequence[str] = METRICS, *, protocol: str = "standard") -> dict[str, Tensor]:
    """The numbers of one map `[H, W]` of levels 0..255, for `Totals.add`."""
    given = torch.from_numpy(level)
    if level.max() <= 1:  # a file of nothing but 0 and 1 is a nearly black map here, not a binary one, as `compute` would have it
        given = given.double() / 255
    return compute(given, torch.from_numpy(mask), metrics, protocol=protocol, curves=True)


def _with_mask(sample: Sample, level: Grey) -> tuple[Grey, Mask]:
    return level, sample.read_mask((level.shape[0], level.shape[1]))


Measured: TypeAlias = "tuple[dict[str, Tensor], Look | None]"
Job: TypeAlias = "tuple[str, Callable[[], Measured]]"


def _score(read: Callable[[], tuple[Grey, Mask]], protocol: str, look: bool) -> Measured:
    level, mask = read()
    return measure(level, mask, protocol=protocol), Look.at(level, mask) if look else None


def _in_order(pool: ThreadPoolExecutor, jobs: Iterable[Job], ahead: int) -> Iterator[tuple[str, Measured]]:
    """The results of jobs in their order, at most `ahead` of them begun before they are wanted."""
    waiting: deque[tuple[str, Future[Measured]]] = deque()
    try:
        for name, job in jobs:
            waiting.append((name, pool.submit(job)))
            if len(waiting) >= ahead:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def _collect(
    results: Iterable[tuple[str, Measured]],
    data: str,
    protocol: str,
    published: Mapping[str, Mapping[str, float]] | None,
    keep_scores: bool,
    on_done: Callable[[str], None],
) -> Evaluation:
    total = Totals.of(METRICS)
    scores: list[Score] = []
    levels = Levels() if keep_scores else None
    for name, (values, look) in results:
        total.add(values)
        if levels and look:
            levels.add(look)
            scores.append(Score(name, {metric: float(values[metric]) for metric in METRICS}, look.area, look.errors))
        on_done(name)
    return Evaluation(
        data=data,
        count=int(total.images),
        protocol=protocol,
        metrics={name: float(value) for name, value in total.values().items()},
        undefined=total.undefined,
        curves=dict(zip(CURVES, total.mean_curves.tolist(), strict=True)),
        published=published or {},
        scores=tuple(scores),
        levels=levels,
    )


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Images side by side, each on one core: quicker than all cores on one image."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
