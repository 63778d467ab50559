"""FOCUS Framework: one architecture that finds the mask of interest of an image, and plugins that say what interest means."""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, DataError, DeviceError, FocusError, PluginError, WeightsError
from .plugin.hookspecs import hookimpl
from .plugin.interfaces import Backbone, Checkpoint, Conditioner, Dataset, Enhancer, Figures, Fingerprint, Prompts, Refiner, Task
from .version import __version__

if TYPE_CHECKING:
    from .deploy.export.making import export
    from .evaluation.measure import evaluate
    from .inference.film.predicting import predict_film
    from .inference.many.predicting import predict_many
    from .inference.model import Model, load
    from .inference.result import Result, Results
    from .model.plain import build, losses
    from .training.session import Run, configure, train

__all__ = [
    "Backbone",
    "Checkpoint",
    "Conditioner",
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
    "Results",
    "Run",
    "Task",
    "WeightsError",
    "__version__",
    "build",
    "configure",
    "evaluate",
    "export",
    "hookimpl",
    "load",
    "losses",
    "predict_film",
    "predict_many",
    "train",
]

_HEAVY = {
    "load": "inference.model",
    "Model": "inference.model",
    "Result": "inference.result",
    "Results": "inference.result",
    "predict_film": "inference.film.predicting",
    "predict_many": "inference.many.predicting",
    "build": "model.plain",
    "losses": "model.plain",
    "evaluate": "evaluation.measure",
    "export": "deploy.export.making",
    "Run": "training.session",
    "configure": "training.session",
    "train": "training.session",
}


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is first asked for, so that listing and ``--help`` stay quick."""
    if name in _HEAVY:
        return getattr(_import_module(f".{_HEAVY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
