"""Samples to train on. A sample has a number, counted from the start of the run, and everything about it follows from that.

Sample `n` of a run on `count` images is image `order(n // count)[n % count]`: each pass over the data has an order of its
own, drawn from (seed, pass); what augmentation does is drawn from (seed, n). Step `s` of a run with batches of `b` takes the
samples ``s * b`` to ``(s + 1) * b``. So neither workers nor processes nor a restart change what a step sees:

    samples = TrainingSamples(PairImages(pairs), Augmentation.of_task("plain", 128, task), seed=0)
    for batch in batches(samples, batch_size=8, first_step=500): ...

Of several tasks each has such samples, and a schedule says of which one sample `n` is, and the how manyth of it: `JointSamples`.
"""

from __future__ import annotations

import math
import signal
import sys
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import count
from typing import Any, NotRequired, Protocol, TypeAlias, TypedDict, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from ..errors import ConfigError, DataError, FocusError, PluginError
from ..files.images import ImageArray
from ..plugin.calls import reason
from ..plugin.interfaces import Task
from ..plugin.kit import practice
from ..plugin.registry import registry
from ..runtime import allowed_processors
from .augment import Augmentation
from .pair import Pair

Example: TypeAlias = tuple[ImageArray, NDArray[np.bool_]]
"""An image `[H, W, 3]` uint8 RGB and its mask `[H, W]` bool."""

CACHE_BYTES = 1 << 30
"""Decoded images are kept in memory up to this size, divided among workers; the others are read each time."""
UNREADABLE_IN_A_ROW = 100
"""So many images that cannot be read, one after the other, are too many to skip."""
RELAYED = (DataError, PluginError, ConfigError)
"""Errors that keep their kind, and so their exit code, on the way from a worker."""
ORDER, SAMPLE, SHOTS = 0, 1, 2
"""Streams of chance: the order of a pass, the augmentation of a sample, the examples that it brings along."""
FINEST = 1000
"""Shares of tasks are taken as fractions of at most this denominator."""


class Sample(TypedDict):
    """What a batch is put together from."""

    image: Tensor
    """`[3, S, S]` float32 RGB in 0..1; a network normalises it."""
    mask: Tensor
    """`[S, S]` uint8: 0 background, 1 foreground, 255 ignore."""
    name: str
    task: NotRequired[int]
    """Its number among the tasks of a network."""
    example_images: NotRequired[Tensor]
    """`[N, 3, S, S]` as `image`: other images of the task, with `example_masks` `[N, S, S]`."""
    example_masks: NotRequired[Tensor]


class Images(Sequence[Example]):
    """Images with masks, read when they are asked for, kept as far as there is room."""

    def __init__(self, names: Sequence[str], *, cache_bytes: int = CACHE_BYTES) -> None:
        self.names = tuple(names)
        self._cache_bytes = cache_bytes
        self._kept: dict[int, Example] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        if index in self._kept:
            return self._kept[index]
        image, mask = example = self.read(index)
        workers = info.num_workers if (info := get_worker_info()) else 1
        if self._kept_bytes + image.nbytes + mask.nbytes <= self._cache_bytes // workers:
            self._kept[index] = example
            self._kept_bytes += image.nbytes + mask.nbytes
        return example

    @abstractmethod
    def read(self, index: int) -> Example:
        """Read or make one."""


class PairImages(Images):
    """Those of files. Reading one raises `DataError` where it or its mask cannot be used."""

    def __init__(self, pairs: Sequence[Pair], *, cache_bytes: int = CACHE_BYTES) -> None:
        super().__init__([pair.name for pair in pairs], cache_bytes=cache_bytes)
        self.pairs = tuple(pairs)

    def read(self, index: int) -> Example:
        return self.pairs[index].read()


class PracticeImages(Images):
    """The first `count` practice images of a task's split, `size` x `size`."""

    def __init__(
        self, task: Task, count: int, *, size: int, split: practice.Split = "train", seed: int = 0, cache_bytes: int = CACHE_BYTES
    ) -> None:
        super().__init__([f"{task.name}-{split}-{index:05d}" for index in range(count)], cache_bytes=cache_bytes)
        self.task, self.size, self.split, self.seed = task, size, split, seed

    def read(self, index: int) -> Example:
        return practice.practice_pair(self.task, seed=self.seed, split=self.split, index=index, size=self.size)

    def __getstate__(self) -> dict[str, Any]:
        """With what finds the task again: a process that is not forked knows nothing of a file that this one has imported."""
        return vars(self) | {"task": registry().reference_of(self.task) or self.task}

    def __setstate__(self, state: dict[str, Any]) -> None:
        task = state["task"]
        vars(self).update(state, task=registry().find_task(task).get() if isinstance(task, str) else task)


