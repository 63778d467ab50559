"""Checkpoints made small: half precision, and what several of them have in common in one file beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import WeightsError
from ..files.atomic import replacing
from .format import SHARED, read_checkpoint, write_checkpoint
from .portable import portable


def pack(
    checkpoints: Mapping[str, Path], folder: Path, *, shared: str = "encoder.safetensors", prefix: str = "encoder.backbone.body."
) -> dict[str, Path]:
    """Write each checkpoint as ``NAME.safetensors`` in half precision, without its tensors below `prefix`, which have to be equal in all of
    them; those go into the file `shared` of the same folder, without the prefix, so that the file of a backbone is one of weights in
    timm's names. Where that file holds them already it stays as it is, so that what was packed beside it stays valid. Returns the files by
    name.

    Raises `WeightsError` where there is nothing to share.
    """
    opened = {name: read_checkpoint(path) for name, path in checkpoints.items()}
    states = {name: {key: _half(tensor) for key, tensor in state.items()} for name, (_, state) in opened.items()}
    first, *others = states.values()
    common = [key for key in first if key.startswith(prefix)]
    differing = [key for key in common if any(key not in state or not torch.equal(first[key], state[key]) for state in others)]
    if not common or differing:
        what = f"{differing[0]} differs among them" if differing else f"none has tensors below {prefix}"
        raise WeightsError(f"the checkpoints {', '.join(checkpoints)} have nothing to share: {what}; train them with backbone.frozen=true")
    folder.mkdir(parents=True, exist_ok=True)
    seen = next(iter(opened.values()))[0]["preprocessing"]
    facts = {key: repr(seen[key]) for key in ("mean", "std")}
    together = {key.removeprefix(prefix): first[key].contiguous() for key in sorted(common)}
    if not _holds(folder / shared, together, facts):
        with replacing(folder / shared) as beside:
            save_file(together, beside, metadata=facts)
            in_order(beside)
    digest = hashlib.sha256((folder / shared).read_bytes()).hexdigest()
    written = {}
    for name, (description, _) in opened.items():
        own = {key: tensor for key, tensor in states[name].items() if not key.startswith(prefix)}
        written[name] = folder / f"{name}.safetensors"
        kept = {**portable(description), SHARED: {"file": shared, "sha256": digest, "prefix": prefix}}
        write_checkpoint(written[name], own, kept)
    return written


def pack_whole(checkpoint: Path, to: Path) -> Path:
    """Write a checkpoint in half precision with all of its tensors: one whose encoder is its own."""
    description, state = read_checkpoint(checkpoint)
    write_checkpoint(to, {key: _half(tensor) for key, tensor in state.items()}, portable(description))
    return to


def _holds(file: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> bool:
    """Whether a file has these tensors and this header, in whatever order they were written."""
    if not file.is_file():
        return False
    try:
        with safe_open(file, "pt") as opened:
            there = set(opened.keys()) == set(tensors) and opened.metadata() == dict(facts)
            return there and all(torch.equal(opened.get_tensor(name), tensor) for name, tensor in tensors.items())
    except SafetensorError:
        return False


def in_order(path: Path) -> None:
    """The facts in a file's header by name: the library writes them in an order that differs from process to process."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        ordered = {**header, "__metadata__": dict(sorted(header["__metadata__"].items()))}
        text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))  # spaces fill a header


def _half(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.dtype == torch.float32 else tensor
