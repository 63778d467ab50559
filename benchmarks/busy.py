"""What is left of the speed when other processes need a core too, and what the waiting policy of OpenMP's threads has to do with it.

    python benchmarks/busy.py                                   # every row, idle and beside one and two busy neighbours
    python benchmarks/busy.py --rows step predict --spins focus 1000 default --seconds 3
    python benchmarks/busy.py --memory                          # glibc's allocator: as it is, and keeping what was freed

Each row runs in a process of its own that is started once and then works in turns of a few seconds, so that all of them meet the same
machine. A neighbour is a Python process that counts; the first seconds beside it do not count. Rates are images a second of wall time,
medians over the rounds; "had" is the share of the processor time wanted (threads x wall time) that the row got, so that a machine that
was busy before can be told from the rest.
Rivals: a U-Net of segmentation_models.pytorch of about the same cost, and a plain loop of convolutions.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROWS = ("step", "predict", "folder", "evaluate", "smp step", "smp predict", "plain step")
NEIGHBOUR = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(1_000_000): pass"
SIDE = 256


def work(row: str) -> tuple[Callable[[], None], int]:
    """What a row does again and again, and how many images that is."""
    import torch

    torch.manual_seed(0)
    if row == "evaluate":
        return _evaluate(), 40
    if row in ("predict", "folder"):
        from focus_framework.config.layers import resolve
        from focus_framework.inference.model import Model
        from focus_framework.model.build import build_network

        config = resolve("shadow", preset="quick").config
        model = Model(config, build_network(config)).eval()
        images = [torch.randint(0, 256, (SIDE, SIDE, 3), dtype=torch.uint8).numpy() for _ in range(8 if row == "folder" else 1)]
        return lambda: list(model.stream(images, batch_size=8)) and None, len(images)  # type: ignore[func-returns-value]
    if row == "step":
        return _step(), 8
    network = _plain() if row == "plain step" else _unet()
    return _rival(network, training="step" in row)


def _step() -> Callable[[], None]:
    """The training step of ``focus train --task-plugin shadow``: the preset ``quick`` as it is."""
    import torch
    from accelerate import Accelerator

    from focus_framework.config.layers import resolve
    from focus_framework.inference.model import Model
    from focus_framework.model.build import build_network
    from focus_framework.training.processes.team import Team
    from focus_framework.training.update import Update

    config = resolve("shadow", preset="quick", options={"training.steps": 1000, "training.batch_size": 8, "refiner.name": "none"}).config
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    update = Update(config, Model(config, build_network(config)), accelerator, Team(accelerator), None)
    side = config.preprocessing.size
    square = torch.zeros(8, side, side, dtype=torch.uint8)
    square[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    batch = {"image": torch.rand(8, 3, side, side), "mask": square}
    return lambda: update(batch, 0, 1e-5) and None  # type: ignore[func-returns-value]


def _evaluate() -> Callable[[], None]:
    import numpy as np

    from focus_framework.evaluation.samples import pair_predictions
    from focus_framework.evaluation.scoring import evaluate_files
    from focus_framework.files.images import write_image

    folder = Path(tempfile.mkdtemp(prefix="busy-"))
    random = np.random.default_rng(0)
    for part in ("masks", "maps"):
        (folder / part).mkdir()
    for index in range(40):
        y, x = np.mgrid[:300, :400]
        distance = np.hypot(y - random.integers(80, 220), x - random.integers(100, 300)) / 60
        write_image(folder / "masks" / f"{index:02}.png", ((distance < 1) * 255).astype(np.uint8))
        write_image(folder / "maps" / f"{index:02}.png", (255 / (1 + np.exp(8 * (distance - 1.1)))).astype(np.uint8))
    predicted = pair_predictions(folder / "maps", folder / "masks")
    return lambda: evaluate_files(predicted, data="busy") and None  # type: ignore[func-returns-value]


def _plain() -> Any:
    """Many small layers: what suffers most from threads that wait for one another."""
    from torch import nn

    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 4, 1)]
    for _ in range(24):
        layers += [nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(32, 1, 1), nn.Upsample(scale_factor=4, mode="bilinear"))


def _unet() -> Any:
    import segmentation_models_pytorch as smp

    return smp.Unet("mobilenet_v2", encoder_weights=None, decoder_channels=(64, 48, 32, 16, 8))


def _rival(network: Any, *, training: bool) -> tuple[Callable[[], None], int]:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    count = 4 if training else 1
    images, masks = torch.rand(count, 3, SIDE, SIDE), torch.rand(count, 1, SIDE, SIDE).round()
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(network(images), masks).backward()
        optimizer.step()

    def predict() -> None:
        with torch.inference_mode():
            network(images)

    network.train(training)
    return (step, count) if training else (predict, count)


def child(row: str, keep: bool, watched: bool) -> None:
    """Answers each pair of numbers on stdin, seconds that do not count and seconds that do, with what was done in the latter."""
    if watched:
        from focus_framework.runtime import prepare

        prepare()
    if keep:
        from focus_framework.runtime import keep_memory

        assert keep_memory(), "no glibc, or the environment decides"
    import torch

    call, images = work(row)
    for _ in range(2):
        call()
    print("ready", flush=True)
    for line in sys.stdin:
        settle, seconds = map(float, line.split())
        until, done = time.perf_counter() + settle, 0
        while time.perf_counter() < until:
            call()
        wall, processor, faults = time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        while done == 0 or time.perf_counter() - wall < seconds:
            call()
            done += images
        used = resource.getrusage(resource.RUSAGE_SELF)
        took, busy = time.perf_counter() - wall, time.process_time() - processor
        answer = {
            "rate": done / took, "had": busy / took / torch.get_num_threads(), "cost": busy / done,
            "peak_mib": used.ru_maxrss / 1024, "faults": (used.ru_minflt - faults) / done,
        }  # fmt: skip
        print(json.dumps(answer), flush=True)


class Child:
    """A row in a process of its own; `spins` of "focus" is what the command does, of "default" what libgomp does by itself."""

    def __init__(self, row: str, spins: str, threads: int, keep: bool = False) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
        environment["OMP_NUM_THREADS"] = str(threads)
        if spins == "passive":
            environment["OMP_WAIT_POLICY"] = "PASSIVE"
        elif spins not in ("focus", "default"):
            environment["GOMP_SPINCOUNT"] = spins
        command = [sys.executable, __file__, "--child", row, *(["--keep"] if keep else []), *(["--watched"] if spins == "focus" else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)

    def ask(self, seconds: float | None = None, settle: float = 0.0) -> Any:
        assert self.process.stdin and self.process.stdout
        if seconds is not None:
            print(settle, seconds, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} has died")  # type: ignore[arg-type]
        return None if seconds is None else json.loads(answer)

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many other processes that need a core each; they end with this one, whatever happens to it."""
    running = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) for _ in range(count)]
    time.sleep(0.3 if count else 0)
    try:
        yield
    finally:
        for process in running:
            process.terminate()
            process.wait()


