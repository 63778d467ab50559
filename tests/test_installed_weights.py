"""Weights that an installed distribution brings stand for pretrained ones."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch
from safetensors.torch import save_file

from focus_framework.config.layers import resolve as resolve_settings
from focus_framework.plugin import installed
from focus_framework.plugin.interfaces import resolve
from focus_framework.plugin.registry import registry

NAME = "mobilenetv3_small_050"


def offer(monkeypatch: pytest.MonkeyPatch, **functions: object) -> None:
    """An installed distribution with entry points of the group."""
    module = ModuleType("offers")
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, "offers", module)
    points = EntryPoints(EntryPoint(NAME, f"offers:{function}", installed.GROUP) for function in functions)
    monkeypatch.setattr(installed, "entry_points_of", lambda group: [("offers", "1", point) for point in points.select(group=group)])


def test_pretrained_takes_the_installed_file_with_its_mean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(3)
    state = timm.create_model(NAME, features_only=True, out_indices=(1, 2, 3, 4)).state_dict()
    file = tmp_path / "weights.safetensors"
    save_file(state, file, metadata={"mean": "(0.25, 0.5, 0.75)", "std": "0.5"})
    offer(monkeypatch, good=lambda: file)
    backbone = resolve(registry().get("backbone", NAME).build)(NAME, weights="pretrained")
    assert backbone.mean == (0.25, 0.5, 0.75)
    torch.testing.assert_close(dict(backbone.body.state_dict()), dict(state))


def test_a_broken_offer_is_passed_over_with_its_reason(monkeypatch, tmp_path, caplog):
    file = tmp_path / "weights.safetensors"
    file.touch()

    def broken():
        raise OSError("no such disk")

    offer(monkeypatch, broken=broken, good=lambda: file, gone=lambda: tmp_path / "gone")
    assert installed.installed_weights(NAME) == file
    assert "offers:broken gives no weights of mobilenetv3_small_050: OSError: no such disk" in caplog.text
    assert installed.installed_weights("resnet50") is None


def test_auto_takes_the_backbone_whose_weights_are_installed_and_says_so(monkeypatch, tmp_path, caplog):
    file = tmp_path / "weights.safetensors"
    file.touch()
    offer(monkeypatch, good=lambda: file)
    with caplog.at_level(logging.INFO, "focus_framework"):
        resolved = resolve_settings("salient", options={"backbone.name": "auto"})
    assert (resolved.config.backbone.name, resolved.config.backbone.weights) == (NAME, "pretrained")
    assert resolved.config.backbone.options == {}  # those of the preset are for another
    assert NAME in caplog.text
    assert resolve_settings("salient", assignments=["backbone.name=auto"]).config.backbone.name == NAME


def test_auto_leaves_the_presets_backbone_where_nothing_is_installed(monkeypatch, caplog):
    offer(monkeypatch)
    usual = resolve_settings("salient").config
    with caplog.at_level(logging.INFO, "focus_framework"):
        assert resolve_settings("salient", options={"backbone.name": "auto"}).config == usual
    assert "the preset decides" in caplog.text


def test_auto_leaves_a_checkpoint_its_network(monkeypatch, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.touch()
    offer(monkeypatch, good=lambda: file)
    parent = {"init": "some.safetensors", "backbone.name": "resnet50", "backbone.weights": "none"}
    assert resolve_settings("salient", parent=parent, options={"backbone.name": "auto"}).config.backbone.name == "resnet50"
