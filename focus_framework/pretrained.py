"""Building timm models, with weights from timm's hub, from a file, or none."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from safetensors import safe_open
from torch import nn

from .errors import ConfigError, WeightsError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def build_timm(name: str, weights: str, **arguments: Any) -> nn.Module:
    """`timm.create_model` with errors that say what to do. `weights`: ``pretrained``, ``none``, or a file in timm's names."""
    overlay: dict[str, Any] = {}
    if weights not in ("pretrained", "none"):
        if not Path(weights).is_file():
            raise WeightsError(f"backbone weights {weights} do not exist; give --backbone-weights FILE, pretrained or none")
        overlay["pretrained_cfg_overlay"] = {"file": weights}
    try:
        return timm.create_model(name, pretrained=weights != "none", **overlay, **arguments)
    except TypeError as error:
        raise ConfigError(f"backbone {name} does not take these backbone.options: {error}") from error
    except Exception as error:  # hub clients, safetensors and torch each raise families of their own here
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if weights == "none":
            raise ConfigError(f"backbone {name} cannot be built: {reason}") from error
        source = "its pretrained weights" if weights == "pretrained" else f"the weights in {weights}"
        raise WeightsError(
            f"backbone {name}: {source} cannot be loaded ({reason}). "
            "Give --backbone-weights FILE with a file of weights in timm's names, or --backbone-weights none to start from random ones"
        ) from error


def file_facts(weights: str) -> dict[str, Any]:
    """What a safetensors file of weights says about itself in its header: `mean`, `std`, `pad_type`."""
    if not weights.endswith(".safetensors"):
        return {}
    with safe_open(weights, "pt") as file:
        header: Mapping[str, str] = file.metadata() or {}
    facts: dict[str, Any] = {key: _numbers(header[key]) for key in ("mean", "std") if key in header}
    return facts | {key: header[key] for key in ("pad_type",) if key in header}


def three(value: Any) -> tuple[float, float, float]:
    """A mean or a standard deviation as one number a channel."""
    numbers = [float(number) for number in value] if isinstance(value, list | tuple) else [float(value)] * 3
    if len(numbers) != 3:
        raise ConfigError(f"mean and std of a backbone are one number or three, not {value!r}")
    return numbers[0], numbers[1], numbers[2]


def _numbers(text: str) -> Any:
    return ast.literal_eval(text)  # a number or a list of them; evaluates no names and no calls
