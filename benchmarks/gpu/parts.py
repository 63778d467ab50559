"""What is measured on a GPU, and how far each part goes without one."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
GENERATIONS = ("80", "90", "100", "120")
NO_GPU = "There is no GPU here"
SETTINGS = ["backbone.weights=none", "enhancer.options.weights=none"]  # time does not depend on what the weights are


@cache
def machine() -> str:
    """The GPUs, or that there is none, and the versions that figures depend on."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cards = f"{count} x {torch.cuda.get_device_name()}" if count else "no GPU"
    return f"{cards}, torch {torch.__version__}"


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@dataclass
class Found:
    """The table of a part. It is written after every row, so that nothing is lost of a part that is stopped."""

    path: Path
    columns: list[str]
    rows: list[list[Any]] = field(default_factory=list)
    without: list[list[str]] = field(default_factory=list)

    def add(self, *cells: Any) -> None:
        self.rows.append(list(cells))
        self.write()

    def miss(self, what: str, why: str) -> None:
        self.without.append([what, why])
        self.write()

    def write(self) -> None:
        self.path.write_text(json.dumps({"columns": self.columns, "rows": self.rows, "without": self.without}))


@dataclass(frozen=True)
class Part:
    title: str
    measure: Callable[[Path], None]


def benchmark(script: str, *options: str) -> str:
    """What another script of this folder prints. Raises `CalledProcessError`."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


# The kernels


def kernels(path: Path) -> None:
    """The tests of the op on the device; without one, on the host's emulation of it, and what the compiler says of each generation."""
    found = Found(path, ["what", "passed", "failed", "skipped"])
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        tests = [str(ROOT / "tests" / f"test_ops{kind}.py") for kind in ("", "_native", "_cuda")]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--junitxml={report}", *tests]
        code = subprocess.run(command, cwd=ROOT).returncode
        suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    wrong = counts["failures"] + counts["errors"]
    where = "on the GPU" if has_gpu() else "on an emulated GPU"
    found.add(f"tests of the op, {where}", counts["tests"] - wrong - counts["skipped"], wrong, counts["skipped"])
    for architecture in GENERATIONS:
        compile_kernels(architecture, found)
    if not has_gpu():
        found.miss("the tests on a GPU", f"{NO_GPU}: values and gradients were compared on an emulated one")
    if code:
        raise SystemExit(f"{wrong} tests of the op failed")


def compile_kernels(architecture: str, found: Found) -> None:
    """Machine code of all kernels for one generation: how many there are, and the most registers and spilled bytes of one."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        found.miss(f"compiling for sm_{architecture}", "There is no nvcc on the path")
        return
    setup = runpy.run_path(str(ROOT / "csrc" / "setup.py"))
    with tempfile.TemporaryDirectory() as folder:
        options = ["-std=c++17", "-O3", "-DUSE_CUDA", *setup["STABLE_ABI"], "-Xptxas", "-v"]
        code = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
        include = f"-I{setup['torch_folder']() / 'include'}"
        source = str(ROOT / "csrc" / "src" / "cuda.cu")
        command = [nvcc, *options, code, include, "-c", source, "-o", f"{folder}/kernels.o"]
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    registers = [int(number) for number in re.findall(r"Used (\d+) registers", ran.stdout)]
    spilled = [int(number) for number in re.findall(r"(\d+) bytes spill stores", ran.stdout)]
    if ran.returncode or not registers:
        print(ran.stdout)
        found.miss(f"compiling for sm_{architecture}", "nvcc fails; the log has its words")
        return
    most = f"compiled for sm_{architecture}: at most {max(registers)} registers, {max(spilled, default=0)} bytes spilled"
    found.add(most, len(registers), 0, 0)


# The op


def op(path: Path) -> None:
    """The three shapes of the paper's network, against plain PyTorch and a kernel with a thread a channel."""
    found = Found(path, ["shapes and type", "plain PyTorch ms", "compiled ms", "ratio", "floor ms"])
    import torch

    from benchmarks import deform_attn

    if not has_gpu():
        for case in deform_attn.CASES:
            with torch._subclasses.fake_tensor.FakeTensorMode():
                inputs = deform_attn.make(case, torch.bfloat16, "cpu", 1)
                output, gradients = inputs.run(), inputs.differentiate()
            shapes = ", ".join(str(list(tensor.shape)) for tensor in (output, *gradients))
            found.add(f"{case.name}: output and gradients without contents {shapes}", "", "", "", "")
        found.miss("times of the op", NO_GPU)
        return
    speed = bandwidth()
    rows = json.loads(benchmark("deform_attn.py", "--device", "cuda", "--json"))["rows"]
    cases = {case.name: case for case in deform_attn.CASES}
    for row in rows:
        times = row["milliseconds"]
        if row["type"] == "rival":
            for kind in ("forward", "backward"):
                rival, ours = times[f"rival_{kind}"], times[f"ours_{kind}"]
                found.add(
                    f"{row['case']}, {kind}, fp32, against a thread a channel", f"{rival:.3f}", f"{ours:.3f}", f"{rival / ours:.1f}", ""
                )
            continue
        for kind, passes in (("forward", 1), ("both", 3)):
            plain, ours = times[f"reference_{kind}"], times[f"native_{kind}"]
            floor = passes * traffic(deform_attn.make(cases[row["case"]], deform_attn.FULL[row["type"]], "cpu", 1)) / speed * 1e3
            name = f"{row['case']}, {'forward' if kind == 'forward' else 'forward and backward'}, {row['type']}"
            found.add(name, f"{plain:.3f}", f"{ours:.3f}", f"{plain / ours:.1f}", f"{floor:.4f}")


