"""Reading, network and writing at the same time: threads decode the next images and encode the last ones while the network computes.

Decoders, encoders and the network leave Python's lock while they work. Each side may be ahead by so many bytes, whatever the number
of images.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from ...runtime import allowed_processors

Item = TypeVar("Item")
Read = TypeVar("Read")

AHEAD = 256 << 20
"""Bytes of decoded images that wait for the network, and of results that wait to be written."""
MOST_THREADS = 8


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """`size` items at a time; itertools has it from Python 3.12 on."""
    rest = iter(items)
    while block := list(islice(rest, size)):
        yield block


def threads() -> int:
    """Threads that read, and that write: one for each processor."""
    return min(MOST_THREADS, allowed_processors())


@dataclass
class Idle:
    """Seconds that the network had nothing to do."""

    reading: float = 0.0
    writing: float = 0.0


class Ahead(Generic[Item, Read]):
    """The results of a function on each of many items, in order, computed by threads some way ahead of whoever takes them."""

    def __init__(
        self, items: Iterable[Item], work: Callable[[Item], Read], pool: ThreadPoolExecutor, *, count: int, size: Callable[[Read], int]
    ) -> None:
        self._items, self._work, self._pool, self._count, self._size = iter(items), work, pool, count, size
        self._waiting: deque[tuple[Item, Future[Read]]] = deque()
        self.waited = 0.0
        """Seconds that the taker waited."""

    def __iter__(self) -> Iterator[tuple[Item, Read]]:
        self._fill()
        while self._waiting:
            item, future = self._waiting.popleft()
            begin = time.perf_counter()
            result = future.result()
            self.waited += time.perf_counter() - begin
            self._fill()
            yield item, result

    def _fill(self) -> None:
        """Start on more items, while few are at work and what is ready is not too large."""
        while len(self._waiting) < self._count:
            ready = [future for _, future in self._waiting if future.done()]
            if len(self._waiting) - len(ready) >= 2 * threads() or sum(_sized(self._size, future) for future in ready) > AHEAD:
                return
            item = next(self._items, None)
            if item is None:
                return
            self._waiting.append((item, self._pool.submit(self._work, item)))


def _sized(size: Callable[[Read], int], future: Future[Read]) -> int:
    return 0 if future.cancelled() or future.exception() else size(future.result())


class Behind(Generic[Item]):
    """Work of threads behind whoever gives it: `settle` is told of each item in the order given, when its work is done."""

    def __init__(self, pool: ThreadPoolExecutor, settle: Callable[[Item, BaseException | None], None]) -> None:
        self._pool, self._settle = pool, settle
        self._pending: deque[tuple[Item, Future[None] | BaseException, int]] = deque()
        self._bytes = 0
        self.waited = 0.0
        """Seconds that the giver waited."""

    def give(self, item: Item, work: Callable[[], None], size: int) -> None:
        """Let a thread do it; waits while too much is waiting."""
        begin = time.perf_counter()
        while self._pending and (self._bytes + size > AHEAD or len(self._pending) >= 4 * threads()):
            self._settle_first()
        self.waited += time.perf_counter() - begin
        self._pending.append((item, self._pool.submit(work), size))
        self._bytes += size
        self._settle_ready()

    def tell(self, item: Item, error: BaseException) -> None:
        """What has failed before there was any work, in its turn."""
        self._pending.append((item, error, 0))
        self._settle_ready()

    def finish(self) -> None:
        """Wait for all."""
        while self._pending:
            self._settle_first()

    def _settle_ready(self) -> None:
        while self._pending and (not isinstance(future := self._pending[0][1], Future) or future.done()):
            self._settle_first()

    def _settle_first(self) -> None:
        item, outcome, size = self._pending.popleft()
        self._bytes -= size
        self._settle(item, outcome.exception() if isinstance(outcome, Future) else outcome)
