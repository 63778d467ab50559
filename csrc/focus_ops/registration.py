"""What PyTorch needs to know of the operators besides their kernels: derivatives, shapes without data, and autocast.

Done in Python because the stable ABI has no entry for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_ops = torch.ops.focus_ops


# Shapes and types of the results, for torch.compile and torch.export.


@torch.library.register_fake("focus_ops::deform_attn")
def _(value: Tensor, spatial_shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])


@torch.library.register_fake("focus_ops::deform_attn_from_logits")
def _(value: Tensor, spatial_shapes: list[int], reference_points: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
    return value.new_empty(value.shape[0], offsets.shape[1], value.shape[2] * value.shape[3])


@torch.library.register_fake("focus_ops::deform_attn_backward")
def _(
    grad_output: Tensor, value: Tensor, spatial_shapes: list[int], locations: Tensor, weights: Tensor, deterministic: bool
) -> tuple[Tensor, Tensor, Tensor]:
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
    return _like(value), _like(offsets), _like(logits)


def _like(tensor: Tensor) -> Tensor:
    """The kernels return gradients that are contiguous, whatever the input was."""
    return tensor.new_empty(tensor.shape)


# Derivatives.


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.spatial_shapes, *others = inputs
    ctx.save_for_backward(value, *others)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    value, locations, weights = ctx.saved_tensors
    deterministic = torch.are_deterministic_algorithms_enabled()
    grad_value, grad_locations, grad_weights = _ops.deform_attn_backward(
        gradient, value, ctx.spatial_shapes, locations, weights, deterministic
    )
    return grad_value, None, grad_locations, grad_weights


def _backward_from_logits(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    value, reference_points, offsets, logits = ctx.saved_tensors
    deterministic = torch.are_deterministic_algorithms_enabled()
    grad_value, grad_offsets, grad_logits = _ops.deform_attn_from_logits_backward(
        gradient, value, ctx.spatial_shapes, reference_points, offsets, logits, deterministic
    )
    grad_reference = _reference_gradient(ctx, reference_points, grad_offsets) if ctx.needs_input_grad[2] else None
    return grad_value, None, grad_reference, grad_offsets, grad_logits


def _reference_gradient(ctx: Any, reference_points: Tensor, grad_offsets: Tensor) -> Tensor:
    """A reference point moves all samples around it: by (width, height) pixels where an offset moves one by a pixel."""
    pixels = grad_offsets.sum((2, 4))  # [B, Q, levels, 2]
    sizes = zip(ctx.spatial_shapes[::2], ctx.spatial_shapes[1::2], strict=True)
    # Multiplied by plain numbers: a tensor made of them would tie a compiled graph to one size.
    levels = [
        torch.stack((pixels[:, :, level, 0] * width, pixels[:, :, level, 1] * height), -1) for level, (height, width) in enumerate(sizes)
    ]
    gradient = torch.stack(levels, 2)
    return gradient.sum(0, keepdim=True) if reference_points.shape[0] == 1 else gradient


def _no_second_derivative(ctx: Any, *gradients: Tensor) -> None:
    raise NotImplementedError("deformable attention has no second derivative; call backward without create_graph=True")


torch.library.register_autograd("focus_ops::deform_attn", _backward, setup_context=_save)
torch.library.register_autograd("focus_ops::deform_attn_from_logits", _backward_from_logits, setup_context=_save)
# Without these, gradients of gradients would be taken for constants, and silently be wrong.
torch.library.register_autograd("focus_ops::deform_attn_backward", _no_second_derivative)
torch.library.register_autograd("focus_ops::deform_attn_from_logits_backward", _no_second_derivative)


# Autocast: the value takes autocast's type, what decides where to sample stays in float32. torch.library.register_autocast
# casts every tensor to one type and cannot say that.


def _autocast(name: str, device: str) -> Any:
    operator = getattr(_ops, name)

    def call(value: Tensor, spatial_shapes: list[int], *predicted: Tensor) -> Tensor:
        double = value.dtype == torch.float64
        value = value if double else value.to(torch.get_autocast_dtype(device))
        settled = [tensor.to(torch.promote_types(value.dtype, torch.float32)) for tensor in predicted]
        with torch.autocast(device, enabled=False):
            return operator(value, spatial_shapes, *settled)

    return call


_autocast_rules = torch.library.Library("focus_ops", "IMPL")  # kept: the rules live as long as this object
for _name in ("deform_attn", "deform_attn_from_logits"):
    _autocast_rules.impl(_name, _autocast(_name, "cpu"), "AutocastCPU")
    _autocast_rules.impl(_name, _autocast(_name, "cuda"), "AutocastCUDA")
