"""How large the network of a configuration would be, asked before it is built: a million layers are minutes of silence, then all memory."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import nn

from ..config.schema import RunConfig
from ..errors import ConfigError

logger = logging.getLogger(__name__)

DEEP = frozenset({"depth", "depths", "layers", "extra_extractors", "num_layers"})
"""Settings that say how many layers there are; all others say how large something is."""
MANY, LARGE = 64, 1 << 12
"""Layers, and sizes, that are built without a question."""
FEW, MORE = 8, 12
"""Layers of the small networks from which the size of the whole one is told; multiples of the four stages."""
MODULE = 3000
"""Bytes that a module takes besides its weights (measured with Python 3.11: 2,800)."""
SLOW = 20_000
"""Modules whose building takes long enough to say so."""


@dataclass(frozen=True)
class Size:
    """What a network takes."""

    weights: float
    """Bytes."""
    modules: float

    def memory(self, copies: int) -> float:
        """Bytes, with the weights so many times."""
        return copies * self.weights + MODULE * self.modules


def refuse_beyond_memory(config: RunConfig, build: Callable[[RunConfig], nn.Module], *, copies: int = 1) -> None:
    """Raise `ConfigError` where the network that `build` makes of the configuration would not fit into this machine's memory, its weights
    so many times. Nothing is asked where no setting is large; where `build` fails, it will say so itself."""
    large = [place for place in _places(config) if place.is_large]
    if not large:
        return
    try:
        size = _size(config, [place for place in large if place.deep], build)
    except Exception as error:
        if "overflow" not in str(error):  # what torch says of a tensor whose bytes no number of 64 bits counts
            return
        size = Size(math.inf, 0)
    told = ", ".join(f"{place.name} = {place.number}" for place in large)
    wanted, there = size.memory(copies), psutil.virtual_memory().total
    if wanted > there:
        much = f"{wanted / 2**30:,.0f} GiB" if math.isfinite(wanted) else "more than can be counted"
        raise ConfigError(
            f"{told}: such a network takes {much}{' in training' if copies > 1 else ''} and this machine has {there / 2**30:,.0f} GiB; "
            "make it smaller"
        )
    if size.modules > SLOW:
        logger.warning("%s: building a network of about %d modules takes minutes", told, size.modules)


@dataclass(frozen=True)
class _Place:
    """A whole number in a configuration that the network is built by."""

    name: str
    path: tuple[str | int, ...]
    number: int

    @property
    def deep(self) -> bool:
        return any(part in DEEP for part in self.path)

    @property
    def is_large(self) -> bool:
        return self.number > (MANY if self.deep else LARGE)


def _places(config: RunConfig) -> Iterator[_Place]:
    """All of them, with the options of plugins."""
    for part in ("backbone", "enhancer", "pixel_decoder", "decoder", "conditioner"):
        yield from _below(config.model_dump()[part], (part,))


def _below(value: Any, path: tuple[str | int, ...]) -> Iterator[_Place]:
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _below(one, (*path, key))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield _Place(".".join(str(part) for part in path if isinstance(part, str)), path, value)


def _size(config: RunConfig, deep: list[_Place], build: Callable[[RunConfig], nn.Module]) -> Size:
    """That of the whole network: the one with few layers, and for each setting what a layer more of it adds, so many times."""
    few = {place.path: FEW for place in deep}
    base = _measured(_with(config, few), build)
    weights, modules = base.weights, base.modules
    for place in deep:
        more = _measured(_with(config, {**few, place.path: MORE}), build)
        times = (place.number - FEW) / (MORE - FEW)
        weights += times * (more.weights - base.weights)
        modules += times * (more.modules - base.modules)
    return Size(weights, modules)


def _with(config: RunConfig, numbers: dict[tuple[str | int, ...], int]) -> RunConfig:
    changed = copy.deepcopy(config.model_dump())
    for (*parents, last), number in numbers.items():
        table: Any = changed
        for parent in parents:
            table = table[parent]
        table[last] = number
    return RunConfig.model_validate(changed)


def _measured(config: RunConfig, build: Callable[[RunConfig], nn.Module]) -> Size:
    """That of a network whose weights have shapes alone."""
    with torch.device("meta"):
        network = build(config)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    return Size(weights, sum(1 for _ in network.modules()))