class TrainingSamples(Dataset[Sample]):
    """The samples of a run by their number; there is no last one."""

    def __init__(self, pictures: Images, augmentation: Augmentation, *, seed: int) -> None:
        self.images, self.augmentation, self.seed = pictures, augmentation, seed
        self._pass, self._order = -1, np.empty(0, np.int64)

    def __getitem__(self, number: int) -> Sample:
        """Raises `DataError` where the image or its mask cannot be used."""
        index = self.index(number)
        pixels, label = self._drawn(index, np.random.default_rng([self.seed, SAMPLE, number]))
        return {"image": pixels, "mask": label, "name": self.images.names[index]}

    def _drawn(self, index: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        image, mask = self.images[index]
        pixels, label = self.augmentation(torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask), random)
        return pixels.float() / 255, label

    def examples(self, number: int, shots: int) -> tuple[Tensor, Tensor]:
        """Images `[shots, 3, S, S]` and masks `[shots, S, S]` for sample `number`, which is none of them where there are others."""
        random = np.random.default_rng([self.seed, SHOTS, number])
        others = np.delete(np.arange(len(self.images)), self.index(number)) if len(self.images) > 1 else np.zeros(1, np.int64)
        chosen = random.choice(others, shots, replace=len(others) < shots)
        images, masks = zip(*(self._drawn(int(index), random) for index in chosen), strict=True)
        return torch.stack(images), torch.stack(masks)

    def name(self, number: int) -> str:
        """What the image of sample `number` is called."""
        return self.images.names[self.index(number)]

    def index(self, number: int) -> int:
        """Which image sample `number` shows."""
        done, place = divmod(number, len(self.images))
        if done != self._pass:
            self._order = np.random.default_rng([self.seed, ORDER, done]).permutation(len(self.images))
            self._pass = done
        return int(self._order[place])


class Numbered(Protocol):
    """Samples by their number, without a last one."""

    def __getitem__(self, number: int) -> Sample: ...
    def name(self, number: int) -> str: ...


class JointSamples:
    """The samples of a run of one task or several, mixed by their shares.

    Within each period of the schedule every task has its exact share, and at no place is one more than a sample ahead of it.
    """

    def __init__(self, parts: Sequence[TrainingSamples], shares: Sequence[float] = (), *, first_task: int = 0, shots: int = 0) -> None:
        """`parts` are the tasks' own samples, `shares` how many of each are drawn (empty: as many of each). `first_task` is the number of
        the first among the tasks that the network knows. `shots` examples come with each sample."""
        self.parts, self.first_task, self.shots = tuple(parts), first_task, shots
        self._order, self._before = _schedule(shares or [1.0] * len(parts))

    def place(self, number: int) -> tuple[int, int]:
        """The part that sample `number` is of, and its number there."""
        periods, place = divmod(number, len(self._order))
        part = self._order[place]
        return part, periods * self._order.count(part) + self._before[place]

    def __getitem__(self, number: int) -> Sample:
        """Raises `DataError` where the image or its mask cannot be used."""
        part, own = self.place(number)
        sample = self.parts[part][own]
        sample["task"] = self.first_task + part
        if self.shots:
            sample["example_images"], sample["example_masks"] = self.parts[part].examples(own, self.shots)
        return sample

    def name(self, number: int) -> str:
        """What the image of sample `number` is called."""
        part, own = self.place(number)
        return self.parts[part].name(own)

    def __len__(self) -> int:
        """Images of all parts; samples have no end."""
        return sum(len(part.images) for part in self.parts)


def _schedule(shares: Sequence[float]) -> tuple[list[int], list[int]]:
    """A period of the parts in turn, each time the one that is farthest behind its share; and for each place how many of its part came
    before it."""
    fractions = [Fraction(share).limit_denominator(FINEST) for share in shares]
    wanted = [fraction / sum(fractions) for fraction in fractions]
    length = math.lcm(*(share.denominator for share in wanted))
    order: list[int] = []
    before: list[int] = []
    counts = [0] * len(shares)
    for place in range(length):
        part = max(range(len(shares)), key=lambda one: wanted[one] * (place + 1) - counts[one])
        order.append(part)
        before.append(counts[part])
        counts[part] += 1
    return order, before