def traffic(inputs: Any) -> int:
    """Bytes that one pass must read or write at the least: each input and the output once. A backward pass reads them and writes
    the gradients, twice as much."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (inputs.value, inputs.offsets, inputs.logits, inputs.probe))


def bandwidth() -> float:
    """Bytes a second that copying within the device's memory reads and writes."""
    import torch

    source = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / min(seconds(lambda: target.copy_(source)) for _ in range(5))


def seconds(call: Callable[[], Any]) -> float:
    """Of one call, by the device's own clock."""
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def rate(precision: str) -> float:
    """Floating-point operations a second of a large matrix product: what the network's are compared with."""
    import torch

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    a = torch.randn(8192, 8192, device="cuda", dtype=kind)
    return 2 * 8192**3 / min(seconds(lambda: a @ a) for _ in range(10))


# The network


def network(path: Path, preset: str = "paper-large", batch: int = 4) -> None:
    """Inference and a training step: time, memory, and the share of what the device can compute."""
    found = Found(path, [f"{preset}, {batch} images", "ms an image", "peak GiB", "share of a matrix product's rate"])
    from benchmarks.refiner import operations

    forward, both, _ = operations(preset)
    found.add("counted, forward and training step", "", "", f"{forward / 1e9:.0f} and {both / 1e9:.0f} GFLOP an image")
    if not has_gpu():
        found.miss("times of the network", NO_GPU)
        return
    import torch

    from benchmarks.half_precision import step

    for precision in ("fp32", "bf16"):
        peak = rate(precision)
        for compiled in (False, True):
            assignments = [*SETTINGS, f"training.compile={str(compiled).lower()}"]
            for number, work, count in ((1, "inference", forward), (0, "training step", both)):
                name = f"{work}, {precision}{', compiled' if compiled else ''}"
                if compiled and number:
                    continue  # training.compile is for training
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
                try:
                    call = step(preset, precision, batch, assignments, "cuda")[number]
                    for _ in range(3):
                        call()
                    taken = median(seconds(call) for _ in range(10)) / batch
                except (RuntimeError, MemoryError) as error:
                    found.miss(name, str(error).splitlines()[0][:200])
                    continue
                memory = torch.cuda.max_memory_allocated() / 2**30
                found.add(name, f"{1e3 * taken:.1f}", f"{memory:.1f}", f"{100 * count / taken / peak:.0f} %")


