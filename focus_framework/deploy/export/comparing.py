"""The check of a file as it is made: what it gives, beside what the model gives for the same images."""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import PluginError, WeightsError
from ...inference.model import ALIKE, Model, Prepared
from ...model.network import MULTIPLE
from ...plugin.interfaces import resolve
from ...plugin.registry import registry
from . import second
from .graph import INPUTS, OUTPUTS, Size

BATCHES = (1, 2, 3)
LARGEST_DIFFERENCE = 1e-4
"""Of a probability of a float32 file; see `Comparison.verdict`."""
ROUNDING, LARGEST_ROUNDING = 4, 1e-3
"""So many times the model's own rounding is allowed where that is more, and never more than this."""
DIFFERENT_PIXELS = 1e-3
"""Share of the pixels of masks."""
SEED = 7
EDGE = (8, 16)
"""Pixels of padding of the images of a check."""


@dataclass(frozen=True)
class Case:
    """Images of one size, as both get them."""

    pictures: Sequence[NDArray[np.uint8]]
    prepared: Sequence[Prepared]


@dataclass(frozen=True)
class Comparison:
    """What came out for a batch of images of one size."""

    batch: int
    height: int
    width: int
    largest_difference: float
    """Of a probability, over both outputs."""
    mean_difference: float
    different_pixels: float
    """Share of the pixels of the masks at the size asked for."""
    rounding: float = 0.0
    """How far the model is from itself in double precision, of a probability; looked at where that may excuse the largest difference."""

    def verdict(self, *, half: bool, hard: bool) -> str:
        """Why it is too far from the model; empty where it is not. Probabilities of a `hard` rule are 0 and 1, so that the largest
        difference says no more than whether any pixel differs."""
        if half:
            return (
                ""
                if self.mean_difference <= ALIKE
                else f"probabilities differ by {self.mean_difference:.2g} on average, allowed is {ALIKE:g}"
            )
        allowed = max(LARGEST_DIFFERENCE, min(ROUNDING * self.rounding, LARGEST_ROUNDING))
        if not hard and not self.largest_difference <= allowed:
            return f"a probability differs by {self.largest_difference:.2g}, allowed is {allowed:.2g}"
        if not self.different_pixels <= DIFFERENT_PIXELS:
            return f"{self.different_pixels:.2%} of the mask's pixels differ, allowed is {DIFFERENT_PIXELS:.2%}"
        return ""


