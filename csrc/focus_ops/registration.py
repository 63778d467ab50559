"""What PyTorch needs to know of the operators besides their kernels: derivatives, shapes without data, and autocast.

Done in Python because the stable ABI has no entry for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd.forward_ad import unpack_dual
from torch.autograd.function import _SingleLevelFunction

_ops = torch.ops.focus_ops


# Shapes and types of the results, for torch.compile and torch.export. What the kernels refuse (arguments.cpp) is refused here too.

_LARGEST = 2**31 - 1
_CUDA_LEVELS = 32
_VALUES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _need(condition: Any, message: str) -> None:
    torch._check(condition, lambda: f"focus_ops: {message}")


def _need_shape(name: str, tensor: Tensor, *sizes: Any) -> None:
    _need(tensor.dim() == len(sizes), f"{name} has shape {list(tensor.shape)}, needed is {list(sizes)}")
    for size, needed in zip(tensor.shape, sizes, strict=True):
        _need(size == needed, f"{name} has shape {list(tensor.shape)}, needed is {list(sizes)}")


def _check(
    value: Tensor, spatial_shapes: list[int], positions: Tensor, weights: Tensor, reference_points: Tensor | None = None
) -> tuple[Any, Any, Any]:
    """Refuses what the kernels refuse; returns the sizes of the output."""
    fused = reference_points is not None
    _need(value.dim() == 4, f"value has shape {list(value.shape)}, needed is [batch, sum of areas, heads, channels of a head]")
    name = "offsets" if fused else "locations"
    _need(positions.dim() == 6, f"{name} has shape {list(positions.shape)}, needed is [batch, queries, heads, levels, points, 2]")
    _need(len(spatial_shapes) % 2 == 0, f"spatial_shapes has {len(spatial_shapes)} numbers, needed are height and width of each level")
    batch, length, heads, channels = value.shape
    queries, levels, points = positions.shape[1], len(spatial_shapes) // 2, positions.shape[4]
    area: Any = 0
    for height, width in zip(spatial_shapes[::2], spatial_shapes[1::2], strict=True):
        for side in (height, width):
            _need(side >= 0, f"spatial_shapes has a negative size: {spatial_shapes}")
            _need(side <= _LARGEST, f"spatial_shapes {spatial_shapes} has more than 2^31 - 1 positions")
        area = area + height * width
    _need(area <= _LARGEST, f"spatial_shapes {spatial_shapes} has more than 2^31 - 1 positions")
    _need(area == length, f"value of shape {list(value.shape)} has {length} positions, but spatial_shapes {spatial_shapes} has {area}")
    _need_shape(name, positions, batch, queries, heads, levels, points, 2)
    _need_shape("logits" if fused else "weights", weights, batch, queries, heads, levels, points)
    _need(value.dtype in _VALUES, "value must be float32, float64, bfloat16 or float16")
    _need(value.device.type != "cuda" or levels <= _CUDA_LEVELS, f"{levels} levels, on CUDA at most {_CUDA_LEVELS}")
    predicted = reference_points is not None and positions.dtype == weights.dtype == value.dtype
    settled = [(tensor, value.dtype if predicted else _real(value)) for tensor in (positions, weights)]
    if reference_points is not None:
        shared = reference_points.dim() > 0 and reference_points.shape[0] == 1
        _need_shape("reference_points", reference_points, 1 if shared else batch, queries, levels, 2)
        settled.append((reference_points, _real(value)))
    for tensor, dtype in settled:
        _need(tensor.device == value.device, "positions and weights must lie on the device of value")
        _need(tensor.dtype == dtype, f"positions and weights must be {dtype} for a value in {value.dtype}")
    return batch, queries, heads * channels


def _check_gradient(grad_output: Tensor, value: Tensor, sizes: tuple[Any, Any, Any]) -> None:
    _need_shape("grad_output", grad_output, *sizes)
    _need(grad_output.device == value.device, "grad_output lies on another device than value")
    _need(grad_output.dtype == value.dtype, "grad_output and value must have the same type")


def _real(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32)


@torch.library.register_fake("focus_ops::deform_attn")
def _(value: Tensor, spatial_shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(_check(value, spatial_shapes, locations, weights))


@torch.library.register_fake("focus_ops::deform_attn_from_logits")
def _(value: Tensor, spatial_shapes: list[int], reference_points: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
    return value.new_empty(_check(value, spatial_shapes, offsets, logits, reference_points))


@torch.library.register_fake("focus_ops::deform_attn_backward")
def _(
    grad_output: Tensor, value: Tensor, spatial_shapes: list[int], locations: Tensor, weights: Tensor, deterministic: bool
) -> tuple[Tensor, Tensor, Tensor]:
    _check_gradient(grad_output, value, _check(value, spatial_shapes, locations, weights))
    return _like(value), _like(locations), _like(weights)


@torch.library.register_fake("focus_ops::deform_attn_from_logits_backward")
def _(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: list[int],
    reference_points: Tensor,
    offsets: Tensor,
    logits: Tensor,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    _check_gradient(grad_output, value, _check(value, spatial_shapes, offsets, logits, reference_points))
    return _like(value), _like(offsets), _like(logits)


def _like(tensor: Tensor) -> Tensor:
    """The kernels return gradients that are contiguous, whatever the input was."""
    return tensor.new_empty(tensor.shape)


# Derivatives, by functions of autograd of our own. Those that torch.library.register_autograd makes do not know torch.func.grad, and
# take the result for a constant in forward mode. They are "single level" as torch's own are inside a kernel: the dispatcher, which
# called it, has already found the level of torch.func's nested derivatives.


class _DeformAttn(_SingleLevelFunction):
    @staticmethod
    def forward(value: Tensor, spatial_shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
        return _below_autograd(_ops.deform_attn, value, spatial_shapes, locations, weights)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _save(ctx, inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, locations, weights = ctx.saved_tensors
        deterministic = torch.are_deterministic_algorithms_enabled()
        grad_value, grad_locations, grad_weights = _ops.deform_attn_backward(
            gradient, value, ctx.spatial_shapes, locations, weights, deterministic
        )
        return grad_value, None, grad_locations, grad_weights


class _DeformAttnFromLogits(_SingleLevelFunction):
    @staticmethod
    def forward(value: Tensor, spatial_shapes: list[int], reference_points: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
        return _below_autograd(_ops.deform_attn_from_logits, value, spatial_shapes, reference_points, offsets, logits)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _save(ctx, inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, reference_points, offsets, logits = ctx.saved_tensors
        deterministic = torch.are_deterministic_algorithms_enabled()
        grad_value, grad_offsets, grad_logits = _ops.deform_attn_from_logits_backward(
            gradient, value, ctx.spatial_shapes, reference_points, offsets, logits, deterministic
        )
        grad_reference = _reference_gradient(ctx, reference_points, grad_offsets) if ctx.needs_input_grad[2] else None
        return grad_value, None, grad_reference, grad_offsets, grad_logits


def _below_autograd(operator: Any, *arguments: Any) -> Any:
    # A function's `forward` runs with gradients off; derivatives of torch.func that lie around this one still want theirs.
    nested = torch.enable_grad() if torch._C._are_functorch_transforms_active() else nullcontext()
    with torch._C._AutoDispatchBelowAutograd(), nested:
        return operator(*arguments)


def _save(ctx: Any, inputs: tuple[Any, ...]) -> None:
    value, ctx.spatial_shapes, *others = inputs
    ctx.save_for_backward(value, *others)


def _reference_gradient(ctx: Any, reference_points: Tensor, grad_offsets: Tensor) -> Tensor:
    """A reference point moves all samples around it: by (width, height) pixels where an offset moves one by a pixel."""
    pixels = grad_offsets.to(reference_points.dtype).sum((2, 4))  # [B, Q, levels, 2]
    sizes = zip(ctx.spatial_shapes[::2], ctx.spatial_shapes[1::2], strict=True)
    # Multiplied by plain numbers: a tensor made of them would tie a compiled graph to one size.
    levels = [
        torch.stack((pixels[:, :, level, 0] * width, pixels[:, :, level, 1] * height), -1) for level, (height, width) in enumerate(sizes)
    ]
    gradient = torch.stack(levels, 2) if levels else torch.zeros_like(pixels)
    return gradient.sum(0, keepdim=True) if reference_points.shape[0] == 1 else gradient


class _Backward(_SingleLevelFunction):
    """What computes first derivatives and has none itself: without it, derivatives of derivatives would silently be zero."""

    @staticmethod
    def forward(operator: Any, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        return _below_autograd(operator, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise NotImplementedError("deformable attention has no second derivative; call backward without create_graph=True")


def _differentiable(operator: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel for autograd of an operator: `function` where a gradient is wanted."""

    def call(*arguments: Any) -> Any:
        tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
        if any(unpack_dual(tensor).tangent is not None for tensor in tensors):
            raise NotImplementedError(
                "deformable attention has no forward-mode derivative (torch.func.jvp); use torch.func.vjp, torch.func.grad or backward"
            )
        if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
            return _below_autograd(operator, *arguments)
        with enable_single_level_autograd_function():
            return function(*arguments)

    return call


