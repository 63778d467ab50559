"""Processor time of one drawn practice image of each task, as a table.

    python benchmarks/drawn.py [--tasks shadow,salient] [--sizes 256,128] [--count 64] [--profile]

One thread, nothing else of the process running; processor time, because machines are shared. Each image is drawn five times and the least
counts, as whatever else the machine does only adds. What is made once a process (noise, photographed surfaces) is told apart.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from focus_framework.plugin.interfaces import Task
from focus_framework.plugin.kit.practice import practice_pair
from focus_framework.plugin.registry import registry

TASKS = "salient,shadow,camouflage,defocus,forgery"
REPEATS = 5


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def milliseconds(task: Task, size: int, count: int) -> list[float]:
    """The least processor time of each of `count` images."""
    rounds = [
        [seconds(lambda i=i: practice_pair(task, seed=0, split="train", index=i, size=size)) for i in range(count)] for _ in range(REPEATS)
    ]
    return [1000 * float(least) for least in np.min(rounds, axis=0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", default=TASKS, help="names, with commas between them")
    parser.add_argument("--sizes", default="256,128", help="pixels a side, with commas between them")
    parser.add_argument("--count", type=int, default=64, help="images a task and size")
    parser.add_argument("--profile", action="store_true", help="also print where the time of the first size goes")
    options = parser.parse_args()
    cv2.setNumThreads(1)

    sizes = [int(size) for size in options.sizes.split(",")]
    table = Table("task", *(f"{size} px: {what}" for size in sizes for what in ("median", "mean", "slowest of 20")), title="ms an image")
    first = 0.0
    for name in options.tasks.split(","):
        task = registry().get("task", name)
        first += seconds(lambda task=task: practice_pair(task, seed=0, split="train", index=0, size=sizes[0]))
        row = []
        for size in sizes:
            times = milliseconds(task, size, options.count)
            row += [np.median(times), np.mean(times), np.quantile(times, 0.95)]
        table.add_row(name, *(f"{value:.1f}" for value in row))
        if options.profile:
            profile = cProfile.Profile()
            profile.runcall(milliseconds, task, sizes[0], options.count)
            pstats.Stats(profile).sort_stats("tottime").print_stats(14)
    Console().print(table)
    print(f"the first image of each task together, with imports and what is made once: {1000 * first:.0f} ms")


if __name__ == "__main__":
    main()
