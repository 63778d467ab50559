"""Tensors of files that others wrote with ``torch.save`` or as safetensors. Nothing in them is ever run."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import WeightsError
from .format import is_pickle

WRAPPERS = ("model", "state_dict")
"""Under one of these detectron2 and others put the weights."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors by name, mapped from the file where its format allows it: they take memory when they are looked at.

    Raises `WeightsError` for a file that holds more than plain data, is cut short, or has no weights.
    """
    if not is_pickle(path):
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dictionary)
    content = _unpickled(path)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not tensors by name")
    tensors = {str(name): torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in content.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors")
    return tensors


def _unpickled(path: Path) -> Any:
    """What ``weights_only`` lets through: tensors, numpy arrays, numbers, texts and their containers."""
    with torch.serialization.safe_globals(_numpy_parts()):
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            reason = f"it asks for {found[1]}" if found else "it was not written by torch.save"
            raise WeightsError(f"{path} is refused: {reason}; a pickle may hold tensors, numpy arrays and numbers, no code") from error
        except Exception as error:  # torch raises whatever it trips over in a broken file
            reason = str(error).split(". ")[0].strip() or type(error).__name__
            raise WeightsError(f"{path} cannot be read as a file of torch.save, it may be truncated ({reason}); fetch it again") from error


def _numpy_parts() -> list[Any]:
    """What a pickled numpy array or number is put together by; under its old name too, from before numpy 2."""
    from numpy._core import multiarray

    builders = [multiarray._reconstruct, multiarray.scalar]
    old = [(builder, f"numpy.core.multiarray.{builder.__name__}") for builder in builders]
    kinds = {type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"}
    return [np.ndarray, np.dtype, *builders, *old, *kinds]
