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


def _choose(device: torch.device) -> tuple[Backend, str, str]:
    """The implementation for a device, why, and the command that changes it."""
    choice = wanted()
    if choice == "reference":
        return "reference", f"{VARIABLE}=reference asks for plain PyTorch", f"unset {VARIABLE}"
    module = native_module()
    if module is None:
        return "reference", "focus-framework-ops is not installed", INSTALL
    if isinstance(module, Exception):
        return "reference", f"focus_ops is installed but broken: {module}", f"{INSTALL} --force-reinstall"
    if device.type not in module.devices():
        failure = module.build_info().get("cuda_failure", "") if device.type == "cuda" else ""
        built = f"focus_ops {module.__version__} was built without {device.type}" + (f", because {failure}" if failure else "")
        return "reference", built, INSTALL_CUDA
    if device.type == "cuda" and torch.cuda.is_available():
        capability = torch.cuda.get_device_capability(device)
        if not module.runs_on(capability):
            name = "".join(map(str, capability))
            why = f"focus_ops {module.__version__} was built with CUDA {module.build_info()['cuda']}, this GPU is sm_{name}"
            return "reference", why, f"FOCUS_CUDA_ARCHITECTURES={name} {INSTALL_CUDA} --force-reinstall"
    why = f"{VARIABLE}=native asks for it" if choice else f"focus_ops {module.__version__} is installed"
    return "native", why, f"export {VARIABLE}=reference"


@torch.compiler.assume_constant_result  # read once while compiling: the environment and a log are no part of a graph
def backend(device: str | torch.device = "cpu") -> Backend:
    """The implementation that runs on a device: ``"native"`` or ``"reference"``.

    Raises `ConfigError` where ``FOCUS_OPS`` is misspelt, `DeviceError` where it asks for a compiled op that is not installed,
    is broken (with the error of its import as the cause), or was built without this device.
    """
    if torch.compiler.is_exporting():  # no other runtime knows the compiled op
        return "reference"
    device = torch.device(device)
    name, why, command = _choose(device)
    if name == "reference" and wanted() == "native":
        module = native_module()
        raise DeviceError(f"{VARIABLE}=native cannot be loaded: {why}; run: {command}") from (
            module if isinstance(module, Exception) else None
        )
    _log_once(device.type, name, why)
    return name


def describe(device: str | torch.device = "cpu") -> dict[str, Any]:
    """What runs on a device, why, and the command that changes it; never raises for a missing or broken compiled op.

    Keys: ``backend``, ``device``, ``reason``, ``change`` (a shell command), ``requested`` (``FOCUS_OPS``, "" where unset),
    ``version`` (of focus_ops, or None), ``build`` (how it was compiled, or None), ``error`` (of a broken one, or None).
    """
    device = torch.device(device)
    name, reason, change = _choose(device)
    module = native_module()
    working = isinstance(module, ModuleType)
    return {
        "backend": name,
        "device": device.type,
        "reason": reason,
        "change": change,
        "requested": wanted(),
        "version": module.__version__ if isinstance(module, ModuleType) else None,
        "build": module.build_info() if isinstance(module, ModuleType) else None,
        "error": None if working or module is None else f"{type(module).__name__}: {module}",
    }


@functools.cache
def _log_once(device: str, name: Backend, why: str) -> None:
    module = native_module()
    # Installed, yet it does not do its work: broken, or built for other GPUs.
    idle = isinstance(module, Exception) or (isinstance(module, ModuleType) and name == "reference" and device in module.devices())
    _log.log(logging.WARNING if idle and not wanted() else logging.INFO, "deformable attention on %s: %s (%s)", device, name, why)
