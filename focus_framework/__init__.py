"""FOCUS Framework: one architecture that finds the mask of interest of an image, and plugins that say what interest means."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, DataError, DeviceError, FocusError, PluginError, WeightsError
from .plugin.hookspecs import hookimpl
from .plugin.interfaces import Backbone, Checkpoint, Dataset, Enhancer, Figures, Fingerprint, Prompts, Refiner, Task
from .version import __version__

if TYPE_CHECKING:
    from .inference.model import Model, Result, load

__all__ = [
    "Backbone",
    "Checkpoint",
    "ConfigError",
    "DataError",
    "Dataset",
    "DeviceError",
    "Enhancer",
    "Figures",
    "Fingerprint",
    "FocusError",
    "Model",
    "PluginError",
    "Prompts",
    "Refiner",
    "Result",
    "Task",
    "WeightsError",
    "__version__",
    "hookimpl",
    "load",
]

_HEAVY = {"load": ".inference.model", "Model": ".inference.model", "Result": ".inference.model"}


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is first asked for, so that listing and ``--help`` stay quick."""
    if name in _HEAVY:
        return getattr(importlib.import_module(_HEAVY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
