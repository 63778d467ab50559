"""Multi-scale deformable attention, compiled: `deform_attn` and `deform_attn_from_logits`.

Importing loads the native library and registers the operators ``torch.ops.focus_ops.*``; it raises what the loader raises where
the library cannot be loaded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from .architectures import covers

__all__ = ["build_info", "deform_attn", "deform_attn_from_logits", "devices", "runs_on"]
__version__ = version("focus-framework-ops")

# By its exact name: an earlier build, for one version of Python, may have left a library beside it.
_files = [Path(__file__).with_name(name) for name in ("_native.abi3.so", "_native.pyd")]
_path = next((path for path in _files if path.exists()), None)
if _path is None:
    raise ImportError("focus_ops holds no compiled library; run: pip install --no-build-isolation --force-reinstall ./csrc")
torch.ops.load_library(str(_path))
_library = ctypes.CDLL(str(_path))

from . import registration  # noqa: E402, F401  (the operators exist only now)


def _text(function: str) -> str:
    call = getattr(_library, function)
    call.restype = ctypes.c_char_p
    return call().decode()


def build_info() -> dict[str, str]:
    """How the library was built and what it runs.

    Keys: ``cuda`` (the toolkit and what its kernels were compiled for, "" where built without), ``cuda_failure`` (why the kernels
    could not be built, "" where they were or were not asked for) and ``instructions`` (of the CPU).
    """
    return {name: _text(f"focus_ops_{name}") for name in ("cuda", "cuda_failure", "instructions")}


def devices() -> tuple[str, ...]:
    """Types of devices that the library has kernels for."""
    return ("cpu", "cuda") if _text("focus_ops_cuda") else ("cpu",)


def runs_on(capability: tuple[int, int]) -> bool:
    """Whether the CUDA kernels were built for devices of this compute capability, as `torch.cuda.get_device_capability` gives it."""
    return covers(_text("focus_ops_cuda").rpartition(" for ")[2].split(","), capability)


def deform_attn(value: Tensor, spatial_shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted bilinear samples of each level, summed for each query and head.

    Args:
        value: `[B, S, heads, D]`, levels one after another, rows first; float32, float64, bfloat16 or float16.
        spatial_shapes: (height, width) of each level; the areas add up to S.
        locations: `[B, Q, heads, levels, points, 2]`, (x, y) in 0..1, float32 (float64 for a float64 value).
        weights: `[B, Q, heads, levels, points]` in the type of `locations`.

    Returns:
        `[B, Q, heads * D]` in the type of `value`.
    """
    return torch.ops.focus_ops.deform_attn(value, [side for shape in spatial_shapes for side in shape], locations, weights)


def deform_attn_from_logits(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], reference_points: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """The same with softmax and locations computed inside.

    The weights are the softmax of `logits` over levels and points, the locations ``reference_points + offsets / (width, height)``.

    Args:
        value, spatial_shapes: as in `deform_attn`.
        reference_points: `[B or 1, Q, levels, 2]`, (x, y) in 0..1, float32 (float64 for a float64 value), as all that follow.
        offsets: `[B, Q, heads, levels, points, 2]` in pixels of each level.
        logits: `[B, Q, heads, levels, points]`.

    Returns:
        `[B, Q, heads * D]` in the type of `value`.
    """
    shapes = [side for shape in spatial_shapes for side in shape]
    return torch.ops.focus_ops.deform_attn_from_logits(value, shapes, reference_points, offsets, logits)
