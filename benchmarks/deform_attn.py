"""Times deformable attention at the model's shapes: the compiled op against plain PyTorch, in one run.

    python benchmarks/deform_attn.py                 # CPU, two threads
    python benchmarks/deform_attn.py --clock processor  # one thread's processor time, for a machine that does other work too
    python benchmarks/deform_attn.py --runtimes      # its plain form in other runtimes, as exported files have it, on the CPU
    python benchmarks/deform_attn.py --device cuda   # also against the one-thread-per-channel kernel in rival.cu (needs nvcc)

The two sides take turns, so that whatever else the machine does meets both; figures are medians. Through `deform_attn_from_logits`,
softmax and locations included, as the model's modules call it, except for the rival, which knows only given locations.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from focus_framework import ops

Shapes = list[tuple[int, int]]
PYRAMID: Shapes = [(64, 64), (32, 32), (16, 16)]
FULL = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Case:
    name: str
    query_grids: Shapes
    levels: Shapes
    channels: int
    heads: int


CASES = [
    Case("(a) pixel decoder", PYRAMID, PYRAMID, 256, 8),
    Case("(b) injector", [(36, 36)], PYRAMID, 512, 16),
    Case("(c) extractor", PYRAMID, [(36, 36)], 512, 16),
]


@dataclass(frozen=True)
class Inputs:
    """Queries look around their own place, some pixels away, as in a network."""

    value: Tensor
    levels: Shapes
    reference: Tensor
    offsets: Tensor
    logits: Tensor
    probe: Tensor

    def run(self) -> Tensor:
        return ops.deform_attn_from_logits(self.value, self.levels, self.reference, self.offsets, self.logits)

    def differentiate(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.run(), (self.value, self.offsets, self.logits), self.probe)

    def given(self) -> tuple[Tensor, Tensor]:
        """Locations and weights, for kernels that know nothing else."""
        size = torch.tensor([[w, h] for h, w in self.levels], device=self.offsets.device)
        locations = self.reference[:, :, None, :, None] + self.offsets.detach() / size[:, None]
        return locations.contiguous(), self.logits.detach().flatten(3).softmax(-1).view_as(self.logits)


def make(case: Case, dtype: torch.dtype, device: str, batch: int) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    centres = []
    for height, width in case.query_grids:
        y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
        centres.append(torch.stack([x, y], -1).flatten(0, 1))
    reference = torch.cat(centres)[None, :, None].expand(1, -1, len(case.levels), 2).contiguous()
    queries, length = reference.shape[1], sum(height * width for height, width in case.levels)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    return Inputs(
        draw(batch, length, case.heads, case.channels // case.heads).to(dtype).requires_grad_(),
        case.levels,
        reference.to(device),
        (2 * draw(batch, queries, case.heads, len(case.levels), 4, 2)).requires_grad_(),
        draw(batch, queries, case.heads, len(case.levels), 4).requires_grad_(),
        draw(batch, queries, case.channels).to(dtype),
    )


def milliseconds(call: Callable[[], Any], clock: str) -> float:
    if clock == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
    now = time.thread_time if clock == "processor" else time.perf_counter
    begin = now()
    call()
    return 1e3 * (now() - begin)


def compare(inputs: Inputs, clock: str, repeats: int) -> dict[str, float]:
    """Medians in milliseconds: forward and forward + backward of both implementations."""
    times: dict[str, list[float]] = {}
    for turn in range(repeats + 2):  # two to warm up
        for name in ("reference", "native"):
            os.environ["FOCUS_OPS"] = name
            with torch.no_grad():
                forward = milliseconds(inputs.run, clock)
            both = milliseconds(inputs.differentiate, clock)
            if turn >= 2:
                times.setdefault(f"{name}_forward", []).append(forward)
                times.setdefault(f"{name}_both", []).append(both)
    return {name: statistics.median(values) for name, values in times.items()}


class Rival:
    """The one-thread-per-channel kernel, compiled on the spot; float32 only, as such kernels are."""

    def __init__(self) -> None:
        if shutil.which("nvcc") is None:
            raise SystemExit("the rival kernel needs nvcc; put the CUDA toolkit on the PATH or leave out --device cuda")
        library = Path(tempfile.mkdtemp()) / "rival.so"
        source = Path(__file__).with_name("rival.cu")
        subprocess.run(["nvcc", "-O3", "-arch=native", "-shared", "-Xcompiler", "-fPIC", str(source), "-o", str(library)], check=True)
        self.library = ctypes.CDLL(str(library))

    def times(self, inputs: Inputs, repeats: int) -> dict[str, float]:
        """Medians of the rival's forward and backward kernels, and of ours on the same locations and weights."""
        locations, weights = inputs.given()
        value, probe = inputs.value.detach(), inputs.probe
        batch, length, heads, channels = value.shape
        queries, levels = locations.shape[1], len(inputs.levels)
        shapes = torch.tensor(inputs.levels, device="cuda", dtype=torch.int64)
        starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
        output = torch.empty_like(probe)
        gradients = [torch.empty_like(tensor) for tensor in (value, locations, weights)]
        sizes = [ctypes.c_int(number) for number in (batch, length, heads, channels, levels, queries, 4)]

        def pointers(*tensors: Tensor) -> list[ctypes.c_void_p]:
            return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]

        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        common = pointers(value, shapes, starts, locations, weights)

        def rival_backward() -> None:
            gradients[0].zero_()
            self.library.rival_backward(*pointers(probe), *common, *pointers(*gradients), *sizes, stream)

        flat = [side for shape in inputs.levels for side in shape]
        calls: dict[str, Callable[[], Any]] = {
            "rival_forward": lambda: self.library.rival_forward(*common, *pointers(output), *sizes, stream),
            "rival_backward": rival_backward,
            "ours_forward": lambda: torch.ops.focus_ops.deform_attn(value, flat, locations, weights),
            "ours_backward": lambda: torch.ops.focus_ops.deform_attn_backward(probe, value, flat, locations, weights, False),
        }
        calls["rival_forward"]()
        torch.testing.assert_close(output, calls["ours_forward"](), rtol=1e-4, atol=1e-4)  # it must do the same work
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(repeats):
            for name, call in calls.items():
                times[name].append(milliseconds(call, "cuda"))
        return {name: statistics.median(values) for name, values in times.items()}


