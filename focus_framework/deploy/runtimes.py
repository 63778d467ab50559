"""What an image costs in other runtimes than PyTorch: the same network on the same images, by turns."""

from __future__ import annotations

import json
import logging
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from ..checkpoint.description import describe
from ..checkpoint.format import write_checkpoint
from ..config.schema import RunConfig
from ..errors import ConfigError, WeightsError
from ..inference.model import Model
from ..model.build import build_network
from ..model.network import MULTIPLE
from ..plugin.registry import registry
from .export.comparing import Case, arguments, picture_of
from .export.making import export
from .one_runtime import RUNTIMES

INSTALL = {"onnxruntime": 'pip install "focus-framework[export]"', "openvino": "pip install openvino"}
DISTRIBUTIONS = {"pytorch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino"}

logger = logging.getLogger(__name__)


class Pass(TypedDict):
    """One pass of a runtime over all calls."""

    wall: float
    """Seconds."""
    processor: float
    """Seconds of all its threads."""
    memory: float | None
    """MiB that the process has had at most until then."""


class RuntimeTiming(TypedDict):
    milliseconds: float
    """An image, the median of the passes."""
    peak_memory: float | None
    """MiB of a process with all that it loads."""
    largest_difference: float
    """Of a probability from the first runtime's."""


class RuntimeTimings(TypedDict):
    """What ``focus bench --runtimes ... --json`` prints."""

    device: str
    threads: int
    versions: dict[str, str]
    image_size: int
    batch_size: int
    parameters: int
    results: dict[str, RuntimeTiming]


def bench_runtimes(
    model: Model,
    names: Sequence[str],
    *,
    image_size: int,
    batch_size: int,
    repeats: int,
    said: Callable[[str], None] = logger.info,
) -> RuntimeTimings:
    """Milliseconds an image, memory and agreement of each runtime, out of `checked_runtimes`.

    The model is exported with this size of image, in float32. Each runtime has a process of its own, with as many threads as PyTorch has
    here. They take turns, so that other work of the machine meets all of them.
    """
    side = max(2, -(-image_size // MULTIPLE)) * MULTIPLE
    size = (side, side)
    model = model.for_task(model.task)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"pytorch": folder / "model.safetensors"}
        write_checkpoint(files["pytorch"], model.network.state_dict(), model.description)
        if any(name != "pytorch" for name in names):
            export(model, folder / "model.onnx", size=size, said=said)
        pictures = [picture_of(model.task, number, size) for number in range(batch_size)]
        case = Case(pictures, [model.prepare_to(picture, size, size) for picture in pictures])
        write_calls(folder / "calls.npz", [arguments(case, raw=False, model=model)])
        said("taking turns")
        maps = {name: folder / f"{name}.npz" for name in names}
        commands = {
            name: command(name, files.get(name, folder / "model.onnx"), folder / "calls.npz", maps[name], torch.get_num_threads())
            for name in names
        }
        passes = take_turns(commands, repeats)
        found = {name: read_maps(path) for name, path in maps.items()}
    return {
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "versions": {name: version(DISTRIBUTIONS[name]) for name in names},
        "image_size": side,
        "batch_size": batch_size,
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "results": {
            name: {
                "milliseconds": 1e3 * statistics.median(each["wall"] for each in passes[name]) / batch_size,
                "peak_memory": passes[name][-1]["memory"],
                "largest_difference": max(float(np.abs(a - b).max()) for a, b in zip(found[name], found[names[0]], strict=True)),
            }
            for name in names
        },
    }


def untrained(config: RunConfig) -> Model:
    """A model with random weights, on which no time depends."""
    torch.manual_seed(config.training.seed)
    network, task = build_network(config, weights="none"), registry().find_task(config.task)
    return Model(config, network, describe(config, network, task, task.get().pairs())).eval()


def checked_runtimes(text: str) -> list[str]:
    """Names of runtimes out of a list with commas, each once. Raises `ConfigError` for one that is not known or not installed."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in RUNTIMES:
            raise ConfigError(f"runtime {name!r} is not known; choose from {', '.join(RUNTIMES)}")
        if name != "pytorch" and find_spec(name) is None:
            raise ConfigError(f"{name} is not installed; run: {INSTALL[name]}")
    return names


def write_calls(path: Path, calls: Sequence[Mapping[str, NDArray[Any]]]) -> None:
    """What an exported file is called with, for `one_runtime`."""
    numbered: dict[str, Any] = {f"{number}_{name}": array for number, call in enumerate(calls) for name, array in call.items()}
    np.savez(path, **numbered)


def read_maps(path: Path) -> list[NDArray[np.float32]]:
    """The maps `[B, *size]` that a runtime gave for each call."""
    with np.load(path) as found:
        return [found[key] for key in found.files]


def command(name: str, file: Path, calls: Path, maps: Path, threads: int) -> list[str]:
    """Starts one runtime for `take_turns`, with the calls of `write_calls`; the maps of the first pass are written to an .npz file."""
    return [sys.executable, "-m", f"{__package__}.one_runtime", name, *map(str, (file, calls, maps, threads))]


def take_turns(
    commands: Mapping[str, Sequence[str]], repeats: int, environment: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, list[Pass]]:
    """`repeats` passes of each of several processes that answer as `one_runtime.answer` does, one after another in turn. Raises
    `WeightsError` where one cannot run the network."""
    with ExitStack() as ending:
        started = {}
        for name, call in commands.items():
            process = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=(environment or {}).get(name))
            ending.enter_context(process)
            ending.callback(process.kill)
            _answer(name, process)
            started[name] = process
        passes: dict[str, list[Pass]] = {name: [] for name in started}
        for _ in range(repeats):
            for name, process in started.items():
                assert process.stdin
                print(file=process.stdin, flush=True)
                passes[name].append(_answer(name, process))
    return passes


def _answer(name: str, process: subprocess.Popen[str]) -> Any:
    assert process.stdout
    line = process.stdout.readline()
    told = json.loads(line) if line else {"error": f"it ended with exit code {process.wait()}"}
    if "error" in told:
        raise WeightsError(f"{name} cannot run the network: {told['error']}")
    return told
