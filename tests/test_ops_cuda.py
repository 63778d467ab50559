"""The CUDA kernels. Without a GPU their source is compiled for the host and every block runs as threads; this shows that indices,
corners, shuffles, atomics and the choice among kernels are right, and nothing about speed. With a GPU the real ones run too."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from focus_framework import ops
from focus_framework.model.ops import reference

ROOT = Path(__file__).parents[1]
SHAPES = [(3, 5), (0, 2), (4, 2), (1, 1)]
LENGTH = sum(height * width for height, width in SHAPES)
COMPILER = shutil.which("g++")

has_gpu = torch.cuda.is_available() and ops.describe("cuda")["backend"] == "native"
needs_gpu = pytest.mark.skipif(not has_gpu, reason="no GPU, or focus_ops was built without CUDA")


class Call(ctypes.Structure):
    """`Call` of cuda_emulation/library.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "length", "queries", "heads", "channels", "points", "levels")),
        *((name, ctypes.c_void_p) for name in ("shapes", "value", "positions", "weights", "reference", "grad_output")),
        ("reference_batch", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("output", "grad_value", "grad_positions", "grad_weights", "own_weights")),
        ("deterministic", ctypes.c_bool),
    ]


@pytest.fixture(scope="module")
def emulation(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if COMPILER is None:
        pytest.skip("there is no g++ to compile the kernels for the host")
    library = tmp_path_factory.mktemp("emulation") / "library.so"
    include = [f"-I{ROOT / 'csrc' / 'src'}", f"-I{Path(torch.__file__).parent / 'include'}"]
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared", "-pthread"]
    source = ROOT / "tests" / "cuda_emulation" / "library.cpp"
    subprocess.run([COMPILER, *flags, *include, str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def inputs(width: int, dtype: torch.dtype, *, fused: bool) -> dict[str, Tensor]:
    """More rows than a block has groups, fewer than two blocks have; samples inside, at the border, outside, and nowhere."""
    generator = torch.Generator().manual_seed(5)
    precision = torch.promote_types(dtype, torch.float32)
    batch, queries, heads, points = 2, 7, 3, 3

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    positions = draw(batch, queries, heads, len(SHAPES), points, 2) * 1.6 - 0.3
    positions[0, 0, 0, 0, :, 0] = torch.tensor([float("nan"), float("inf"), -1e30])
    drawn = {
        "value": (draw(batch, LENGTH, heads, width) - 0.5).to(dtype),
        "positions": (positions * 4 if fused else positions).to(precision),
        "weights": (draw(batch, queries, heads, len(SHAPES), points) * 4 - 2).to(precision),
        "grad_output": (draw(batch, queries, heads * width) - 0.5).to(dtype),
    }
    return {**drawn, "reference": draw(batch, queries, len(SHAPES), 2).to(precision)} if fused else drawn


def plain(given: dict[str, Tensor]) -> list[Tensor]:
    """Output and gradients by plain PyTorch in float64."""
    exact = {name: tensor.double() for name, tensor in given.items()}
    leaves = [exact[name].requires_grad_() for name in ("value", "positions", "weights")]
    if "reference" in exact:
        output = reference.deform_attn_from_logits(leaves[0], SHAPES, exact["reference"], *leaves[1:])
    else:
        output = reference.deform_attn(leaves[0], SHAPES, *leaves[1:])
    return [output.detach(), *torch.autograd.grad(output, leaves, exact["grad_output"])]


def emulated(library: ctypes.CDLL, given: dict[str, Tensor], *, deterministic: bool) -> list[Tensor]:
    value, positions, weights = given["value"], given["positions"], given["weights"]
    batch, queries, heads, levels, points = weights.shape
    results = {
        "output": torch.full_like(given["grad_output"], float("nan")),
        "grad_value": torch.zeros(value.shape, dtype=weights.dtype),
        "grad_positions": torch.full_like(positions, float("nan")),
        "grad_weights": torch.full_like(weights, float("nan")),
    }
    shapes = torch.tensor(SHAPES)
    scratch = torch.empty_like(weights)
    call = Call(batch, value.shape[1], queries, heads, value.shape[3], points, levels, deterministic=deterministic)
    call.reference_batch = given["reference"].shape[0] if "reference" in given else 0
    for name, tensor in {**given, **results, "shapes": shapes, "own_weights": scratch}.items():
        setattr(call, name, tensor.data_ptr())
    run: Callable[..., None] = getattr(library, f"run_{str(value.dtype).removeprefix('torch.')}")
    run(ctypes.byref(call))
    return list(results.values())


# What one rounding of a result to its type, and sums in single precision, may cost relative to the largest number.
TOLERANCES = {torch.float64: 1e-13, torch.float32: 2e-6, torch.float16: 2**-11, torch.bfloat16: 2**-8}


# The general kernel, and those for known widths in 16 bytes of each type.
KERNELS = [
    (5, torch.float64),
    (5, torch.float32),
    (16, torch.float16),
    (32, torch.float32),
    (32, torch.bfloat16),
    (64, torch.float32),
]


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("width, dtype", KERNELS)
def test_the_kernels_give_what_plain_pytorch_gives(
    emulation: ctypes.CDLL, width: int, dtype: torch.dtype, fused: bool, deterministic: bool
) -> None:
    given = inputs(width, dtype, fused=fused)
    ours, expected = emulated(emulation, given, deterministic=deterministic), plain(given)
    for result, exact in zip(ours, expected, strict=True):
        assert (result.double() - exact).abs().max() <= TOLERANCES[dtype] * exact.abs().max()


def test_memory_that_is_not_aligned_takes_the_general_kernel(emulation: ctypes.CDLL) -> None:
    given = inputs(32, torch.float32, fused=False)
    room = torch.empty(given["value"].numel() + 1)
    shifted = room[1:].view_as(given["value"]).copy_(given["value"])
    assert shifted.data_ptr() % 16 != 0
    ours = emulated(emulation, {**given, "value": shifted}, deterministic=False)
    for result, exact in zip(ours, plain(given), strict=True):
        assert (result.double() - exact).abs().max() <= TOLERANCES[torch.float32] * exact.abs().max()


@needs_gpu
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_the_gpu_gives_what_plain_pytorch_gives(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, fused: bool) -> None:
    monkeypatch.setenv("FOCUS_OPS", "native")
    given = inputs(32, dtype, fused=fused)
    leaves = [given[name].cuda().requires_grad_() for name in ("value", "positions", "weights")]
    if fused:
        output = ops.deform_attn_from_logits(leaves[0], SHAPES, given["reference"].cuda(), *leaves[1:])
    else:
        output = ops.deform_attn(leaves[0], SHAPES, *leaves[1:])
    ours = [output, *torch.autograd.grad(output, leaves, given["grad_output"].cuda())]
    for result, exact in zip(ours, plain(given), strict=True):
        assert (result.double().cpu() - exact).abs().max() <= 2 * TOLERANCES[dtype] * exact.abs().max()


@needs_gpu
def test_the_deterministic_way_gives_the_same_bits_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOCUS_OPS", "native")
    given = inputs(32, torch.float32, fused=True)
    leaves = [given[name].cuda().requires_grad_() for name in ("value", "positions", "weights")]
    output = ops.deform_attn_from_logits(leaves[0], SHAPES, given["reference"].cuda(), *leaves[1:])
    torch.use_deterministic_algorithms(True)
    try:
        runs = [torch.autograd.grad(output, leaves, given["grad_output"].cuda(), retain_graph=True) for _ in range(5)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(ours, first) for run in runs[1:] for ours, first in zip(run, runs[0], strict=True))
