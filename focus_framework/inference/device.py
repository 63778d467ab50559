"""Choosing a device: ``auto`` takes the best one there is, a name that is absent is an error."""

from __future__ import annotations

import torch

from ..errors import ConfigError, DeviceError


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` prefers an accelerator. Raises `DeviceError` where it is not there."""
    if name == "auto":
        return torch.accelerator.current_accelerator() or torch.device("cpu") if torch.accelerator.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"{name!r} names no device; use auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "meta" or (device.type in ("cpu", "mps") and device.index not in (None, 0)):
        raise DeviceError(f"device {name} is not there; use --device {'cpu' if device.type == 'meta' else device.type}, or auto")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"device {name} cannot be used: {reason}. Use --device cpu, or auto to take what is there") from error
    return device


def title(device: torch.device) -> str:
    """What people call it: the name of the GPU, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
