"""One network for several tasks against one for each: practice images, a task nobody trained, photographs, and time.

    python benchmarks/one_network.py --state DIR --encoder tf_efficientnet_lite1.safetensors --parts table,glass,swap,time
    python benchmarks/one_network.py --state DIR --encoder mobilenetv2_100.safetensors --backbone mobilenetv2_100 \\
        --parts photographs --data DIR

Every training run is a folder in DIR and is resumed where it stopped; what is measured is kept beside it. Without anything left to do
the same call prints the tables.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import focus_framework as focus
from focus_framework.config.names import by_path
from focus_framework.evaluation.samples import find_samples
from focus_framework.evaluation.scoring import evaluate_model
from focus_framework.inference.model import Model
from focus_framework.plugin.kit.practice import mix, practice_pair
from focus_framework.plugin.kit.silhouettes import any_silhouette, draw, place
from focus_framework.plugin.kit.textures import any_texture, lean
from focus_framework.plugin.registry import registry
from focus_framework.training.loop import LATEST
from focus_framework.training.plan import plan
from focus_framework.training.run import assemble
from focus_framework.training.run import begin as begin_run

TASKS = ("camouflage", "defocus", "forgery", "salient", "shadow")
GLASS = str(Path(__file__).parent.parent / "examples/focus-task-glass/focus_task_glass.py")
PHOTOGRAPHED = ("salient", "shadow", "forgery")
SHOTS = (1, 5, 20)
TEST = 48
"""Practice images that nothing was chosen by, of each task."""


class Bench:
    """Runs by name, each done once."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.state = args, Path(args.state)

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` gives, kept as JSON."""
        path = self.state / f"{name}.json"
        if not path.is_file():
            begin = time.process_time()
            result = work()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"result": result, "processor_seconds": round(time.process_time() - begin, 1)}))
            print(f"{name}: {time.process_time() - begin:.0f} s of processor time", flush=True)
        return json.loads(path.read_text())["result"]

    def trained(self, name: str, tasks: str, steps: int, seed: int = 0, **more: Any) -> Path:
        """The last checkpoint of a run, without its report; the run is resumed where it stopped."""
        folder = self.state / name
        if (folder / "done").exists():
            return folder / LATEST
        given: dict[str, Any] = {
            "backbone": self.args.backbone,
            "backbone_weights": self.args.encoder,
            "refiner": "none",
            "image_size": self.args.size,
            "batch_size": 10,
            "device": "cpu",
            "data__workers": 0,
            "data__validation_limit": TEST,
            "pixel_decoder__width": 64,
            "loss__points": 1024,
            "training__calibrate": False,
            "training__trackers": [],
            "training__checkpoint_every": steps,
            "steps": steps,
            "seed": seed,
            **more,
        }
        begin = time.process_time()
        preset = given.pop("preset", "small")
        init = {"init": str(given.pop("init"))} if "init" in given else {}
        options = {**by_path({key: value for key, value in given.items() if value is not None}), **init}
        resolved, entries = plan(tasks, preset=preset, options=options)
        accelerator, team = begin_run(resolved.config)
        resume = (folder / "training-state" / "state.pt").is_file()
        folder.mkdir(parents=True, exist_ok=True)
        trainer, data = assemble(resolved, entries, folder, accelerator, team, resume=resume)
        if not trainer.ended:
            batches = data.batches(resolved.config, team, first_step=trainer.step, device=accelerator.device)
            trainer.run(batches, lambda progress: None)
        took = f"{time.process_time() - begin:.0f} s of processor time"
        (folder / "done").write_text(f"{took}\n")
        print(f"{name}: {steps} steps, {took}", flush=True)
        if self.args.one:
            raise SystemExit(3)
        return folder / LATEST


def measured(model: Model, task: str, images: int = TEST, size: int = 64) -> float:
    """The task's primary metric on practice images of its test split."""
    described = registry().find_task(task).get()
    samples = list(find_samples("practice", task=described, root=None, size=size))[:images]
    return float(evaluate_model(model, samples, data="practice").metrics[described.primary_metric])


def table(bench: Bench, seeds: Sequence[int]) -> None:
    """One network against five, by the steps of the run and by the steps of a task."""
    steps = bench.args.steps
    for seed in seeds:
        rows: dict[str, dict[str, float]] = {}
        joint = {
            f"one network, {len(TASKS) * steps} steps": bench.trained(
                f"joint-b-{seed}", ",".join(TASKS), len(TASKS) * steps, seed, **TABLE
            ),
            f"one network, {steps} steps": bench.trained(f"joint-a-{seed}", ",".join(TASKS), steps, seed, **TABLE),
        }
        alone = {task: bench.trained(f"alone-{task}-{seed}", task, steps, seed) for task in TASKS}
        for name, path in joint.items():
            rows[name] = bench.once(f"scores-{path.parent.name}", lambda path=path: by_task(path, bench.args.size))
        rows[f"five networks, {steps} steps each"] = {
            task: bench.once(
                f"scores-alone-{task}-{seed}", lambda task=task, path=path: measured(focus.load(path), task, size=bench.args.size)
            )
            for task, path in alone.items()
        }
        print(f"\nseed {seed}, {bench.args.size} pixels, batches of 10, {TEST} test images a task")
        show(rows)


TABLE = {"conditioner__options__weights": "none"}


def by_task(path: Path, size: int, tasks: Sequence[str] = TASKS) -> dict[str, float]:
    model = focus.load(path, device="cpu")
    return {task: measured(model.for_task(task), task, size=size) for task in tasks}


def show(rows: dict[str, dict[str, float]]) -> None:
    tasks = list(next(iter(rows.values())))
    primary = [registry().find_task(task).get().primary_metric for task in tasks]
    print("| | " + " | ".join(f"{task} ({metric})" for task, metric in zip(tasks, primary, strict=True)) + " |")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[task]:.4f}" for task in tasks) + " |")


def glass(bench: Bench) -> None:
    """A task left out of training: shown by examples, or trained for."""
    steps, size = bench.args.steps, bench.args.size
    known = bench.trained("joint-b-0", ",".join(TASKS), len(TASKS) * steps, 0, **TABLE)
    new = {
        "preset": "finetune",
        "backbone": None,
        "backbone_weights": None,
        "image_size": None,
        "pixel_decoder__width": None,
        "init": known,
    }
    more = {**new, "conditioner": "example", "conditioner__shots": 1, "learning_rate": 1e-3}
    shown = bench.trained("examples-0", ",".join(TASKS), steps, **more)
    task = registry().find_task(GLASS).get()
    print("\nglass, which was left out (IoU)")

    def from_examples(count: int, draw_seed: int) -> float:
        model = focus.load(shown, device="cpu")
        pairs = [practice_pair(task, seed=7 + draw_seed, split="train", index=index, size=size) for index in range(count)]
        return measured(model.with_examples(pairs), GLASS, size=size)

    def untold() -> dict[str, float]:
        model = focus.load(shown, device="cpu")
        mean = model._for_vectors(model.network.vectors.mean(0), {"name": "mean"})
        others = {f"as {name}": measured(model.for_task(name), GLASS, size=size) for name in TASKS}
        return {"mean of the known": measured(mean, GLASS, size=size), **others}

    print("0 examples:", bench.once("glass-0", untold))
    for count in SHOTS:
        found = [bench.once(f"glass-{count}-{draw}", lambda count=count, draw=draw: from_examples(count, draw)) for draw in range(3)]
        print(f"{count} examples, three draws: {', '.join(f'{value:.4f}' for value in found)}; mean {np.mean(found):.4f}")
    runs = {
        "its vectors alone": ("glass-vectors", {**new, "backbone__frozen": True, "learning_rate": 1e-2}),
        "all weights": ("glass-all", {**new, "learning_rate": 1e-3}),
        "all weights, without the five tasks": ("glass-alone", {}),
    }
    for what, (name, more) in runs.items():
        path = bench.trained(name, GLASS, steps, **more)
        print(
            f"{steps} steps, {what}:",
            bench.once(f"scores-{name}", lambda path=path: measured(focus.load(path).for_task("glass"), GLASS, size=size)),
        )
    before, after = bench.once("scores-joint-b-0", lambda: by_task(known, size)), {}
    for name in ("glass-vectors",):
        after = bench.once(f"kept-{name}", lambda name=name: by_task(bench.state / name / LATEST, size))
    print("other tasks after training its vectors alone are the same:", before == after)


def both(random: np.random.Generator, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """An image that has a cast shadow and a thing that draws the eye, and the truth of each."""
    shadow_task = registry().get("task", "shadow")
    while True:
        image, shadow = practice_pair(shadow_task, seed=int(random.integers(1 << 30)), split="test", index=0, size=size)
        outline = place(any_silhouette(random, bulky=True), centre=random.uniform(0.25, 0.75, 2), scale=random.uniform(0.4, 0.7))
        coverage = draw(outline, size)
        thing = coverage > 0.5
        if (thing & shadow).sum() < 0.15 * shadow.sum() and 0.08 < thing.mean() < 0.5:
            break
    surface = any_texture(random, hue=random.random(), saturation=random.uniform(0.75, 1), value=random.uniform(0.4, 0.8))
    light = (image / np.float32(255)) ** 2
    painted = np.sqrt(np.clip(mix(light, surface(*lean(random, size)), coverage), 0, 1))
    return (painted * 255).astype(np.uint8), {"salient": thing, "shadow": shadow & ~thing}


def swap(bench: Bench, images: int = 64) -> None:
    """The same images asked for each of two things that are in them."""
    size = bench.args.size

    def work() -> dict[str, dict[str, float]]:
        model = focus.load(bench.state / "joint-b-0" / LATEST, device="cpu")
        random = np.random.default_rng(5)
        drawn = [both(random, size) for _ in range(images)]
        found = model.predict_tasks([image for image, _ in drawn], ["salient", "shadow"])
        scores: dict[str, dict[str, float]] = {}
        for asked in ("salient", "shadow"):
            scores[asked] = {}
            for truth in ("salient", "shadow"):
                overlaps = [iou(result[asked].mask, masks[truth]) for result, (_, masks) in zip(found, drawn, strict=True)]
                scores[asked][truth] = float(np.mean(overlaps))
        return scores

    print("\nIoU with the truth of (columns) where the mask of (rows) is asked for, on images that have both")
    for asked, row in bench.once("swap", work).items():
        print(asked, {truth: round(value, 4) for truth, value in row.items()})


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / max((mask | truth).sum(), 1))


def times(bench: Bench, repeats: int = 15) -> None:
    """Five tasks in one pass beside one, in seconds of processor time, of the preset quick and of this benchmark's network."""
    from focus_framework.model.build import build_network

    def work() -> dict[str, dict[str, float]]:
        found = {}
        for preset, options in {"quick": {}, "small": {"backbone.weights": "none"}}.items():
            config = plan("all", preset=preset, options={**options, "conditioner.options.weights": "none"})[0].config
            model = Model(config, build_network(config)).eval()
            image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
            calls = {
                "one": lambda model=model, image=image: model.for_task("shadow").predict(image),
                "five": lambda model=model, image=image: model.predict_tasks(image),
            }
            spent: dict[str, list[float]] = {name: [] for name in calls}
            for turn in range(repeats + 1):
                for name, call in calls.items():
                    begin = time.process_time()
                    call()
                    spent[name] += [time.process_time() - begin] if turn else []
            medians = {name: float(np.median(values)) for name, values in spent.items()}
            found[preset] = {**medians, "ratio": medians["five"] / medians["one"]}
        return found

    for preset, row in bench.once("times", work).items():
        print(preset, {name: round(value, 4) for name, value in row.items()})


def photographs(bench: Bench) -> None:
    """One network against three by the same steps in all, on photographs; the part held back for validation is what is measured."""
    data, steps = Path(bench.args.data), bench.args.steps
    references = {task: str(data / task) for task in PHOTOGRAPHED}
    held = {"val_share": 0.25, "seed": 0}
    rows = {}
    said = ",".join(f"{task}={place}" for task, place in references.items())
    path = bench.trained("photographs-one", ",".join(PHOTOGRAPHED), 3 * steps, data=said, **held, **TABLE)
    rows["one network"] = json.loads(json.dumps(focus.load(path).description["validation"]))
    alone = {}
    for task, place_ in references.items():
        path = bench.trained(f"photographs-{task}", task, steps, data=place_, **held)
        alone |= {f"{task}.{name}": value for name, value in focus.load(path).description["validation"].items()}
    rows["three networks"] = alone
    print(f"\nphotographs, {3 * steps} steps in all, {bench.args.size} pixels, a quarter held back")
    for name, row in rows.items():
        print(name, {key: round(value, 4) for key, value in row.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--backbone", default="tf_efficientnet_lite1")
    parser.add_argument("--parts", default="table,glass,swap,time")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--data", default="")
    parser.add_argument("--one", action="store_true", help="End after one training run, with exit code 3, to leave the machine to others.")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)
    bench = Bench(args)
    parts = args.parts.split(",")
    if "time" in parts:
        times(bench)
    if "table" in parts:
        table(bench, range(args.seeds))
    if "swap" in parts:
        swap(bench)
    if "glass" in parts:
        glass(bench)
    if "photographs" in parts:
        photographs(bench)


if __name__ == "__main__":
    main()