def table(head: list[str], lines: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    for line in (head, *lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--spins", nargs="+", default=["focus", "default"], help="GOMP_SPINCOUNT, 'focus', 'passive' or 'default'")
    parser.add_argument("--neighbours", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--settle", type=float, default=3, help="seconds of each turn that do not count: a change of neighbours is noticed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="compare the two ways of keeping memory instead")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--watched", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.keep, given.watched)
        return
    variants = [
        (spins, keep) for spins in (["focus"] if given.memory else given.spins) for keep in ([False, True] if given.memory else [False])
    ]
    counts = [0] if given.memory else given.neighbours
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    middle: dict[str, dict[str, float]] = {}
    lines = []
    for row in given.rows:
        found: dict[str, list[dict[str, float]]] = {}
        children = {variant: Child(row, variant[0], given.threads, variant[1]) for variant in variants}
        for one in children.values():
            one.ask()
        for _ in range(given.rounds):
            for count in counts:
                with neighbours(count):
                    for (spins, keep), one in children.items():
                        found.setdefault(json.dumps([row, spins, keep, count]), []).append(one.ask(given.seconds, given.settle))
        for one in children.values():
            one.end()
        middle |= {key: {name: median(one[name] for one in answers) for name in answers[0]} for key, answers in found.items()}
        for spins, keep in variants:
            values = [middle[json.dumps([row, spins, keep, count])] for count in counts]
            if given.memory:
                one = values[0]
                memory = "kept" if keep else "as it is"
                cells = [memory, f"{one['cost'] * 1e3:.1f}", f"{one['rate']:.2f}", f"{one['peak_mib']:.0f}", f"{one['faults']:.0f}"]
            else:
                cells = [spins, *(f"{one['rate']:.2f} ({one['rate'] / values[0]['rate']:.0%}, had {one['had']:.0%})" for one in values)]
            lines.append([row, *cells])
            print("  ".join(lines[-1]), file=sys.stderr, flush=True)  # a run that is cut off has not measured for nothing
    heads = (
        ["processor ms an image", "images/s", "peak MiB", "page faults an image"] if given.memory else [f"{n} neighbours" for n in counts]
    )
    table(["row", "memory" if given.memory else "spins", *heads], lines)
    if given.json:
        given.json.write_text(json.dumps(middle, indent=1))


if __name__ == "__main__":
    main()
