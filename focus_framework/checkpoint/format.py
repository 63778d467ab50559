"""Our file of weights: one ``.safetensors`` whose header holds, as JSON, everything needed to use them. Reading it runs no code."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import WeightsError
from ..files.atomic import replacing
from ..files.reading import problem

FORMAT = 1
"""Raised when an older framework would misread a newer file."""
SHARED = "shared"
"""In a description: ``{"file": NAME, "sha256": ..., "prefix": ...}`` of a file beside it, with tensors that several checkpoints have in
common. Their names there lack the prefix."""
KEY = "focus_framework"
"""Where the description lies in the header's metadata."""

Description = dict[str, Any]


def write_checkpoint(path: str | Path, state: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write tensors and their description, anything that JSON can hold, as `description.describe` makes it.

    Tensors on the CPU are written from where they lie, without a copy, so that those of a mapped file need no memory of their own.
    Raises `OSError`, which names `path`, where the disk refuses it.
    """
    header = json.dumps({"format": FORMAT, **description}, ensure_ascii=False, allow_nan=False)
    header = header.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # names of files where the language is C
    tensors: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, tensor in state.items():
        plain = tensor.detach().cpu().contiguous()
        tensors[name] = plain.clone() if plain.data_ptr() in written else plain  # tied weights: the format wants each by itself
        written.add(plain.data_ptr())
    with replacing(path) as beside:
        try:
            save_file(tensors, beside, metadata={KEY: header})
        except SafetensorError as error:  # the library's own error for the system's, a full disk among others
            if not (number := re.search(r"os error (\d+)", str(error))):
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def read_checkpoint(path: str | Path, device: str = "cpu") -> tuple[Description, dict[str, Tensor]]:
    """The description and the tensors, those of a shared file among them, which the description then does not mention. Raises
    `WeightsError` where the file is not a whole checkpoint of this framework."""
    with _opened(path, device) as file:
        description = _description(path, file.metadata())
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dictionary)
    if shared := description.pop(SHARED, None):
        prefix = str(shared.get("prefix", ""))
        with _opened(_shared_file(path, shared), device) as file:
            state |= {prefix + name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return description, state


def read_description(path: str | Path) -> Description:
    """The description alone; no tensor is read."""
    with _opened(path, "cpu") as file:
        return _description(path, file.metadata())


def read_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor; none is read."""
    shared = read_description(path).get(SHARED)
    parts = {"": Path(path)} | ({str(shared.get("prefix", "")): _shared_file(path, shared)} if shared else {})
    shapes: dict[str, tuple[int, ...]] = {}
    for prefix, part in parts.items():
        with _opened(part, "cpu") as file:
            shapes |= {prefix + name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return shapes


def _shared_file(path: str | Path, shared: Mapping[str, str]) -> Path:
    """The file beside `path` that has the tensors which several checkpoints have in common. Raises `WeightsError` where it is not the
    one that is meant."""
    name = str(shared.get("file", ""))
    beside = Path(path).with_name(Path(name).name or "?")
    if Path(name).name != name or not beside.is_file():
        raise WeightsError(f"{path} needs the file {name or '?'} beside it, which holds the rest of its weights; copy both together")
    if hashlib.sha256(beside.read_bytes()).hexdigest() != shared.get("sha256"):
        raise WeightsError(f"{beside} is not the file that {path} was made with (its sha256 differs); copy both together")
    return beside


def is_pickle(path: str | Path) -> bool:
    """Whether the file begins like one that ``torch.save`` or pickle wrote."""
    with Path(path).open("rb") as file:
        start = file.read(9)
    # A safetensors file starts with the length of its header, of which any byte may be a pickle's mark, and the header's brace.
    return len(start) == 9 and start[8:] != b"{" and (start[:4] == b"PK\x03\x04" or start[:1] == b"\x80")


@contextmanager
def _opened(path: str | Path, device: str) -> Iterator[Any]:
    path = Path(path)
    if what := problem(path):
        raise WeightsError(f"checkpoint {path} {what}; a run folder holds best.safetensors and checkpoint.safetensors")
    if is_pickle(path):
        raise WeightsError(
            f"{path} is a pickle; only the authors' released ones are read: focus checkpoint import {path} --out X.safetensors"
        )
    try:
        file = safe_open(path, "pt", device=device)
    except SafetensorError as error:
        kinds = "not" if path.suffix == ".safetensors" else "neither a file of torch.save nor"
        raise WeightsError(
            f"{path} is {kinds} a complete .safetensors file; it may be truncated ({error}); fetch or copy it again"
        ) from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    with file:
        yield file


def _description(path: str | Path, metadata: Mapping[str, str] | None) -> Description:
    if KEY not in (metadata or {}):
        raise WeightsError(f"{path} holds weights of something else: it says nothing of the network that they belong to")
    try:
        description: Description = json.loads((metadata or {})[KEY])
        version = description["format"]
    except RecursionError:
        raise WeightsError(f"the description in the header of {path} cannot be read: it is nested too deeply") from None
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"the description in the header of {path} cannot be read: {error!r:.100}") from error
    if type(version) is not int or version < 1:
        raise WeightsError(f"the header of {path} says format {version!r:.40}; it must be a whole number from 1 to {FORMAT}")
    if version > FORMAT:
        raise WeightsError(
            f"{path} is of format {version}, this version reads up to {FORMAT}; update focus-framework "
            f"(the file was written by {description.get('framework_version', 'a newer one')})"
        )
    return description
