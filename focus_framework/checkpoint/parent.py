"""A checkpoint that a run starts from: what it decides of the configuration, and which of its tensors the new network takes over."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config.layers import network_settings
from ..config.schema import RunConfig
from ..errors import WeightsError
from ..files.reading import spelled_here
from ..model.network import Network
from .download import sha256_of
from .format import Description, read_checkpoint, read_description
from .hub import PREFIX
from .importing import is_released, read_release
from .known import find_known
from .loading import config_of, fitting, locate
from .positions import resized_positions

VECTORS = "conditioner.vectors"
GROUPS = 4  # parts of the network that the line about what was taken names


@dataclass(frozen=True)
class Parent:
    """A checkpoint to start from, of which no tensor was read yet."""

    reference: str
    path: Path
    name: str
    """What says more of it than its path, see `loading.locate`."""
    config: RunConfig
    description: Description

    @property
    def step(self) -> int | None:
        """The training step that it was written at; None for a released one."""
        return self.description.get("step")

    def settings(self) -> dict[str, Any]:
        """Its layer of a new run's configuration, by dotted path."""
        local = Path(self.reference)
        init = str(local.absolute()) if local.is_file() else self.reference  # so that the run can be resumed from any folder
        return {"init": init, **network_settings(self.config)}

    def tensors(self) -> dict[str, Tensor]:
        """Its weights by our names."""
        if is_released(self.path):
            return read_release(self.path, name=self.name).state
        return read_checkpoint(self.path)[1]


@dataclass(frozen=True)
class Inheritance:
    """What a network has taken over from a parent."""

    parent: Parent
    taken: int
    """Tensors of the network that have the parent's values."""
    resized: tuple[str, ...]
    """Those of them that were resized: position embeddings."""
    new: tuple[str, ...]
    """Tensors of the network that the parent has not, or in another shape."""
    unused: tuple[str, ...]
    """Tensors of the parent that the network has no place for."""
    share: float
    """Part of the network's parameters that was taken."""

    def __str__(self) -> str:
        """One line for the person."""
        parent, total = self.parent, self.taken + len(self.new)
        told = f"starts from {parent.reference}" + (f" (step {parent.step})" if parent.step is not None else "")
        told += f": {self.taken} of {total} tensors taken, {_percent(self.share)} of the parameters"
        for what, names in (("resized", self.resized), ("new", self.new), ("left in it", self.unused)):
            told += f"; {what}: {_grouped(names)}" if names else ""
        return told

    def as_record(self) -> dict[str, Any]:
        """What the run, its checkpoints and its report remember."""
        parent = self.parent
        return {
            "reference": parent.reference,
            "sha256": sha256_of(parent.path),
            "step": parent.step,
            "task": ", ".join(parent.config.known_tasks),
            "tensors_taken": self.taken,
            "tensors": self.taken + len(self.new),
            "share_of_parameters": round(self.share, 6),
        }


def open_parent(reference: str) -> Parent:
    """A checkpoint of ours, a released one, ``hf://owner/name``, or the name of a known one. Raises `WeightsError` for anything else."""
    path, name = locate(reference)
    if is_released(path):
        released = read_release(path, name=name)
        return Parent(reference, path, name, released.config, released.description)
    description = read_description(path)
    description["licence"] = description.get("licence") or _known_licence(reference)
    return Parent(reference, path, name, config_of(description, path), description)


def _known_licence(reference: str) -> str:
    """Of the weights of a known checkpoint, which its file may not say."""
    if reference.startswith(PREFIX) or Path(spelled_here(reference)).exists():
        return ""
    return find_known(reference).checkpoint.weights_licence


@torch.no_grad()
def inherit(network: Network, parent: Parent, tasks: Sequence[str] = ()) -> Inheritance:
    """Put a parent's tensors wherever they fit; position embeddings are resized, and the vectors of tasks that it knows go to these tasks.
    `tasks` are those of the network. Raises `WeightsError` where nothing fits."""
    state, places = parent.tensors(), network.state_dict()
    if VECTORS in state and VECTORS in places:
        known, shape = parent.config.known_tasks, list(state[VECTORS].shape)
        if len(shape) != 3 or shape[0] != len(known):
            raise WeightsError(f"the weights in {parent.path} are damaged: {VECTORS} is {shape}, for {len(known)} tasks")
        state[VECTORS] = _vectors(state[VECTORS], known, tasks)
    taken, resized = {}, []
    for name, place in places.items():
        found = state.get(name)
        if found is not None and found.shape != place.shape:
            found = resized_positions(name, found, tuple(place.shape))
            resized += [name] if found is not None else []
        if found is not None:
            taken[name] = fitting(name, found, place, parent.path)
    parameters = {name: parameter.numel() for name, parameter in network.named_parameters()}
    share = sum(count for name, count in parameters.items() if name in taken) / sum(parameters.values())
    if not any(tensor.dim() > 1 for tensor in taken.values()):  # biases of some heads have one shape in every network
        raise WeightsError(
            f"{parent.reference} has nothing in common with the network of this run (backbone {parent.config.backbone.name}); leave out "
            "what changes the network, or leave out --init"
        )
    network.load_state_dict(taken, strict=False)
    new, unused = (tuple(sorted(left)) for left in (places.keys() - taken.keys(), state.keys() - taken.keys()))
    return Inheritance(parent, len(taken), tuple(resized), new, unused, share)


def _vectors(known: Tensor, tasks: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Those of the tasks wanted out of those known, `[T, 2, D]`; a new task starts at the mean of them."""
    return torch.stack([known[tasks.index(name)] if name in tasks else known.mean(0) for name in wanted])


def _percent(share: float) -> str:
    """Never 100 % of what is less."""
    return f"{math.floor(share * 1000) / 10:g} %" if share < 1 else "100 %"


def _grouped(names: Iterable[str]) -> str:
    """Tensors by the part of the network that they belong to, with how many there are: ``decoder.layers (52)``."""
    groups = Counter(".".join(name.split(".")[:2]) for name in names).most_common()
    told = [f"{part} ({count})" for part, count in groups[:GROUPS]]
    more = len(groups) - GROUPS
    return ", ".join(told) + (f" and {more} more parts" if more > 0 else "")
