"""Which implementation of the op runs: the compiled one where it is installed, or plain PyTorch.

``FOCUS_OPS=native`` or ``FOCUS_OPS=reference`` decides; without it the compiled op is taken where it is there for the device. The
choice is logged once. A compiled op that is there but broken is never passed over in silence: it is warned about, and with
``FOCUS_OPS=native`` its own error is raised.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
from types import ModuleType
from typing import Any, Literal, TypeAlias

import torch

from ...errors import ConfigError, DeviceError

Backend: TypeAlias = Literal["reference", "native"]

VARIABLE = "FOCUS_OPS"
INSTALL = "pip install --no-build-isolation ./csrc"
INSTALL_CUDA = f"FOCUS_BUILD_CUDA=1 {INSTALL}"

_log = logging.getLogger(__name__)


@functools.cache
def native_module() -> ModuleType | Exception | None:
    """The module `focus_ops`; None where it is not installed; the error that importing it gave where it is broken."""
    if importlib.util.find_spec("focus_ops") is None:
        return None
    try:
        return importlib.import_module("focus_ops")
    except Exception as error:  # whatever a broken build raises is kept, shown by `describe` and raised when it is asked for
        return error


def wanted() -> str:
    """What ``FOCUS_OPS`` asks for: ``"reference"``, ``"native"``, or nothing."""
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "reference", "native"):
        raise ConfigError(f"{VARIABLE}={value!r} is not known; use reference or native, or unset it")
    return value


def _choose(device: str) -> tuple[Backend, str, str]:
    """The implementation for a type of device, why, and the command that changes it."""
    choice = wanted()
    if choice == "reference":
        return "reference", f"{VARIABLE}=reference asks for plain PyTorch", f"unset {VARIABLE}"
    module = native_module()
    if module is None:
        return "reference", "focus-framework-ops is not installed", INSTALL
    if isinstance(module, Exception):
        return "reference", f"focus_ops is installed but broken: {module}", f"{INSTALL} --force-reinstall"
    if device not in module.devices():
        return "reference", f"focus_ops {module.__version__} was built without {device}", INSTALL_CUDA
    why = f"{VARIABLE}=native asks for it" if choice else f"focus_ops {module.__version__} is installed"
    return "native", why, f"export {VARIABLE}=reference"


@torch.compiler.assume_constant_result  # read once while compiling: the environment and a log are no part of a graph
def backend(device: str | torch.device = "cpu") -> Backend:
    """The implementation that runs on a device: ``"native"`` or ``"reference"``.

    Raises `ConfigError` where ``FOCUS_OPS`` is misspelt, `DeviceError` where it asks for a compiled op that is not installed,
    is broken (with the error of its import as the cause), or was built without this type of device.
    """
    kind = torch.device(device).type
    name, why, command = _choose(kind)
    if name == "reference" and wanted() == "native":
        module = native_module()
        raise DeviceError(f"{VARIABLE}=native cannot be loaded: {why}; run: {command}") from (
            module if isinstance(module, Exception) else None
        )
    _log_once(kind, name, why)
    return name


def describe(device: str | torch.device = "cpu") -> dict[str, Any]:
    """What runs on a device, why, and the command that changes it; never raises for a missing or broken compiled op.

    Keys: ``backend``, ``device``, ``reason``, ``change`` (a shell command), ``requested`` (``FOCUS_OPS``, "" where unset),
    ``version`` (of focus_ops, or None), ``build`` (how it was compiled, or None), ``error`` (of a broken one, or None).
    """
    kind = torch.device(device).type
    name, reason, change = _choose(kind)
    module = native_module()
    working = isinstance(module, ModuleType)
    return {
        "backend": name,
        "device": kind,
        "reason": reason,
        "change": change,
        "requested": wanted(),
        "version": module.__version__ if isinstance(module, ModuleType) else None,
        "build": module.build_info() if isinstance(module, ModuleType) else None,
        "error": None if working or module is None else f"{type(module).__name__}: {module}",
    }


@functools.cache
def _log_once(device: str, name: Backend, why: str) -> None:
    broken = isinstance(native_module(), Exception)
    _log.log(logging.WARNING if broken else logging.INFO, "deformable attention on %s: %s (%s)", device, name, why)
