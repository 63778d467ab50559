"""Ours against U-Net and FPN on photographs, in equal processor seconds: same encoder, same size, same images, same augmentation.

    pip install segmentation-models-pytorch scikit-learn
    python benchmarks/photographs.py --data ../shared/data --encoder tf_efficientnet_lite1.safetensors [--seconds 300] [--size 192]

Every training is one line of OUT/cells.jsonl with the scores of each image; a second call does what is not there yet, and prints the
tables. `--starter TASK=FILE` adds a row that starts from that checkpoint, and one of that checkpoint as it is; `--recipe` adds one with
other settings. "calibrated" rows have a
temperature fitted on a tenth of the training images that no network of any kind trains on.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.model_selection import GroupShuffleSplit
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from focus_framework.checkpoint.parent import inherit, open_parent
from focus_framework.config.layers import resolve
from focus_framework.config.schema import PreprocessingConfig, TrainingConfig
from focus_framework.data.augment import IGNORE, Augmentation, Recipe
from focus_framework.data.dataset import PairImages, TrainingSamples, batches
from focus_framework.data.pairs import find_pairs
from focus_framework.evaluation.baselines import CUES, otsu
from focus_framework.evaluation.scoring import measure
from focus_framework.inference.model import Model
from focus_framework.inference.preparing import padded_size, resized_size
from focus_framework.model.build import build_network
from focus_framework.model.joint import with_temperature
from focus_framework.model.losses import Targets, losses
from focus_framework.model.network import MULTIPLE
from focus_framework.plugin.interfaces import LOWER_IS_BETTER
from focus_framework.plugin.registry import registry
from focus_framework.training.calibration import fit_temperature
from focus_framework.training.optimizer import build_optimizer, rate_factor, set_rate
from focus_framework.training.randomness import Draws
from focus_framework.training.update import towards

METRICS = ("s_measure", "weighted_f", "f_beta_mean", "f_beta_max", "mae", "ber", "f1", "auc", "iou")
BATCH = 8
FOR_CALIBRATION = 0.1
RESAMPLES = 2000
ENCODER = "tf_efficientnet_lite1"


@dataclass(frozen=True)
class Benchmark:
    """A set of photographs, how it is split, and whether it is large enough to conclude from."""

    task: str
    place: str
    splits: int
    test: float | int
    group: Callable[[str], str] = lambda name: name
    """Images of one group are never on both sides of a split."""
    conclusive: bool = True


def hosts(name: str) -> str:
    """The photograph that a forged one of CASIA or MISD was made from: the first that its name gives."""
    found = re.search(r"[a-z]{3}\d?_?\d{4,5}", name.partition("Sp_")[2] or name.partition("Tp_")[2])
    return found[0] if found else name


SETS = {
    "ecssd": Benchmark("salient", "benchmarks/ECSSD", 1, 200),
    "casia1": Benchmark("forgery", "casia1", 1, 0.3, hosts),
    "salient": Benchmark("salient", "salient", 3, 0.3),
    "shadow": Benchmark("shadow", "shadow", 3, 0.35),
    "forgery": Benchmark("forgery", "forgery", 3, 0.3, hosts),
    "camouflage": Benchmark("camouflage", "camouflage", 3, 0.35, conclusive=False),
    "defocus": Benchmark("defocus", "defocus", 3, 0.35, conclusive=False),
}


class Candidate(Protocol):
    """A network under test."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    augmentation: Recipe
    plan: TrainingConfig

    def set_rate(self, factor: float) -> None: ...
    def loss(self, images: Tensor, labels: Tensor, step: int) -> Tensor: ...
    def stepped(self) -> None: ...
    def trained(self) -> None: ...
    def probability(self, image: np.ndarray) -> np.ndarray: ...


