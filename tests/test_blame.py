"""Errors in the middle of a network's work: out of a plugin they get its name, out of anything else they stay what they are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from focus_framework import DataError, PluginError
from focus_framework.model.blame import naming_plugins


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(7)  # torch raises: nothing here has 7 values


class Plugin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def enter(self, error: BaseException) -> None:
        raise error


class Backwards(torch.autograd.Function):
    @staticmethod
    def forward(context, x):  # type: ignore[no-untyped-def]
        return x * 1

    @staticmethod
    def backward(context, gradient):  # type: ignore[no-untyped-def]
        raise ValueError("backwards")


def test_an_error_of_torch_inside_a_plugin_is_named_after_its_outermost_function() -> None:
    plugin = Plugin()
    with (
        pytest.raises(PluginError, match=r"^backbone odd: forward\(\) raised RuntimeError: shape"),
        naming_plugins({"backbone odd": plugin}),
    ):
        plugin(torch.zeros(3))


def test_a_part_that_is_called_alone_is_known_by_its_plugin() -> None:
    plugin = Plugin()
    with pytest.raises(PluginError, match=r"^enhancer odd: forward"), naming_plugins({"enhancer odd": plugin}):
        plugin.inner(torch.zeros(3))


def test_a_function_of_autograd_is_known_by_the_file_of_the_plugin() -> None:
    x = torch.ones(2, requires_grad=True)
    with (
        pytest.raises(PluginError, match=r"refiner odd: backward\(\) raised ValueError: backwards"),
        naming_plugins({"refiner odd": Plugin()}),
    ):
        Backwards.apply(x).sum().backward()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("short"), MemoryError(), RuntimeError("not enough memory: you tried")])
def test_too_little_memory_is_no_fault_of_a_plugin(error: BaseException) -> None:
    plugin = Plugin()
    with pytest.raises(type(error)) as caught, naming_plugins({"backbone odd": plugin}):
        plugin.enter(error)
    assert caught.value is error


def test_errors_of_ours_and_those_outside_a_plugin_stay() -> None:
    plugin, asked = Plugin(), []
    with pytest.raises(DataError), naming_plugins({"backbone odd": plugin}):
        plugin.enter(DataError("an image"))
    parts = {"backbone odd": nn.Identity()}
    with pytest.raises(ZeroDivisionError), naming_plugins(parts, otherwise=lambda: asked.append(True)):
        _ = 1 / 0
    assert asked, "what the plugins give is looked at before the error is passed on"


def test_what_a_plugin_raises_beyond_exceptions_is_named_too() -> None:
    plugin = Plugin()
    with pytest.raises(PluginError, match="SystemExit: 7"), naming_plugins({"backbone odd": plugin}):
        plugin.enter(SystemExit(7))
