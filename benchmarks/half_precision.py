"""A training step and a prediction in bf16 against fp32 on this processor, in turns.

    python benchmarks/half_precision.py
    python benchmarks/half_precision.py --preset small --threads 2 --rounds 8
    python benchmarks/half_precision.py --set backbone.name=vit_large_patch14_dinov2 --batch-size 2 --rounds 2
    python benchmarks/half_precision.py --train 150 --seeds 0 1         # whole trainings on practice images, and their scores

Processor milliseconds an image, medians over rounds in which the two take turns in one process, so that a busy machine meets both alike.
What the processor can use, as PyTorch reports it, is said above. Weights and images are random, on which no time depends.

`--train` trains each random seed in both precisions and prints processor seconds, start and scoring included, and scores on 100 practice
images that no training has seen; what was trained in fp32 predicts in both precisions.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

PRECISIONS = ("fp32", "bf16")


def step(
    preset: str, precision: str, batch_size: int, assignments: list[str], device: str = "cpu"
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A training step and a prediction."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    from focus_framework.config.layers import resolve
    from focus_framework.inference.model import Model
    from focus_framework.model.build import build_network
    from focus_framework.training.processes.team import Team
    from focus_framework.training.update import Update

    options = {"training.steps": 1000, "training.batch_size": batch_size, "refiner.name": "none", "backbone.weights": "none"}
    config = resolve("shadow", preset=preset, options=options, assignments=assignments).config
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no" if precision == "fp32" else precision)
    torch.manual_seed(0)
    model = Model(config, build_network(config))
    update = Update(config, model, accelerator, Team(accelerator), None)
    side = config.preprocessing.size
    square = torch.zeros(batch_size, side, side, dtype=torch.uint8)
    square[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    batch = {"image": torch.rand(batch_size, 3, side, side, device=device), "mask": square.to(device)}
    pixels = model.normalise(batch["image"])

    def predict() -> None:
        model.network.eval()
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            model.network(pixels)
        model.network.train()

    return lambda: update(batch, 0, 1e-5), predict


def trainings(preset: str, steps: int, batch_size: int, seeds: list[int]) -> None:
    import focus_framework as focus
    from focus_framework.evaluation.measure import measure_model
    from focus_framework.plugin.registry import registry

    task = registry().find_task("shadow").get()
    names = ("ber", "iou", "mae", "s_measure")
    print("  ".join(["seed", "training", "prediction", "processor s", *names]))
    for seed in seeds:
        for precision in PRECISIONS:
            with tempfile.TemporaryDirectory() as place:
                start = time.process_time()
                plan = {"steps": steps, "batch_size": batch_size, "seed": seed, "precision": precision, "preset": preset}
                more = {"training__checkpoint_every": steps, "data__workers": 0}
                done = focus.train("shadow", out=Path(place) / "run", **plan, **more)  # type: ignore[arg-type]
                spent = f"{time.process_time() - start:.0f}"
                for prediction in PRECISIONS if precision == "fp32" else PRECISIONS[:1]:
                    model = focus.load(done.best, precision=prediction)
                    found = measure_model(model, "practice", task=task).evaluation.metrics
                    print("  ".join([str(seed), precision, prediction, spent, *(f"{found[name]:.4f}" for name in names)]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings, e.g. another backbone")
    parser.add_argument("--train", type=int, metavar="STEPS", help="whole trainings of so many steps instead")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    given = parser.parse_args()
    from focus_framework import runtime

    runtime.prepare()
    import torch

    torch.set_num_threads(given.threads)
    known = torch.cpu.get_capabilities()
    print(", ".join(f"{name} {known.get(name)}" for name in ("avx512_bf16", "amx_bf16")))
    if given.train:
        trainings(given.preset, given.train, given.batch_size, given.seeds)
        return
    calls = {precision: step(given.preset, precision, given.batch_size, given.set) for precision in PRECISIONS}
    for number, what in enumerate(("training step", "prediction")):
        spent: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
        for turn in range(given.rounds + 1):
            for precision in PRECISIONS:
                start = time.process_time()
                calls[precision][number]()
                if turn:
                    spent[precision].append((time.process_time() - start) / given.batch_size * 1e3)
        fp32, bf16 = (median(spent[precision]) for precision in PRECISIONS)
        print(f"{given.preset}, {what}: fp32 {fp32:.1f} ms, bf16 {bf16:.1f} ms, ratio {bf16 / fp32:.2f}")


if __name__ == "__main__":
    main()
