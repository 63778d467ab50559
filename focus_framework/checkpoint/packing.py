"""Checkpoints made small: half precision, and what several of them have in common in one file beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import WeightsError
from ..files.atomic import replacing
from .format import SHARED, read_checkpoint, write_checkpoint


def pack(checkpoints: Mapping[str, Path], folder: Path, *, shared: str = "shared.safetensors") -> dict[str, Path]:
    """Write each checkpoint as ``NAME.safetensors`` in half precision, without the tensors that are equal in all of them; those go into
    the file `shared` of the same folder. Returns the files by name.

    Raises `WeightsError` where there is nothing to share.
    """
    opened = {name: read_checkpoint(path) for name, path in checkpoints.items()}
    states = {name: {key: _half(tensor) for key, tensor in state.items()} for name, (_, state) in opened.items()}
    first, *others = states.values()
    common = {key for key, tensor in first.items() if all(key in state and torch.equal(tensor, state[key]) for state in others)}
    if not others or not common:
        raise WeightsError("there is nothing to share: give two checkpoints or more that have tensors in common")
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / shared) as beside:
        save_file({key: first[key].contiguous() for key in sorted(common)}, beside)
    digest = hashlib.sha256((folder / shared).read_bytes()).hexdigest()
    written = {}
    for name, (description, _) in opened.items():
        own = {key: tensor for key, tensor in states[name].items() if key not in common}
        written[name] = folder / f"{name}.safetensors"
        write_checkpoint(written[name], own, {**description, SHARED: {"file": shared, "sha256": digest}})
    return written


def _half(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.dtype == torch.float32 else tensor