class Plain(torch.nn.Module):
    """What an exported file has of the op."""

    def __init__(self, levels: Shapes) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, value: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
        return ops.deform_attn_from_logits(value, self.levels, reference, offsets, logits)


def in_runtimes(inputs: Inputs, clock: str, repeats: int, threads: int) -> dict[str, float]:
    """The least milliseconds forward: compiled, plain, and the plain form as ONNX in what is installed of onnxruntime and OpenVINO."""
    from focus_framework.deploy.one_runtime import onnxruntime, openvino

    named = {name: getattr(inputs, name).detach() for name in ("value", "reference", "offsets", "logits")}
    given = {name: tensor.numpy() for name, tensor in named.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "op.onnx")
        torch.onnx.export(
            Plain(inputs.levels).eval(),
            tuple(named.values()),
            file,
            dynamo=True,
            opset_version=18,
            input_names=list(named),
            output_names=["probability"],
            verbose=False,
        )
        installed = [runtime for runtime in (onnxruntime, openvino) if find_spec(runtime.__name__)]
        calls = {runtime.__name__: partial(runtime(file, threads), given) for runtime in installed}
        calls |= dict.fromkeys(("native", "reference"), inputs.run)
        best = dict.fromkeys(calls, float("inf"))
        for turn in range(repeats + 2):
            for name, call in calls.items():
                if name in ("native", "reference"):
                    os.environ["FOCUS_OPS"] = name
                with torch.no_grad():
                    spent = milliseconds(call, clock)
                if turn >= 2:
                    best[name] = min(best[name], spent)
    return best


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| shapes | value | plain forward | compiled | ratio | plain forward + backward | compiled | ratio |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        times = row["milliseconds"]
        pairs = [(times[f"reference_{kind}"], times[f"native_{kind}"]) for kind in ("forward", "both")]
        cells = [f"{plain:.1f} | {ours:.2f} | {plain / ours:.1f}x" for plain, ours in pairs]
        lines.append(f"| {row['case']} | {row['type']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", default="wall", choices=("wall", "processor"), help="on the CPU; processor implies one thread")
    parser.add_argument("--runtimes", action="store_true")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of tables")
    arguments = parser.parse_args()
    threads = 1 if arguments.clock == "processor" else arguments.threads
    clock = "cuda" if arguments.device == "cuda" else arguments.clock
    torch.set_num_threads(threads)
    os.environ["FOCUS_OPS"] = "native"
    ops.backend(arguments.device)  # fails with the reason where there is nothing to compare

    if arguments.runtimes:
        for case in CASES:
            found = in_runtimes(make(case, torch.float32, "cpu", arguments.batch_size), clock, arguments.repeats, threads)
            print(case.name, {name: f"{value:.2f} ms" for name, value in found.items()}, flush=True)
        return
    rows: list[dict[str, Any]] = []
    for case in CASES:
        for name, dtype in FULL.items():
            inputs = make(case, dtype, arguments.device, arguments.batch_size)
            rows.append({"case": case.name, "type": name, "milliseconds": compare(inputs, clock, arguments.repeats)})
            print(case.name, name, "measured", file=sys.stderr)
    if arguments.device == "cuda":
        rival = Rival()
        for case in CASES:
            inputs = make(case, torch.float32, "cuda", arguments.batch_size)
            rows.append({"case": case.name, "type": "rival", "milliseconds": rival.times(inputs, arguments.repeats)})
    machine = (
        torch.cuda.get_device_name() if arguments.device == "cuda" else f"{threads} threads of {platform.machine()}, {arguments.clock} time"
    )
    header = {"machine": machine, "torch": torch.__version__, "batch": arguments.batch_size, "op": ops.describe(arguments.device)["build"]}
    if arguments.json:
        print(json.dumps({**header, "rows": rows}))
        return
    print(header)
    print(table([row for row in rows if row["type"] != "rival"]))
    for row in rows:
        if row["type"] == "rival":
            print(row["case"], {name: f"{value:.3f} ms" for name, value in row["milliseconds"].items()})


if __name__ == "__main__":
    main()