def check_sizes(model: Model, size: Size | None) -> list[Size]:
    """Three network sizes around the model's own, or the one that is fixed."""
    if size is not None:
        return [size]
    side = model.config.preprocessing.size
    less = max(2 * MULTIPLE, side * 3 // 4 // MULTIPLE * MULTIPLE)
    return [(side, side), (less, side + MULTIPLE), (side + 2 * MULTIPLE, less)]


def cases(model: Model, sizes: Sequence[Size]) -> list[Case]:
    """Batches of one, two and three images for each size: practice images of the task where it draws any, patches of colour elsewhere."""
    made: list[Case] = []
    for height, width in sizes:
        for batch in BATCHES:
            source = (height + 37, width * 2 - 11)
            pictures = [picture_of(model.task, len(made) + number, source) for number in range(batch)]
            inner = (height - EDGE[0], width - EDGE[1])
            made.append(Case(pictures, [model.prepare_to(picture, inner, (height, width)) for picture in pictures]))
    return made


def picture_of(task: str, number: int, size: Size) -> NDArray[np.uint8]:
    """An image `[H, W, 3]` of the task's practice, or of patches of colour."""
    random = np.random.default_rng((SEED, number))
    entry = next((entry for entry in registry().of_kind("task") if entry.name == task and entry.description), None)
    practice: Any = entry.get().practice if entry else None
    if practice is not None:
        return np.ascontiguousarray(resolve(practice)(random, max(size))[0][: size[0], : size[1]])
    patches = random.integers(0, 256, (-(-size[0] // 24), -(-size[1] // 24), 3), dtype=np.uint8)
    return np.ascontiguousarray(patches.repeat(24, 0).repeat(24, 1)[: size[0], : size[1]])


def arguments(case: Case, *, raw: bool, model: Model) -> dict[str, NDArray[Any]]:
    """What the file is called with, by the names of its inputs."""
    first = case.prepared[0]
    pixels = torch.stack([prepared.pixels for prepared in case.prepared])
    if raw:  # what the padding holds must not matter
        back = ((pixels * model.std + model.mean) * 255).round().clamp(0, 255).to(torch.uint8)
        back[:, :, first.size[0] :], back[:, :, :, first.size[1] :] = 99, 99
        pixels = back.permute(0, 2, 3, 1).contiguous()
    return dict(zip(INPUTS, (pixels.numpy(), np.array(first.size), np.array(first.source)), strict=True))


def run_file(path: Path, calls: Sequence[dict[str, NDArray[Any]]]) -> list[list[NDArray[np.float32]]]:
    """The outputs of an exported file: of ONNX by onnxruntime, of ``.pt2`` in a second process. Raises `WeightsError` where it does not
    run."""
    try:
        return _run_pt2(path, calls) if path.suffix == ".pt2" else _run_onnx(path, calls)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise WeightsError(f"the exported file does not run: {last}") from error
    except Exception as error:  # onnxruntime has a family of errors of its own, not all of them exported
        if "onnxruntime" not in type(error).__module__:
            raise
        raise WeightsError(f"the exported file does not run in onnxruntime: {' '.join(str(error).split())[:300]}") from error


def _run_onnx(path: Path, calls: Sequence[dict[str, NDArray[Any]]]) -> list[list[NDArray[np.float32]]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [session.run(list(OUTPUTS), call) for call in calls]


def _run_pt2(path: Path, calls: Sequence[dict[str, NDArray[Any]]]) -> list[list[NDArray[np.float32]]]:
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "cases.npz", Path(folder) / "results.npz"
        arrays: dict[str, Any] = {f"{number}_{name}": array for number, call in enumerate(calls) for name, array in call.items()}
        np.savez(given, **arrays)
        subprocess.run([sys.executable, second.__file__, path, given, found], check=True, capture_output=True, text=True)
        with np.load(found) as results:
            return [[results[f"{number}_{output}"] for output in range(len(OUTPUTS))] for number in range(len(calls))]


def compare(path: Path, model: Model, size: Size | None, *, raw: bool) -> list[Comparison]:
    """What a file gives for images of three sizes in batches of 1, 2 and 3, beside what the model predicts for them."""
    made = cases(model, check_sizes(model, size))
    outputs = run_file(path, [arguments(case, raw=raw, model=model) for case in made])
    return [_compared(case, found, model) for case, found in zip(made, outputs, strict=True)]


def _compared(case: Case, found: Sequence[NDArray[np.float32]], model: Model) -> Comparison:
    height, width = case.prepared[0].pixels.shape[-2:]
    whole = [Prepared(prepared.pixels, (height, width), (height, width)) for prepared in case.prepared]
    expected = [np.stack([found.numpy() for found in model.probabilities(batch)]) for batch in (case.prepared, whole)]
    apart = [np.abs(have - want) for have, want in zip(found, expected, strict=True)]
    threshold = model.config.prediction.threshold
    largest = float(max(values.max() for values in apart))
    return Comparison(
        batch=len(case.prepared),
        height=height,
        width=width,
        largest_difference=largest,
        mean_difference=float(apart[0].mean()),
        different_pixels=float(((found[0] > threshold) != (expected[0] > threshold)).mean()),
        rounding=_rounding(case, expected[0], model) if LARGEST_DIFFERENCE < largest <= LARGEST_ROUNDING else 0.0,
    )


def _rounding(case: Case, expected: NDArray[np.float32], model: Model) -> float:
    """How far the model's maps of a case are from those in double precision; 0 where a part of it knows no doubles."""
    exact = Model(model.config, copy.deepcopy(model.network).double(), model.description).eval()
    doubles = [Prepared(prepared.pixels.double(), prepared.size, prepared.source) for prepared in case.prepared]
    try:
        found = np.stack([found.numpy() for found in exact.probabilities(doubles)])
    except (RuntimeError, PluginError):
        return 0.0
    return float(np.abs(found - expected).max())


def as_rows(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The figures for JSON."""
    return [asdict(comparison) for comparison in comparisons]
