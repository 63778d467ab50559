"""What every task's practice images give to anybody without learning: one-cue thresholds and the mean mask, as a table.

    python benchmarks/practice_baselines.py [--tasks shadow,salient] [--count 64] [--size 128]

A network has to be clearly ahead of the best row of its column.
"""

from __future__ import annotations

import argparse
import time

from rich.console import Console
from rich.table import Table

from focus_framework.evaluation.baselines import baselines, best_baseline
from focus_framework.plugin.kit.practice import practice_pair
from focus_framework.plugin.registry import registry

METRICS = {"salient": "f_beta_mean", "camouflage": "f_beta_mean", "shadow": "ber", "defocus": "f_beta_mean", "forgery": "f1"}
"""Those that differ from the primary metric are here because they are quick and read alike for all tasks."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", default=",".join(METRICS), help="names, with commas between them")
    parser.add_argument("--count", type=int, default=64, help="training and test images each")
    parser.add_argument("--size", type=int, default=128, help="pixels a side")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    scores, notes = {}, []
    for name in options.tasks.split(","):
        task = registry().get("task", name)
        metric = METRICS.get(name, task.primary_metric)
        start = time.process_time()
        train, test = (
            [practice_pair(task, seed=options.seed, split=split, index=i, size=options.size) for i in range(options.count)]
            for split in ("train", "test")
        )
        drawing = (time.process_time() - start) / (2 * options.count) * 1000
        scores[f"{name}\n{metric}"] = column = baselines(train, test, metric)
        best = best_baseline(column, metric)
        notes.append(f"{name}: best without learning is {best}, {metric} {column[best]:.3f}; {drawing:.1f} ms an image")

    table = Table("baseline", *scores, title=f"Practice images, {options.count} test images of {options.size} px")
    for row in next(iter(scores.values())):
        table.add_row(row, *(f"{column[row]:.3f}" for column in scores.values()))
    console = Console()
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)


if __name__ == "__main__":
    main()