_autograd_rules = torch.library.Library("focus_ops", "IMPL")  # kept: the rules live as long as this object
for _name, _function in (("deform_attn", _DeformAttn), ("deform_attn_from_logits", _DeformAttnFromLogits)):
    _forward, _derivative = getattr(_ops, _name), getattr(_ops, f"{_name}_backward")
    _autograd_rules.impl(_name, _differentiable(_forward, _function.apply), "Autograd")
    _autograd_rules.impl(f"{_name}_backward", _differentiable(_derivative, partial(_Backward.apply, _derivative)), "Autograd")


# Autocast: the value takes autocast's type; what decides where to sample stays in float32, or in that type if a network predicted
# it so. torch.library.register_autocast casts every tensor to one type and cannot say that.


def _autocast(name: str, device: str) -> Any:
    operator = getattr(_ops, name)

    def call(value: Tensor, spatial_shapes: list[int], *predicted: Tensor) -> Tensor:
        double = value.dtype == torch.float64
        value = value if double else value.to(torch.get_autocast_dtype(device))
        if len(predicted) == 3 and predicted[1].dtype == predicted[2].dtype == value.dtype:  # read as they are
            settled = [predicted[0].to(_real(value)), *predicted[1:]]
        else:
            settled = [tensor.to(_real(value)) for tensor in predicted]
        with torch.autocast(device, enabled=False):
            return operator(value, spatial_shapes, *settled)

    return call


_autocast_rules = torch.library.Library("focus_ops", "IMPL")  # kept: the rules live as long as this object
for _name in ("deform_attn", "deform_attn_from_logits"):
    _autocast_rules.impl(_name, _autocast(_name, "cpu"), "AutocastCPU")
    _autocast_rules.impl(_name, _autocast(_name, "cuda"), "AutocastCUDA")
