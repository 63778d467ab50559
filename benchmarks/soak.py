"""Long practice: trains the quick model for minutes or hours and looks whether memory, open files or the rate drift.

    python benchmarks/soak.py --minutes 60

Prints the slopes (least squares, after the first fifth, in which caches fill) and the share of time that training waits for images.
Where the machine does other work too, the processor's time a step tells more of a drift than the rate does.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from focus_framework.config.layers import resolve
from focus_framework.plugin.registry import registry
from focus_framework.training import run as training
from focus_framework.training.loop import Progress, Trainer

WARM = 0.2


class Waiting:
    """Seconds that the loop has waited for its batches."""

    seconds = 0.0

    def watch(self, batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            start = time.monotonic()
            batch = next(batches)
            self.seconds += time.monotonic() - start
            yield batch


def slope(minutes: np.ndarray, values: np.ndarray) -> float:
    """Change a minute."""
    return float(np.polyfit(minutes, values, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--task", default="shadow")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    options = {"training.minutes": arguments.minutes, "data.workers": arguments.workers, "training.device": "cpu"}
    resolved = resolve(arguments.task, options=options)
    process, rows, waiting = psutil.Process(), [], Waiting()
    began = time.monotonic()

    def look(progress: Progress) -> None:
        spent = process.cpu_times()
        now = time.monotonic() - began
        rows.append((now, process.memory_info().rss / 2**20, process.num_fds(), progress.step, spent.user + spent.system))

    original = Trainer.run
    Trainer.run = lambda self, batches, on_progress: original(self, waiting.watch(iter(batches)), on_progress)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        training.train(resolved, registry().find_task(arguments.task), Path(folder) / "run", on_progress=look)
    table = np.array(rows)
    late = table[table[:, 0] > WARM * table[-1, 0]]
    minutes = late[:, 0] / 60
    halves = np.array_split(late, 2)
    rates = [(half[-1, 3] - half[0, 3]) / (half[-1, 0] - half[0, 0]) for half in halves]
    costs = [(half[-1, 4] - half[0, 4]) / (half[-1, 3] - half[0, 3]) for half in halves]
    print(f"{arguments.minutes:g} minutes, {int(table[-1, 3])} steps, {arguments.workers} loader process(es), {os.cpu_count()} cores")
    print(f"memory: {late[:, 1].mean():.0f} MiB, slope {slope(minutes, late[:, 1]):+.2f} MiB a minute")
    print(f"open files: {late[0, 2]:.0f} to {late[-1, 2]:.0f}, slope {slope(minutes, late[:, 2]):+.3f} a minute")
    print(f"rate: {rates[0]:.2f} steps/s in the first half, {rates[1]:.2f} in the second")
    print(f"cost: {costs[0]:.3f} processor seconds a step in the first half, {costs[1]:.3f} in the second")
    print(f"waiting for images: {100 * waiting.seconds / table[-1, 0]:.1f} % of the time")


if __name__ == "__main__":
    main()