def refiner(path: Path) -> None:
    """The CLIP refiner's step, by its own script."""
    found = Found(path, ["variant", "what the script says"])
    if not has_gpu():
        for line in benchmark("refiner.py", "--count").strip().splitlines():
            found.add("counted", line.strip().strip("|").replace("|", ","))
        found.miss("times of the refiner's step", NO_GPU)
        return
    for precision in ("fp32", "bf16"):
        options = ["--device", "cuda", "--precision", precision, "--heads", "10", "--images", "8"]
        for line in benchmark("refiner.py", *options).strip().splitlines():
            found.add(precision, line.strip().strip("|").replace("|", ","))


def processes(path: Path) -> None:
    """Steps of a training on one GPU and on all, each with its own images."""
    import torch

    count = torch.cuda.device_count() if has_gpu() else 0
    found = Found(path, ["GPUs", "images a second", "of the rate of one"])
    if count == 0:
        # Two processes on the host: the same road, with other arithmetic.
        first, second = train_rate(1, "cpu"), train_rate(2, "cpu")
        found.add("none: two processes on the host take the same road", "ran" if first and second else "failed", "")
        found.miss("rates of several GPUs", NO_GPU)
        return
    first = train_rate(1, "cuda")
    found.add(1, f"{first:.1f}", "1.00")
    if count == 1:
        found.miss("rates of several GPUs", "There is one GPU here")
        return
    for sharded in (False, True):
        several = train_rate(count, "cuda", sharded)
        found.add(f"{count}{', parameters shared out' if sharded else ''}", f"{several:.1f}", f"{several / first:.2f}")


def train_rate(count: int, device: str, sharded: bool = False) -> float:
    """Images a second of the second half of a short training."""
    small = ["--preset", "paper-large", "--steps", "60", "--batch-size", str(4 * count)]
    tiny = ["--preset", "quick", "--steps", "2", "--batch-size", str(2 * count), "--image-size", "64"]
    options = [*(tiny if device == "cpu" else [*small, "--precision", "bf16"]), "--device", device]
    more = [*SETTINGS, "refiner.name=none", *(["training.shard=true"] if sharded else [])]
    sets = [word for assignment in more for word in ("--set", assignment)]
    with tempfile.TemporaryDirectory() as folder:
        call = ["focus_framework", "train", "--task-plugin", "shadow", *options, *sets, "--out", f"{folder}/run"]
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m"] if count > 1 else ["-m"]
        subprocess.run([sys.executable, *launch, *call], cwd=ROOT, check=True)
        lines = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["images_per_second"] for line in lines if "images_per_second" in line]
    return float(median(rates[len(rates) // 2 :]))


def profile(path: Path, preset: str = "paper-large", batch: int = 4) -> None:
    """Where a training step spends its time."""
    found = Found(path, ["the costliest of a training step", "share of the time"])
    import torch

    from benchmarks.half_precision import step

    device = "cuda" if has_gpu() else "cpu"
    chosen, images = (preset, batch) if has_gpu() else ("quick", 2)
    call = step(chosen, "bf16" if has_gpu() else "fp32", images, SETTINGS, device)[0]
    for _ in range(2):
        call()
    activities = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if has_gpu() else [])]
    with torch.profiler.profile(activities=activities) as watched:
        call()
    own = "self_device_time_total" if has_gpu() else "self_cpu_time_total"
    events = sorted(watched.key_averages(), key=lambda event: getattr(event, own), reverse=True)
    whole = sum(getattr(event, own) for event in events)
    for event in events[:3]:
        found.add(f"{chosen} on {device}: {event.key}", f"{100 * getattr(event, own) / whole:.0f} %")
    if not has_gpu():
        found.miss(f"the profile of {preset}", f"{NO_GPU}: the preset quick was looked at on the processor")


PARTS = {
    "kernels": Part("The kernels of deformable attention", kernels),
    "op": Part("Deformable attention at the network's shapes", op),
    "network": Part("Inference and a training step", network),
    "refiner": Part("The refiner's step", refiner),
    "processes": Part("Several GPUs", processes),
    "profile": Part("What a training step spends its time on", profile),
}