class Ours:
    """The framework's network: by the preset ``small``, or from a checkpoint by the preset ``finetune``. `settings` are further ones, as
    those of ``--set``."""

    def __init__(self, task: str, rule: PreprocessingConfig, encoder: Path, init: str, settings: Sequence[str] = ()) -> None:
        options: dict[str, Any] = {"preprocessing.size": rule.size, "preprocessing.resize": rule.resize}
        if init:
            start = open_parent(init)
            self.config = resolve(task, preset="finetune", parent=start.settings(), assignments=settings, options=options).config
            self.network = build_network(self.config, weights="none")
            inherit(self.network, start, (task,))
        else:
            options["backbone.weights"] = str(encoder)
            self.config = resolve(task, preset="small", assignments=settings, options=options).config
            self.network = build_network(self.config)
        self.model = Model(self.config, self.network)
        self.augmentation = self.config.data.augmentation
        self.optimizer = build_optimizer(self.network, [], self.config)
        self.plan = self.config.training
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(self.plan.ema)) if self.plan.ema else None
        state = self.network.state_dict() if init else {}
        self.parent = {name: tensor.clone() for name, tensor in state.items() if tensor.is_floating_point()}

    def set_rate(self, factor: float) -> None:
        set_rate(self.optimizer, self.plan.learning_rate * factor)

    def loss(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        heads = self.network(self.model.normalise(images), all_heads=True)
        draws = Draws(0, range(step * BATCH, step * BATCH + len(images)), images.device)
        terms, _ = losses(heads, Targets.of(labels), self.config.loss, draws)
        return torch.stack(list(terms)).sum()

    def stepped(self) -> None:
        if self.average:
            self.average.update_parameters(self.network)

    def trained(self) -> None:
        if self.average:
            self.model = Model(self.config, self.average.module)
        network = self.model.network
        network.load_state_dict(towards(network.state_dict(), self.parent, self.plan.parent_share))

    def probability(self, image: np.ndarray) -> np.ndarray:
        return self.model.predict(image).probability


class Peer:
    """A network of segmentation_models.pytorch: cross entropy and dice, AdamW, its encoder at a tenth of the rate as ours."""

    RATE = 1e-3
    augmentation: Recipe = "plain"

    def __init__(self, kind: str, rule: PreprocessingConfig, encoder: Path) -> None:
        import segmentation_models_pytorch as smp
        from safetensors.torch import load_file

        self.rule, self.plan = rule, resolve("salient", preset="small").config.training  # schedule and clipping as ours without a starter
        self.network = getattr(smp, kind)(f"tu-{ENCODER}", encoder_weights=None)
        known = {name: tensor.float() for name, tensor in load_file(encoder).items()}
        missing, _ = self.network.encoder.model.load_state_dict(known, strict=False)
        if absent := [name for name in missing if not name.endswith("num_batches_tracked")]:
            raise SystemExit(f"the encoder of {kind} lacks {absent[:3]} in {encoder}")
        self.dice = smp.losses.DiceLoss("binary", ignore_index=IGNORE)
        parts = (self.network.encoder, 0.1), (self.network.decoder, 1.0), (self.network.segmentation_head, 1.0)
        groups = [{"params": list(part.parameters()), "scale": scale} for part, scale in parts]
        self.optimizer = torch.optim.AdamW(groups, lr=self.RATE, weight_decay=0.05)

    def set_rate(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.RATE * group["scale"] * factor

    def loss(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        logits, truth = self.network((images - 0.5) / 0.5), labels.float()[:, None]
        known = truth != IGNORE
        return F.binary_cross_entropy_with_logits(logits[known], truth[known]) + self.dice(logits, truth)

    def stepped(self) -> None:
        """Its weights are not averaged."""

    def trained(self) -> None:
        """Its weights are those of the last step."""

    @torch.inference_mode()
    def probability(self, image: np.ndarray) -> np.ndarray:
        self.network.eval()
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        height, width = size = resized_size(*image.shape[:2], self.rule, multiple=MULTIPLE)
        rows, columns = padded_size(size, multiple=MULTIPLE)
        pixels = (F.interpolate(pixels, size, mode="bilinear", antialias=True) - 0.5) / 0.5
        logits = self.network(F.pad(pixels, (0, columns - width, 0, rows - height)))[..., :height, :width]
        return F.interpolate(logits, image.shape[:2], mode="bilinear")[0, 0].sigmoid().numpy()


@dataclass(frozen=True)
class Cell:
    """One training: what it is known by in the file of results."""

    data: str
    split: int
    row: str
    size: int
    seconds: float
    seed: int
    limit: int
    """Training images; 0: all."""
    resize: Literal["square", "short-side"] = "square"


def candidate(cell: Cell, task: str, encoder: Path, init: str, recipes: Mapping[str, Sequence[str]]) -> Candidate:
    rule = PreprocessingConfig(size=cell.size, resize=cell.resize)
    if cell.row in ("Unet", "FPN"):
        return Peer(cell.row, rule, encoder)
    return Ours(task, rule, encoder, init if "starter" in cell.row else "", recipes.get(cell.row.partition(", ")[2], ()))


def train(one: Candidate, samples: TrainingSamples, seconds: float) -> tuple[int, float]:
    """Train for so many seconds of this process's processor time; steps, and the share of one processor that it had."""
    warm(one, samples)
    clock, wall, step = time.process_time(), time.perf_counter(), 0
    one.network.train()
    for batch in batches(samples, batch_size=BATCH, workers=0):
        progress = (time.process_time() - clock) / seconds
        if progress >= 1:
            break
        one.set_rate(rate_factor(progress, one.plan))
        one.optimizer.zero_grad(set_to_none=True)
        one.loss(batch["image"], batch["mask"], step).backward()
        nn.utils.clip_grad_norm_(one.network.parameters(), one.plan.gradient_norm)
        one.optimizer.step()
        one.stepped()
        step += 1
    one.trained()
    return step, (time.process_time() - clock) / max(time.perf_counter() - wall, 1e-9)


def warm(one: Candidate, samples: TrainingSamples) -> None:
    """What is imported and compiled once in a process is no part of anybody's time: a pass that changes nothing."""
    import torch._dynamo  # the optimizer would import it at its first step

    image, label = samples[0]["image"], samples[0]["mask"]
    one.network.eval()  # norms keep their statistics
    one.loss(torch.stack([image, image]), torch.stack([label, label]), 0).backward()
    one.network.zero_grad(set_to_none=True)


def run(cell: Cell, data: Path, encoder: Path, starters: Mapping[str, str], recipes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Train, calibrate and measure one candidate."""
    benchmark = SETS[cell.data]
    task = registry().get("task", benchmark.task)
    pairs = find_pairs(str(data / benchmark.place) if cell.data != "ecssd" else "ecssd", task=task, root=data / "benchmarks")
    train_at, test_at = list(divided(benchmark, [pair.name for pair in pairs]))[cell.split]
    order = np.random.default_rng(cell.seed).permutation(train_at)[: cell.limit or None]
    aside = max(2, round(FOR_CALIBRATION * len(order)))
    torch.manual_seed(cell.seed)
    one = candidate(cell, benchmark.task, encoder, starters.get(benchmark.task, ""), recipes)
    steps, share = 0, 0.0
    if cell.row != "starter alone":
        seen = PairImages([pairs[i] for i in order[aside:]])
        augmentation = Augmentation.of_task(one.augmentation, cell.size, task, stretched=cell.resize == "square")
        samples = TrainingSamples(seen, augmentation, seed=cell.seed)
        steps, share = train(one, samples, cell.seconds)
    fitted = fit_temperature((one.probability(image), mask) for image, mask in PairImages([pairs[i] for i in order[:aside]]))
    scores: dict[str, dict[str, list[float]]] = {}
    for i in test_at:
        image, mask = pairs[i].read()
        soft = torch.from_numpy(one.probability(np.asarray(image)))
        for kind, temperature in (("", 1.0), (" calibrated", fitted.temperature)):
            level = np.rint(with_temperature(soft, temperature).numpy() * 255).astype(np.uint8)
            values = measure(level, mask, METRICS)
            scores[pairs[i].name + kind] = [float(values[name]) for name in METRICS]
    return {"cell": vars(cell), "steps": steps, "share": share, "temperature": fitted.temperature, "trained": len(order), "scores": scores}


def divided(benchmark: Benchmark, names: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of the training and of the test images of each split; the seed is fixed."""
    groups = [benchmark.group(name) for name in names]
    yield from GroupShuffleSplit(benchmark.splits, test_size=benchmark.test, random_state=0).split(names, groups=groups)


def floor(name: str, data: Path) -> dict[str, float]:
    """The best that one cue and Otsu's threshold give on the test images of the first split, for each metric by itself."""
    benchmark = SETS[name]
    task = registry().get("task", benchmark.task)
    pairs = find_pairs(str(data / benchmark.place) if name != "ecssd" else "ecssd", task=task, root=data / "benchmarks")
    _, test = next(divided(benchmark, [pair.name for pair in pairs]))
    found: dict[str, list[list[float]]] = {cue: [] for cue in CUES}
    for image, mask in (pairs[i].read() for i in test):
        for cue, make in CUES.items():
            values = measure(otsu(make(np.asarray(image))).astype(np.uint8) * 255, mask, METRICS)
            found[cue].append([float(values[metric]) for metric in METRICS])
    means = np.array([np.nanmean(rows, axis=0) for rows in found.values()])
    return {m: float(means[:, i].min() if m in LOWER_IS_BETTER else means[:, i].max()) for i, m in enumerate(METRICS)}


def table(records: Sequence[Mapping[str, Any]], name: str, lowest: Mapping[str, float]) -> str:
    """Markdown: a line for each row, the mean over images and splits; then paired differences against the better peer."""
    kinds: dict[str, dict[str, list[float]]] = {}
    notes: dict[str, str] = {}
    for record in records:
        cell = record["cell"]
        for image, values in record["scores"].items():
            row = cell["row"] + (" calibrated" if image.endswith(" calibrated") else "")
            kinds.setdefault(row, {})[f"{cell['split']}/{cell['seed']}/{image.removesuffix(' calibrated')}"] = values
        notes[cell["row"]] = f"{record['steps']} | {record['share']:.2f} | {record['temperature']:.2f}"
    head = ["network", *METRICS, "steps", "share of a core", "temperature"]
    lines = [f"### {name}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines.append("| one cue, the best for each metric | " + " | ".join(f"{lowest[m]:.3f}" for m in METRICS) + " | | | |")
    for row, images in sorted(kinds.items()):
        means = np.nanmean(np.array(list(images.values())), axis=0)
        told = notes[row.removesuffix(" calibrated")]
        lines.append(f"| {row} | " + " | ".join(f"{value:.3f}" for value in means) + f" | {told} |")
    return "\n".join([*lines, "", *differences(kinds)])


def differences(kinds: Mapping[str, Mapping[str, Sequence[float]]]) -> Iterator[str]:
    """Mean paired difference a metric of each row of ours and the better peer, with its 95 % bootstrap interval over images."""
    random = np.random.default_rng(0)
    for ours in (row for row in kinds if row.startswith("ours")):
        suffix = " calibrated" if ours.endswith("calibrated") else ""
        peers = [row for row in (f"Unet{suffix}", f"FPN{suffix}") if row in kinds]
        told = []
        for index, metric in enumerate(METRICS):
            sign = -1 if metric in LOWER_IS_BETTER else 1
            best = max(peers, key=lambda row: sign * np.nanmean([v[index] for v in kinds[row].values()]), default=None)
            common = sorted(set(kinds[ours]) & set(kinds[best])) if best else []
            if not best or not common:
                continue
            gaps = np.array([kinds[ours][name][index] - kinds[best][name][index] for name in common])
            gaps = gaps[np.isfinite(gaps)]
            drawn = random.choice(gaps, (RESAMPLES, len(gaps))).mean(1)
            low, high = np.quantile(drawn, [0.025, 0.975])
            told.append(f"{metric} {gaps.mean():+.3f} [{low:+.3f}, {high:+.3f}] against {best.removesuffix(' calibrated')}")
        if told:
            yield f"- **{ours}**, paired: " + "; ".join(told)


def curve(records: Sequence[Mapping[str, Any]], name: str, file: Path) -> str:
    """Markdown of the scores over the number of training images, and a drawing of two of them in `file`."""
    from matplotlib.figure import Figure

    found: dict[str, dict[int, dict[str, float]]] = {}
    for record in records:
        cell = record["cell"]
        if cell["data"] == name and cell["limit"]:
            rows = [values for image, values in record["scores"].items() if not image.endswith(" calibrated")]
            found.setdefault(cell["row"], {})[cell["limit"]] = dict(zip(METRICS, np.nanmean(np.array(rows), axis=0), strict=True))
    lines = ["| photographs | network | " + " | ".join(METRICS) + " |", "|---:|---" + "|---:" * len(METRICS) + "|"]
    for count in sorted({count for points in found.values() for count in points}):
        for row, points in found.items():
            if count in points:
                lines.append(f"| {count} | {row} | " + " | ".join(f"{points[count][metric]:.3f}" for metric in METRICS) + " |")
    figure = Figure((8, 3), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("s_measure", "mae"), strict=True):
        for row, points in found.items():
            axes.plot(*zip(*sorted((count, scores[metric]) for count, scores in points.items()), strict=True), marker="o", label=row)
        axes.set(xscale="log", xlabel="photographs with masks", ylabel={"s_measure": "S-measure", "mae": "mean absolute error"}[metric])
        counts = sorted({count for points in found.values() for count in points})
        axes.set_xticks(counts, map(str, counts))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(file, dpi=110)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with benchmarks/, casia1/, salient/, ...")
    parser.add_argument("--encoder", type=Path, required=True, help=f"weights of {ENCODER} in timm's names")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--rows", default="Unet,FPN,ours,ours from the starter,starter alone")
    parser.add_argument("--starter", action="append", default=[], metavar="TASK=FILE", help="or the name of a known checkpoint")
    parser.add_argument(
        "--recipe", action="append", default=[], metavar="NAME: SETTING=VALUE ...", help="a further row with these settings"
    )
    parser.add_argument("--recipe-of", default="ours from the starter", help="the row that recipes change")
    parser.add_argument("--seconds", type=float, default=300, help="of processor time, for each training")
    parser.add_argument("--minutes", type=float, help="in place of --seconds")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument(
        "--resize", choices=("square", "short-side"), default="square", help="stretch images to --size, or keep their shape"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--splits", type=int, default=3, help="at most so many of each set")
    parser.add_argument("--limit", type=int, default=0, help="training images; 0: all")
    parser.add_argument(
        "--curve", type=Path, metavar="FILE", help="draw the scores of all results over --limit into FILE, and train nothing"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/photographs"))
    options = parser.parse_args()
    starters = {task: file for task, _, file in (text.partition("=") for text in options.starter)}
    recipes = {name.strip(): settings.split() for name, _, settings in (text.partition(":") for text in options.recipe)}
    rows = options.rows.split(",") + [f"{options.recipe_of}, {name}" for name in recipes]
    seconds = 60 * options.minutes if options.minutes else options.seconds
    results = options.out / "cells.jsonl"
    options.out.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for record in done:
        record["cell"].setdefault("resize", "square")  # as all were before there was a choice
    if options.curve:
        for name in options.sets.split(","):
            print(curve(done, name, options.curve))
        return
    wanted = [
        Cell(name, split, row, options.size, 0 if row == "starter alone" else seconds, seed, options.limit, options.resize)
        for name in options.sets.split(",")
        for split in range(min(SETS[name].splits, options.splits))
        for row in rows
        for seed in range(options.seeds)
        if "starter" not in row or SETS[name].task in starters
    ]
    for number, cell in enumerate(wanted, 1):
        if any(record["cell"] == vars(cell) for record in done):
            continue
        print(f"{number} of {len(wanted)}: {cell}", flush=True)
        done.append(run(cell, options.data, options.encoder, starters, recipes))
        with results.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
    for name in options.sets.split(","):
        records = [record for record in done if any(record["cell"] == vars(cell) for cell in wanted if cell.data == name)]
        size = "" if SETS[name].conclusive else " (too small to conclude from)"
        kept = options.out / f"floor-{name}.json"
        if not kept.exists():
            kept.write_text(json.dumps(floor(name, options.data)))
        print(table(records, f"{name}, {options.size} px, {seconds:g} s of one processor{size}", json.loads(kept.read_text())), end="\n\n")


if __name__ == "__main__":
    main()
