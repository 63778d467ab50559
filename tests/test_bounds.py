"""The size of a network, told before it is built."""

from __future__ import annotations

import copy
import time

import psutil
import pytest
import torch

from focus_framework import ConfigError
from focus_framework.config.schema import RunConfig
from focus_framework.model import bounds
from focus_framework.model.build import build_network

SMALL = {
    "task": "shadow",
    "backbone": {"name": "vit", "weights": "none", "options": {"patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 2}},
    "enhancer": {"name": "none"},
    "pixel_decoder": {"width": 32, "layers": 1, "heads": 2, "feedforward": 32},
    "decoder": {"layers": 1, "heads": 2, "feedforward": 32},
}


def config(**options: object) -> RunConfig:
    table = copy.deepcopy(SMALL)
    table["backbone"]["options"] |= options  # type: ignore[index]
    return RunConfig.model_validate(table)


@pytest.mark.parametrize("options", [{"depth": 1_000_000}, {"embed_dim": 1 << 20}, {"depth": 1 << 70}, {"embed_dim": 1 << 40}])
def test_a_network_beyond_all_memory_is_refused_by_the_setting_that_says_so(options: dict[str, int]) -> None:
    started = time.process_time()
    (name, value), = options.items()  # fmt: skip
    with pytest.raises(ConfigError, match=rf"backbone\.options\.{name} = {value}: such a network takes .* and this machine has"):
        build_network(config(**options))
    assert time.process_time() - started < 30, "building a million layers takes many minutes"


def test_a_large_network_that_fits_is_told_as_large_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(config(depth=80))
    weights = sum(parameter.numel() * 4 for parameter in network.parameters())
    told = bounds._size(config(depth=80), [place for place in bounds._places(config(depth=80)) if place.is_large], build_network)
    assert told.weights == weights
    assert told.modules == len(list(network.modules()))
    assert next(network.parameters()).device == torch.device("cpu")

    class Small:
        total = weights // 2

    monkeypatch.setattr(psutil, "virtual_memory", Small)
    with pytest.raises(ConfigError, match="depth = 80"):
        build_network(config(depth=80))


def test_ordinary_sizes_are_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_size", lambda *_: pytest.fail("nothing is large here"))
    build_network(config(depth=12))
