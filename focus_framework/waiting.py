"""How OpenMP's threads wait for one another: spinning while they have the processors to themselves, sleeping while others need them too.

On an idle machine spinning is the quicker way: a thread that has to be woken costs a third of a training step and two thirds of a
prediction. Beside a single busy neighbour it is the slower one, by a factor of ten and more: a thread that spins burns the time slice of
the one that it waits for (`benchmarks/busy.py`). libgomp reads how long to spin when it is loaded, and never again; but while a process has
more OpenMP threads than processors it spins a hundred rounds in place of 300,000 (its manual, under GOMP_SPINCOUNT). So there is a
`Crowd` of idle threads as long as the machine is busy. The threads that work, and with them all results, stay the same.

Nothing here imports torch.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .runtime import scheduled

STAT = Path("/proc/stat")
PERIOD = 0.2
"""Seconds between two looks; the machine is busy where two in a row say so."""
BUSY, CALM = 0.35, 0.2
"""Processors that other processes use, above and below which the machine is busy and calm. In between it is what it was."""
WAITS, PREFERRED = 0.15, 0.05
"""Shares of the time that a thread of this process has to wait for a processor. Where none waits for the first, others take only what is
left over; the second is so little that this process goes before them."""
LARGE = 0.01
"""On large machines, where there is always something going on, this share of all processors more."""
PATIENCE, MOST = 2.0, 16.0
"""Seconds of calm before the threads spin again; twice as many, up to the second figure, where they had to stop again at once."""
GRAIN = 1 << 15
"""Elements for which torch employs one more thread."""


@dataclass(frozen=True)
class Used:
    """Processor seconds."""

    everybody: float
    """Of all processes, on the processors that this one may use."""
    own: float
    waited: Mapping[str, float]
    """How long each thread of this process could have run, but had to wait."""
    moment: float
    """On a clock."""

    def since(self, before: Used) -> tuple[float, float]:
        """Processors that other processes used in between, and the share of that time for which the longest waiting thread waited."""
        seconds = max(self.moment - before.moment, 1e-9)
        others = self.everybody - before.everybody - (self.own - before.own)
        waited = max((now - before.waited.get(thread, now) for thread, now in self.waited.items()), default=0.0)
        return others / seconds, waited / seconds


def used(but: frozenset[str] = frozenset()) -> Used | None:
    """What has been used so far; None where the system does not say. Threads in `but` may wait as long as they like."""
    waited = {thread: times[1] / 1e9 for thread, times in scheduled().items() if thread not in but}
    try:
        lines = STAT.read_text().splitlines()
        tick, mine = os.sysconf("SC_CLK_TCK"), {f"cpu{number}" for number in os.sched_getaffinity(0)}
    except (OSError, AttributeError):
        return None
    rows = [line.split() for line in lines if line.partition(" ")[0] in mine]
    # user, nice, system, irq, softirq and steal; idle and waiting for a disk are no use
    ticks = sum(int(row[place]) for row in rows for place in (1, 2, 3, 6, 7, 8) if place < len(row))
    return Used(ticks / tick, time.process_time(), waited, time.monotonic()) if rows and waited else None


def loaded_torch() -> Any | None:
    """torch, where the program has loaded it and it is ready."""
    torch = sys.modules.get("torch")
    return None if torch is None or getattr(torch.__spec__, "_initializing", False) else torch


class Crowd(threading.Thread):
    """More OpenMP threads than there are processors; all of them sleep."""

    def __init__(self) -> None:
        super().__init__(name="focus-crowd", daemon=True)
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while True:  # again and again: whoever asks torch for another number of threads shrinks this thread's team too
            if torch := loaded_torch():
                torch.ones(GRAIN * torch.get_num_threads()).add_(1)
            if self._over.wait(1.0):
                return

    def end(self) -> None:
        """Let the threads go. libgomp takes them off its count as this thread ends."""
        self._over.set()
        self.join()


class Watch(threading.Thread):
    """Looks `PERIOD` by `PERIOD` whether the machine is busy, and keeps a `Crowd` as long as it is."""

    def __init__(self, processors: int) -> None:
        super().__init__(name="focus-watch", daemon=True)
        self.crowd: Crowd | None = None
        self._over = threading.Event()
        self._margin = LARGE * processors
        self._looked_busy = False
        self._calm_since: float | None = None
        self._ended = -MOST
        self._patience = PATIENCE

    def run(self) -> None:
        before = used()
        while not self._over.wait(PERIOD):
            own = frozenset(str(thread.native_id) for thread in (self, self.crowd) if thread)
            if before and (now := used(own)):
                self.look(*now.since(before), now.moment)
                before = now
        if self.crowd:
            self.crowd.end()

    def look(self, others: float, waited: float, moment: float) -> None:
        """Take in `Used.since` of the last period, which ended at this moment."""
        if self.crowd is None:
            before, self._looked_busy = self._looked_busy, others > BUSY + self._margin and waited > WAITS
            if before and self._looked_busy and loaded_torch():
                again = moment - self._ended < self._patience
                self._patience = min(MOST, 2 * self._patience) if again else PATIENCE
                self.crowd, self._calm_since, self._looked_busy = Crowd(), None, False
        elif others > CALM + self._margin and waited > PREFERRED:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = moment
        elif moment - self._calm_since >= self._patience:
            self.crowd.end()
            self.crowd, self._ended = None, moment

    def end(self) -> None:
        """Stop looking."""
        self._over.set()
        self.join()


_watch: Watch | None = None


def watch(processors: int) -> bool:
    """Watch from now on, once in a process that uses so many processors. False where the system does not say what others use."""
    global _watch
    if _watch is None and used():
        _watch = Watch(processors)
        _watch.start()
        atexit.register(_end)
    return _watch is not None


def _end() -> None:
    """No thread of ours may be inside torch while Python ends."""
    global _watch
    if _watch is not None:
        _watch.end()
        _watch = None


def _forget() -> None:
    """A forked process has this variable, but not the thread."""
    global _watch
    _watch = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
