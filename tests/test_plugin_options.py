"""Options of plugins: misspelt or wrongly typed ones are named, whatever the kind; good ones arrive as they are declared."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Literal

import pytest

from focus_framework import ConfigError
from focus_framework.config.layers import resolve
from focus_framework.model.build import build_network, build_refiner
from focus_framework.plugin.options import checked_options


def build(name: str, *, weights: str = "none", gain: float = 1.0, sizes: Sequence[int] = (1, 2), mode: Literal["a", "b"] = "a") -> None:
    """A builder as plugins have them."""


def build_any(name: str, *, gain: float = 1.0, **others: Any) -> None:
    """One that passes options on."""


def test_good_options_arrive_as_declared() -> None:
    assert checked_options("backbone", "x", build, {"gain": 2, "sizes": [3], "mode": "b"}) == {"gain": 2.0, "sizes": [3], "mode": "b"}
    assert checked_options("backbone", "x", build_any, {"gain": 2, "deep": {"er": 1}}) == {"gain": 2.0, "deep": {"er": 1}}
    assert checked_options("backbone", "x", build, {}) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gian": 1.0}, "backbone x has no option 'gian'; did you mean gain"),
        ({"gain": "loud"}, r"backbone\.options\.gain = 'loud' of backbone x: Input should be a valid number"),
        ({"gain": datetime.date(2026, 1, 1)}, r"backbone\.options\.gain = '2026-01-01'"),
        ({"gain": True}, r"backbone\.options\.gain = True"),
        ({"sizes": ["one"]}, r"backbone\.options\.sizes\.0 = 'one'"),
        ({"mode": "c"}, "Input should be 'a' or 'b'"),
        ({"weights": "file"}, "has no option 'weights'"),
    ],
)
def test_others_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked_options("backbone", "x", build, options, reserved=("weights",))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("enhancer.options.gain=1", "enhancer edge has no option 'gain'"),
        ("enhancer.options.low=loud", r"enhancer\.options\.low = 'loud'"),
        ("backbone.options.weights=x.safetensors", "backbone vit has no option 'weights'"),
    ],
)
def test_the_built_in_plugins_are_checked_so(option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(resolve("shadow", assignments=[option]).config)


def test_and_refiners() -> None:
    config = resolve("shadow", assignments=["refiner.name=clip", "refiner.options.fill=7"]).config
    with pytest.raises(ConfigError, match=r"refiner\.options\.fill = 7 of refiner clip"):
        build_refiner(config.refiner, [], mean=(0, 0, 0), std=(1, 1, 1))
