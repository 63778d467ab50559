"""One network in several runtimes: PyTorch, onnxruntime, OpenVINO, and onnxruntime in whole numbers of 8 bits. Time, peak memory, accuracy.

    python benchmarks/runtimes.py                                     # starter-salient, practice images
    python benchmarks/runtimes.py --images DIR --masks DIR            # on one's own pairs
    python benchmarks/runtimes.py --structure                         # the network of inference.py, beside the release's way
    python benchmarks/runtimes.py --profile                           # and where onnxruntime spends its time

What `focus bench --runtimes` does, with more rows: a process for each, in turns, so that other work on the machine meets all of them alike;
the best of the repetitions counts. Every row gets the same prepared images, one at a time, and gives maps at network size. Accuracy is the
task's primary metric of these maps. Whole numbers are calibrated with other practice images of the task; products with weights alone are
computed in them. They are worth offering where the metric loses .005 or less.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partialmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

LOSS = 0.005
PYTORCH, ONNXRUNTIME, OPENVINO, STRUCTURE = "PyTorch", "onnxruntime", "OpenVINO", "the release's way, PyTorch"
CALIBRATION = 1000  # the first number of the practice images that calibrate; those measured start at 0
INT8: dict[str, Callable[[Any, int], bool]] = {
    "all products with weights": lambda node, number: True,
    "convolutions": lambda node, number: node.op_type == "Conv",
    "the backbone": lambda node, number: _in_backbone(node),
    "the backbone but for its first and depthwise convolutions": lambda node, number: (
        _in_backbone(node) and number > 0 and not _group(node)
    ),
}
"""What is computed in 8 bits, of the nodes with weights in their order."""


def _in_backbone(node: Any) -> bool:
    return any("network.encoder.backbone" in each.value for each in node.metadata_props if each.key.endswith("name_scopes"))


def _group(node: Any) -> bool:
    return any(each.name == "group" and each.i > 1 for each in node.attribute)


def model_of(arguments: argparse.Namespace, *, released: bool = False):
    """The model, and for `released` the same structure as the release runs it."""
    from focus_framework.config.layers import resolve
    from focus_framework.deploy.runtimes import untrained
    from focus_framework.inference.model import load

    if not arguments.structure:
        return load(arguments.checkpoint, device="cpu")
    options = {"embed_dim": 384, "depth": 12, "num_heads": 6, "patch_size": 14, "img_size": 518}
    settings = {
        "backbone.name": "vit",
        "backbone.weights": "none",
        "enhancer.name": "edge-release" if released else "edge",
        "decoder.first_mask": "release",
        "preprocessing.size": 256,
        **{f"backbone.options.{key}": value for key, value in options.items()},
    }
    return untrained(resolve("salient", preset="paper-large", options=settings).config)


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


def write_files(model, folder: Path, arguments: argparse.Namespace) -> dict[str, Path]:
    """The file of each row: checkpoints, the network as ONNX, and the same in 8 bits. What is there already stays."""
    from focus_framework.checkpoint.format import write_checkpoint
    from focus_framework.deploy.export.making import export

    files = {PYTORCH: folder / "model.safetensors", ONNXRUNTIME: folder / "model.onnx", OPENVINO: folder / "model.onnx"}
    write_checkpoint(files[PYTORCH], model.network.state_dict(), model.description)
    if not files[ONNXRUNTIME].exists():
        make = write_unchecked if arguments.structure else export
        make(model, files[ONNXRUNTIME], said=lambda text: print(text, file=sys.stderr))
    if not find_spec("openvino"):
        print("OpenVINO is left out: it is not installed", file=sys.stderr)
        del files[OPENVINO]
    if arguments.structure:
        released = model_of(arguments, released=True)
        files[STRUCTURE] = folder / "released.safetensors"
        write_checkpoint(files[STRUCTURE], released.network.state_dict(), released.description)
        return files
    given = calls(model, practice(model, range(CALIBRATION, CALIBRATION + 16)))
    for number, (name, chosen) in enumerate(INT8.items()):
        file = files[f"onnxruntime, int8: {name}"] = folder / f"int8-{number}.onnx"
        if not file.exists():
            quantise(files[ONNXRUNTIME], file, given, chosen)
    return files


def write_unchecked(model, out: Path, *, said: Callable[[str], None]) -> None:
    """The file of a network with random weights, of a fixed size. Many of its attention masks lie at their threshold, where rounding
    decides, so that its maps are no measure of the file and `export` would refuse it."""
    from focus_framework.deploy.export.facts import facts_of
    from focus_framework.deploy.export.graph import trace
    from focus_framework.deploy.export.writing import write_onnx

    side = model.config.preprocessing.size
    said("tracing the network")
    program = trace(model, size=(side, side), raw=False)
    facts = facts_of(model, form="onnx", precision="fp32", size=(side, side), raw=False)
    write_onnx(out, program, facts, half=False, plugins={"backbone": model.config.backbone.name, "enhancer": model.config.enhancer.name})


def quantise(whole: Path, out: Path, given: list[dict[str, Any]], chosen: Callable[[Any, int], bool]) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(given)

        def get_next(self):
            return next(self.left, None)

    graph = onnx.load(whole).graph
    weights = {each.name for each in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("Conv", "MatMul", "Gemm") and weights & set(node.input)]
    quantize_static(
        whole,
        out,
        Reader(),
        quant_format=QuantFormat.QDQ,
        nodes_to_quantize=[node.name for number, node in enumerate(products) if chosen(node, number)],
        per_channel=True,
        reduce_range=False,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def released(file: str, threads: int):
    """A checkpoint as the release runs it: the predictions of all heads."""
    from focus_framework.deploy.one_runtime import pytorch
    from focus_framework.model.network import Network

    Network.forward = partialmethod(Network.forward, all_heads=True)  # type: ignore[assignment]
    return pytorch(file, threads)


def command(row: str, file: Path, folder: Path, arguments: argparse.Namespace) -> list[str]:
    from focus_framework.deploy import runtimes

    made = runtimes.command(row.partition(",")[0].lower(), file, folder / "calls.npz", folder / f"{row}.npz", arguments.threads)
    return made if row != STRUCTURE else [sys.executable, __file__, "--released", *made[-4:]]


def profile(file: Path, folder: Path, threads: int) -> None:
    """Shares of the kinds of operations in onnxruntime's time, printed."""
    import onnxruntime

    from focus_framework.deploy.one_runtime import read_calls

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level, options.enable_profiling = threads, 3, True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    for call in read_calls(str(folder / "calls.npz"))[:1] * 9:
        session.run(["probability"], call)
    best: dict[tuple[str, str], int] = {}  # the least of the passes, because another process may interrupt a node
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["args"]["op_name"], event["name"]
            best[key] = min(best.get(key, event["dur"]), event["dur"])
    spent: Counter[str] = Counter()
    for (kind, _), duration in best.items():
        spent[kind] += duration
    print("| operation | share of onnxruntime's time |\n|---|---:|")
    for kind, duration in spent.most_common(12):
        print(f"| {kind} | {duration / spent.total():.1%} |")


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
    if sys.argv[1:2] == ["--released"]:
        from focus_framework.deploy.one_runtime import answer

        file, given, found, threads = sys.argv[2:]
        answer(lambda: released(file, int(threads)), given, found)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="salient")
    parser.add_argument("--structure", action="store_true")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--masks", type=Path)
    for name, value in {"count": 16, "threads": 2, "repetitions": 9}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--folder", type=Path, help="Keep the files here, and use those that are there.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        measure(arguments.folder or Path(name), arguments)


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    from focus_framework.deploy.runtimes import read_maps, take_turns, write_calls

    folder.mkdir(parents=True, exist_ok=True)
    model = model_of(arguments)
    pairs = pairs_of(model, arguments)
    write_calls(folder / "calls.npz", calls(model, pairs))
    files = write_files(model, folder, arguments)
    commands = {row: command(row, file, folder, arguments) for row, file in files.items()}
    environment = {row: os.environ | {"FOCUS_OPS": "reference" if row == STRUCTURE else "native"} for row in files}
    passes = take_turns(commands, arguments.repetitions, environment)
    milliseconds = {row: 1000 * min(each[arguments.clock] for each in passes[row]) / len(pairs) for row in files}
    whole = STRUCTURE if arguments.structure else PYTORCH
    print(f"| runtime | ms an image | of {whole} | peak MiB | primary metric |")
    print("|---|---:|---:|---:|---:|")
    for row, spent in milliseconds.items():
        value = "" if arguments.structure else f"{score(model, pairs, [maps[0] for maps in read_maps(folder / f'{row}.npz')]):.4f}"
        print(f"| {row} | {spent:.1f} | {spent / milliseconds[whole]:.2f} | {passes[row][-1]['memory']:.0f} | {value} |")
    if arguments.profile:
        profile(files[ONNXRUNTIME], folder, arguments.threads)


if __name__ == "__main__":
    main()
