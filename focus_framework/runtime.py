"""What has to be settled, best before torch is loaded: how its threads wait for one another, how many there are, how memory is kept.

The ``focus`` command does this by itself. A program of one's own does it in one line, before its first ``import torch``:

    import focus_framework.runtime; focus_framework.runtime.prepare()

Nothing here imports torch or anything else that is heavy.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user says how OpenMP's threads wait; where one is set, nothing is changed."""
SPINS = 1000
"""Rounds that a thread spins at a barrier before it sleeps, where a process has fewer threads than processors, or where it cannot be
watched whether the machine is busy. libgomp's own 300,000 burn the time slice of the thread that is waited for wherever another process
needs a core."""
BUSY = 0.8
"""A process that gets less of the processor time that it wants runs on a busy machine."""
SHORT = 0.6
"""One that gets less than this cannot keep to a time budget."""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of glibc's <malloc.h>."""
KEEPING = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
"""Variables by which a user says how glibc keeps memory."""


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did."""

    waiting: str
    """How OpenMP's threads wait, and who decided it."""
    threads: int
    """Processors that this process may use."""
    torch_loaded: bool
    """True where torch was loaded before, so that its threads are as many as it has started, and spin where they are not watched."""


def prepare() -> Prepared:
    """Let OpenMP's threads sleep soon when they wait and other processes need the processors, spin when not, and start no more of them than
    there are processors to use.

    A thread watches for that (`focus_framework.waiting`). Where there are fewer threads than processors it would not help: then they always
    sleep soon, which is read, like the number of threads, when torch is loaded; a `RuntimeWarning` says so where that has happened
    already. What the environment sets (`WAITING`, OMP_NUM_THREADS) stays. Each process calls it for itself. May be called again.
    """
    from .waiting import watch

    threads, late = allowed_processors(), "torch" in sys.modules
    if not late:
        _settle(os.environ, threads)
    if given := next((f"{name}={os.environ[name]}" for name in WAITING if name in os.environ), None):
        return Prepared(given, threads, late)
    if _all_busy(os.environ, threads) and watch(threads):
        return Prepared("spinning, and sleeping soon while the machine is busy", threads, late)
    if late:
        warnings.warn(
            "torch is already loaded, so its threads keep spinning while they wait; call focus_framework.runtime.prepare() before "
            f"torch is imported, or start Python with GOMP_SPINCOUNT={SPINS}",
            RuntimeWarning,
            stacklevel=2,
        )
        return Prepared("libgomp's default", threads, late)
    os.environ["GOMP_SPINCOUNT"] = str(SPINS)
    return Prepared(f"GOMP_SPINCOUNT={SPINS}", threads, late)


def _settle(environment: MutableMapping[str, str], threads: int) -> None:
    # libgomp knows the affinity of the process by itself, but not what a cgroup grants it.
    if threads < _affinity():
        environment.setdefault("OMP_NUM_THREADS", str(threads))


def _all_busy(environment: Mapping[str, str], threads: int) -> bool:
    """Whether there are as many OpenMP threads as processors, or one alone, which waits for nobody."""
    given = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    wanted = int(given) if given.isdecimal() else threads
    return wanted == 1 or wanted >= _affinity()


def allowed_processors(cgroups: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> int:
    """Processors that this process may use: those of its affinity, or what its cgroup's quota comes to, rounded up; 1 or more."""
    return max(1, min([_affinity(), *(math.ceil(quota) for quota in _quotas(cgroups, process))]))


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(cgroups: Path, process: Path) -> Iterator[float]:
    """Processors granted to the cgroup of this process and to each above it, by version 2 (``cpu.max``) or version 1."""
    for line in _text(process).splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / "cpu" if controllers else cgroups
        folder = root / place.lstrip("/")
        # In a container the place is often one of the host's, which is not there: the root is then the container's own.
        for one in (folder, *folder.parents):
            quota, period = _quota(one)
            if quota > 0 and period > 0:
                yield quota / period
            if one == root:
                break


def _quota(folder: Path) -> tuple[float, float]:
    """Microseconds granted in each period, and the period; 0 where there is no limit."""
    if text := _text(folder / "cpu.max").split():
        return (0, 0) if text[0] == "max" else (float(text[0]), float(text[1]))
    quota, period = (_text(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    return (float(quota), float(period)) if quota and period else (0, 0)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


class ProcessorShare:
    """How much of the processor time that this process wanted it got, since this was made.

    The system counts for each thread how long it ran and how long it could have run but had to wait for a processor. It says so on Linux
    alone, and a thread that has ended is not counted.
    """

    def __init__(self) -> None:
        self._begin = scheduled()

    def now(self) -> float | None:
        """0 to 1; None where the system does not say, or nothing was wanted."""
        if not self._begin:
            return None
        ran = waited = 0
        for thread, (its_run, its_wait) in scheduled().items():
            before = self._begin.get(thread, (0, 0))
            ran, waited = ran + its_run - before[0], waited + its_wait - before[1]
        return ran / (ran + waited) if ran + waited > 0 else None


def scheduled() -> dict[str, tuple[int, int]]:
    """Nanoseconds that each thread of this process ran, and waited for a processor."""
    found = {}
    for text in Path("/proc/self/task").glob("*/schedstat"):
        if len(numbers := _text(text).split()) == 3:  # empty for a thread that has just ended
            found[text.parent.name] = (int(numbers[0]), int(numbers[1]))
    return found


def share_of_a_moment(seconds: float = 0.3) -> float | None:
    """What one thread that wants a processor all the time gets of it now. Works for so long; None as of `ProcessorShare`."""
    share, begin = ProcessorShare(), time.monotonic()
    while time.monotonic() - begin < seconds:
        pass
    return share.now()


def keep_memory() -> bool:
    """Let glibc keep large buffers for the next step instead of returning them to the system and faulting them in again.

    Takes effect at once, whether torch is loaded or not. False where there is no glibc, or where the environment says how memory is to
    be kept (`KEEPING`).
    """
    if any(name in os.environ for name in KEEPING) or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
        ctypes.CDLL(None).gnu_get_libc_version  # noqa: B018 - musl has a mallopt too, which does nothing
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
