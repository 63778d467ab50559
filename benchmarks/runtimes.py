"""One network in several runtimes: PyTorch, onnxruntime, and onnxruntime in whole numbers of 8 bits. Time, peak memory, accuracy.

    python benchmarks/runtimes.py                                     # starter-salient, practice images
    python benchmarks/runtimes.py --images DIR --masks DIR            # on one's own pairs
    python benchmarks/runtimes.py --structure                         # the network of inference.py, beside the release's way

A process for each row and round, in turns, so that other work on the machine meets all of them alike; the best of the rounds counts.
Every row gets the same prepared images, one at a time, and gives maps at network size. Memory is the peak of the process, with all that
it had to load. Accuracy is the task's primary metric of these maps. Whole numbers are calibrated with other practice images of
the task: products with weights alone are computed in them. They are worth offering where the metric loses .005 or less.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LOSS = 0.005
ROWS = ("PyTorch", "onnxruntime, fp32", "onnxruntime, int8")
STRUCTURE = "the release's way, PyTorch"
CALIBRATION = 1000  # the first number of the practice images that calibrate; those measured start at 0


def model_of(arguments: argparse.Namespace, *, released: bool = False):
    """The model, and for `released` the same structure as the release runs it."""
    import torch

    from focus_framework.checkpoint.description import describe
    from focus_framework.config.layers import resolve
    from focus_framework.inference.model import Model, load
    from focus_framework.model.build import build_network
    from focus_framework.plugin.registry import registry

    if not arguments.structure:
        return load(arguments.checkpoint, device="cpu")
    torch.manual_seed(0)
    options = {"embed_dim": 384, "depth": 12, "num_heads": 6, "patch_size": 14, "img_size": 518}
    settings = {
        "backbone.name": "vit",
        "backbone.weights": "none",
        "enhancer.name": "edge-release" if released else "edge",
        "decoder.first_mask": "release",
        "preprocessing.size": 256,
        **{f"backbone.options.{key}": value for key, value in options.items()},
    }
    config = resolve("salient", preset="paper-large", options=settings).config
    network, entry = build_network(config, weights="none"), registry().find_task("salient")
    return Model(config, network, describe(config, network, entry, entry.get().pairs())).eval()


def pairs_of(model, arguments: argparse.Namespace):
    """Images and masks to measure with."""
    from focus_framework.files.images import list_images, read_image, read_mask

    if not arguments.images:
        return practice(model, range(arguments.count))
    images = list_images(arguments.images)[: arguments.count]
    masks = {path.stem: path for path in list_images(arguments.masks)}
    return [(read_image(path), read_mask(masks[path.stem])) for path in images]


def practice(model, numbers):
    from focus_framework.plugin.kit.practice import practice_pair
    from focus_framework.plugin.registry import registry

    task = registry().find_task(model.task).get()
    side = model.config.preprocessing.size
    return [practice_pair(task, seed=0, split="test", index=number, size=side) for number in numbers]


def calls(model, pairs):
    """What a file is called with, for each image by itself."""
    made = []
    for image, _ in pairs:
        prepared = model.prepare(image)
        padded = np.array(prepared.pixels.shape[-2:])
        made.append({"image": prepared.pixels[None].numpy(), "inner": np.array(prepared.size), "size": padded})
    return made


def write_files(model, folder: Path) -> None:
    """The network as ONNX, and the same in 8 bits."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    from focus_framework.deploy.export.making import export

    export(model, folder / "fp32.onnx", said=lambda text: print(text, file=sys.stderr))

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(calls(model, practice(model, range(CALIBRATION, CALIBRATION + 16))))

        def get_next(self):
            return next(self.left, None)

    graph = onnx.load(folder / "fp32.onnx").graph
    weights = {each.name for each in graph.initializer}
    others = [node.name for node in graph.node if node.op_type == "MatMul" and not weights & set(node.input)]
    quantize_static(
        folder / "fp32.onnx",
        folder / "int8.onnx",
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        nodes_to_exclude=others,
        per_channel=True,
        reduce_range=False,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def measure(row: str, folder: Path, arguments: argparse.Namespace) -> None:
    """One row in this process: seconds of the quickest pass over all images, peak memory; maps go to a file."""
    given = np.load(folder / "calls.npz")
    made = [{name: given[f"{number}_{name}"] for name in ("image", "inner", "size")} for number in range(len(given.files) // 3)]
    if row in (ROWS[0], STRUCTURE):
        import torch

        torch.set_num_threads(arguments.threads)
        model = model_of(arguments, released=row == STRUCTURE)

        def one(call):
            heads = model.network(torch.from_numpy(call["image"]), all_heads=row == STRUCTURE)
            from focus_framework.inference.model import maps_at

            size = tuple(call["size"].tolist())
            logits = heads.class_logits[-1], heads.mask_logits[-1]
            return maps_at(*logits, tuple(call["image"].shape[-2:]), tuple(call["inner"].tolist()), size, model.config.prediction).numpy()

        context = torch.inference_mode()
    else:
        from contextlib import nullcontext

        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = arguments.threads, 3
        file = folder / ("fp32.onnx" if row == ROWS[1] else "int8.onnx")
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        context = nullcontext()

        def one(call):
            return session.run(["probability"], call)[0]

    clock = time.process_time if arguments.clock == "processor" else time.perf_counter
    best, maps = float("inf"), []
    with context:
        for _ in range(arguments.repetitions + 1):  # the first pass warms up
            begin = clock()
            maps = [one(call)[0] for call in made]
            best = min(best, clock() - begin)
    np.savez(folder / f"{row}.npz", *maps)
    # Not getrusage: what the process that started this one had counts there too.
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(told["VmHWM"].split()[0]) / 1024
    print(json.dumps({"seconds": best / len(made), "memory": peak}))


def score(model, pairs, maps) -> float:
    """The primary metric of maps at network size, of the images as they came."""
    import torch
    import torch.nn.functional as F

    from focus_framework import metrics
    from focus_framework.plugin.registry import registry

    metric = getattr(metrics, registry().find_task(model.task).get().primary_metric)
    values = []
    for (image, mask), found in zip(pairs, maps, strict=True):
        height, width = model.prepare(image).size
        resized = F.interpolate(torch.from_numpy(found)[None, None, :height, :width], mask.shape, mode="bilinear", align_corners=False)
        values.append(float(metric(resized[0].clamp(0, 1), torch.from_numpy(mask)[None])[0]))
    return float(np.mean(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="salient")
    parser.add_argument("--structure", action="store_true")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--masks", type=Path)
    for name, value in {"count": 16, "threads": 2, "repetitions": 3, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        measure(arguments.row, arguments.folder, arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = model_of(arguments)
        pairs = pairs_of(model, arguments)
        numbered = {f"{number}_{key}": array for number, call in enumerate(calls(model, pairs)) for key, array in call.items()}
        np.savez(folder / "calls.npz", **numbered)
        write_files(model, folder)
        rows = (*ROWS, STRUCTURE) if arguments.structure else ROWS
        best: dict[str, dict[str, float]] = {}
        for _ in range(arguments.rounds):
            for row in rows:
                environment = os.environ | {"FOCUS_OPS": "reference" if row == STRUCTURE else "native"}
                call = [sys.executable, *sys.argv, "--row", row, "--folder", str(folder)]
                found = json.loads(subprocess.run(call, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)
                kept = best.setdefault(row, found)
                kept.update(seconds=min(kept["seconds"], found["seconds"]), memory=max(kept["memory"], found["memory"]))
        print("| runtime | ms an image | of PyTorch | peak MiB | primary metric | |")
        print("|---|---:|---:|---:|---:|---|")
        whole = None
        for row, found in best.items():
            value = "" if arguments.structure else score(model, pairs, list(np.load(folder / f"{row}.npz").values()))
            whole = value if whole is None else whole
            told = (
                ""
                if arguments.structure or row != ROWS[2]
                else ("within" if abs(value - whole) <= LOSS else "more than") + f" {LOSS} of PyTorch"
            )
            share = found["seconds"] / best[ROWS[0]]["seconds"]
            shown = value if value == "" else f"{value:.4f}"
            print(f"| {row} | {1000 * found['seconds']:.1f} | {share:.2f} | {found['memory']:.0f} | {shown} | {told} |")


if __name__ == "__main__":
    main()
