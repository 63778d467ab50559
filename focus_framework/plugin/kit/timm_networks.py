"""Building timm models, with weights from timm's hub, from a file, or none."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ...errors import ConfigError, FocusError, WeightsError
from ..installed import installed_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def build_timm(name: str, weights: str, **arguments: Any) -> nn.Module:
    """`timm.create_model` with errors that say what to do. `weights`: ``pretrained``, ``none``, or a file in timm's names (tensors
    only: a pickle is read with ``weights_only``)."""
    weights = found_weights(name, weights)
    overlay: dict[str, Any] = {}
    state: Mapping[str, Tensor] = {}
    try:
        if weights not in ("pretrained", "none"):
            _check_exists(weights)
            state = timm.models.load_state_dict(weights)
            overlay["pretrained_cfg_overlay"] = {"state_dict": dict(state), "custom_load": False}
        model = timm.create_model(name, pretrained=weights != "none", **overlay, **arguments)
    except FocusError:
        raise
    except TypeError as error:
        raise ConfigError(f"backbone {name} does not take these backbone.options: {error}") from error
    except Exception as error:  # hub clients, safetensors and torch each raise families of their own here
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if weights == "none":
            raise ConfigError(f"backbone {name} cannot be built: {reason}") from error
        raise _cannot_load(name, weights, reason) from error
    if state and (missing := _missing(model, state)):
        listed = ", ".join(missing[:3])
        raise _cannot_load(name, weights, f"{len(missing)} of {len(model.state_dict())} tensors are missing, among them {listed}")
    return model


SAME_PADDED = ("conv2d_same", "pool2d_same", "std_conv")
"""Modules of timm whose layers pad as TensorFlow does."""


@contextmanager
def padding_by_stride() -> Iterator[None]:
    """In the block timm's layers with TensorFlow's SAME padding pad by kernel and stride alone, which is the same wherever the stride
    divides the size, as it does for images of multiples of 32. timm computes the padding from the size, by which an export that leaves
    the size open gets lost. For the whole process: no other network may run meanwhile."""
    modules = [import_module(f"timm.layers.{name}") for name in SAME_PADDED]
    before = [module.__dict__["pad_same"] for module in modules]
    try:
        for module in modules:
            module.__dict__["pad_same"] = _pad_by_stride
        yield
    finally:
        for module, function in zip(modules, before, strict=True):
            module.__dict__["pad_same"] = function


def _pad_by_stride(
    x: Tensor, kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int] = (1, 1), value: float = 0
) -> Tensor:
    pads = [max(apart * (kernel - 1) + 1 - step, 0) for kernel, step, apart in zip(kernel_size, stride, dilation, strict=True)]
    return F.pad(x, [side for pad in reversed(pads) for side in (pad // 2, pad - pad // 2)], value=value)


def found_weights(name: str, weights: str) -> str:
    """``pretrained`` weights as the path of their file, where an installed distribution has them; anything else as it is."""
    installed = installed_weights(name) if weights == "pretrained" else None
    return str(installed) if installed else weights


def _cannot_load(name: str, weights: str, reason: str) -> WeightsError:
    source = "its pretrained weights" if weights == "pretrained" else f"the weights in {weights}"
    return WeightsError(
        f"backbone {name}: {source} cannot be loaded ({reason}). "
        "Give --backbone-weights FILE with weights in timm's names, or --backbone-weights none to start from random ones"
    )


def _missing(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Tensors of the model that the file does not have. timm passes over them in silence where it makes a pyramid; there it also
    writes `stages_0` for `stages.0`, and `model.blocks` or `body.blocks` for `blocks` of a network that it wraps."""
    had = {key.replace("_", ".") for key in state}
    names = {key: key.removeprefix("model.").removeprefix("body.").replace("_", ".") for key in model.state_dict()}
    return [key for key, name in names.items() if name not in had and not key.endswith("num_batches_tracked")]


def file_facts(weights: str) -> dict[str, Any]:
    """What a safetensors file of weights says about itself in its header: `mean`, `std`, `pad_type`. Nothing for ``pretrained``,
    ``none`` and files of other kinds."""
    if weights in ("pretrained", "none"):
        return {}
    _check_exists(weights)
    if not weights.endswith(".safetensors"):
        return {}
    try:
        with safe_open(weights, "pt") as file:
            header: Mapping[str, str] = file.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"backbone weights {weights} cannot be read: {error}") from error
    facts: dict[str, Any] = {key: ast.literal_eval(header[key]) for key in ("mean", "std") if key in header}
    return facts | {key: header[key] for key in ("pad_type",) if key in header}


def _check_exists(weights: str) -> None:
    if not Path(weights).is_file():
        raise WeightsError(f"backbone weights {weights} do not exist; give --backbone-weights FILE, pretrained or none")


def three(value: Any) -> tuple[float, float, float]:
    """A mean or a standard deviation as one number a channel."""
    numbers = [float(number) for number in value] if isinstance(value, list | tuple) else [float(value)] * 3
    if len(numbers) != 3:
        raise ConfigError(f"mean and std of a backbone are one number or three, not {value!r}")
    return numbers[0], numbers[1], numbers[2]
