"""FOCUS Framework: one architecture that finds the mask of interest of an image, and plugins that say what interest means."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, DataError, DeviceError, FocusError, PluginError, WeightsError
from .hookspecs import hookimpl
from .interfaces import Backbone, Dataset, Enhancer, Prompts, Refiner, Task

if TYPE_CHECKING:
    from .predict import Model, Result, load

__version__ = "0.1.0"
__all__ = [
    "Backbone",
    "ConfigError",
    "DataError",
    "Dataset",
    "DeviceError",
    "Enhancer",
    "FocusError",
    "Model",
    "PluginError",
    "Prompts",
    "Refiner",
    "Result",
    "Task",
    "WeightsError",
    "hookimpl",
    "load",
]

_HEAVY = {"load": ".predict", "Model": ".predict", "Result": ".predict"}


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is first asked for, so that listing and ``--help`` stay quick."""
    if name in _HEAVY:
        return getattr(importlib.import_module(_HEAVY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