class _Numbers:
    """The numbers of each batch from a step on; process `rank` of `processes` takes its share of a step."""

    def __init__(self, batch_size: int, first_step: int, rank: int, processes: int) -> None:
        self.batch_size, self.first_step, self.rank, self.processes = batch_size, first_step, rank, processes

    def __iter__(self) -> Iterator[list[int]]:
        for step in count(self.first_step):
            start = (step * self.processes + self.rank) * self.batch_size
            yield list(range(start, start + self.batch_size))


class _Batches(Dataset[Any]):
    """Whole batches by their sample numbers, or the error that one met, as a value: raised in a worker, it would reach the user inside
    that worker's traceback, and one that no pickle takes would never arrive, while the parent waits."""

    def __init__(self, samples: Numbered, *, skip_unreadable: bool) -> None:
        self.samples, self.skip_unreadable = samples, skip_unreadable

    def __getitem__(self, numbers: list[int]) -> Any:
        skipped: list[tuple[str, str]] = []
        try:
            return {**default_collate([self._sample(number, skipped) for number in numbers]), "skipped": skipped}
        except FocusError as error:
            return type(error)(str(error)) if type(error) in RELAYED else FocusError(str(error))
        except Exception as error:
            if get_worker_info() is None or isinstance(error, MemoryError):
                raise
            return FocusError(f"an image could not be prepared: {reason(error)}")

    def _sample(self, number: int, skipped: list[tuple[str, str]]) -> Sample:
        """Sample `number`, or the next one that can be read, so that a batch is never short; `skipped` gets names and reasons."""
        for attempt in range(UNREADABLE_IN_A_ROW):
            try:
                return self.samples[number + attempt]
            except DataError as error:
                if not self.skip_unreadable or attempt + 1 == UNREADABLE_IN_A_ROW:
                    raise
                skipped.append((self.samples.name(number + attempt), str(error)))
        raise AssertionError("unreachable")


FORK = "fork" if sys.platform == "linux" else None
"""How processes that read are started: with all that this one has imported, tasks from files included. What Linux did by itself up to
Python 3.13; elsewhere forking is not safe, and the system's own way is taken."""


def batches(
    samples: Numbered,
    *,
    batch_size: int,
    first_step: int = 0,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
    pin_memory: bool = False,
    skip_unreadable: bool = False,
) -> Iterator[dict[str, Any]]:
    """The batches of the steps from `first_step` on, without end: ``image [B, 3, S, S]``, ``mask [B, S, S]``, ``name`` (a list),
    ``task [B]`` of joint samples, with ``example_images [B, N, 3, S, S]`` and ``example_masks [B, N, S, S]`` where they bring some, and
    ``skipped``, (name, reason) of each image that could not be read and for which another one stands in.

    `batch_size` is that of one process. `workers` are the processes that read; -1 for as many as there are spare cores. Raises
    `DataError` where an image or its mask cannot be used, unless it is to be skipped, and where a worker dies.
    """
    numbers = _Numbers(batch_size, first_step, rank, processes)
    workers = spare_cores() if workers < 0 else workers
    own = torch.Generator()  # the loader would draw from the global stream, though nothing here depends on it
    loader = DataLoader(
        _Batches(samples, skip_unreadable=skip_unreadable),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        multiprocessing_context=FORK if workers else None,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals_to_the_parent,
        generator=own,
    )
    for batch in loader:
        if isinstance(batch, FocusError):
            raise batch
        yield batch


@contextmanager
def naming_dead_workers() -> Iterator[None]:
    """The error that torch raises, anywhere in the program, when a process that reads has died, as a `DataError`."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise DataError(
            f"a process that reads images has died ({str(error).splitlines()[0]}); the machine may be short of memory: "
            "use fewer by --set data.workers=1, or none by 0"
        ) from error


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C and a cluster's signals reach every process of a run; those that read go on until the run has finished its step."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def spare_cores(most: int = 8) -> int:
    """Cores that this process may use besides the one it runs on, at most `most`."""
    return min(allowed_processors() - 1, most)
