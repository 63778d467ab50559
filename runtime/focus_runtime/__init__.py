"""Masks from files that FOCUS Framework exported, without PyTorch: numpy, Pillow and onnxruntime."""

from .errors import ConfigError, DataError, FocusError, WeightsError
from .inference.result import Result, Results
from .mask import Mask

__all__ = ["ConfigError", "DataError", "FocusError", "Mask", "Result", "Results", "WeightsError"]
