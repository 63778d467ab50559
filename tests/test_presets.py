"""The paper's and the release's recipes: what they build at full size, and how they differ."""

from __future__ import annotations

import math

import pytest
import torch
from support.release import released_shapes

from focus_framework.checkpoint import release
from focus_framework.config.layers import resolve
from focus_framework.model.build import build_network

COUNTS = {
    "paper-large": (373_929_351, 373_929_351, 0.3),
    "paper-giant": (1_235_294_023, 1_235_294_023, 1.2),
    "paper-giant-frozen": (1_235_294_023, 98_817_863, 0.1),
    "release-large": (373_929_351, 373_929_351, 0.3),
    "release-giant": (1_235_294_023, 1_235_294_023, 1.2),
    "baseline": (325_017_031, 325_017_031, 0.3),
}
"""Parameters, those that are trained, and what the paper says of the latter, in thousand millions, to one digit."""

TABLE_4 = {
    "baseline": ("foreground", "none", "none", False, "pretrained"),
    "baseline-jp": ("soft", "none", "none", False, "pretrained"),
    "baseline-jp-cr": ("soft", "clip", "none", False, "pretrained"),
    "paper-large": ("soft", "clip", "edge", False, "pretrained"),
    "paper-giant-frozen": ("soft", "clip", "edge", True, "pretrained"),
    "paper-giant-scratch": ("soft", "clip", "edge", False, "none"),
    "paper-giant": ("soft", "clip", "edge", False, "pretrained"),
}
"""Joint prediction, refiner, enhancer, whether the backbone is frozen, its weights."""


@pytest.mark.parametrize("preset", COUNTS)
def test_parameters_at_full_size(preset: str) -> None:
    config = resolve("salient", preset=preset).config
    with torch.device("meta"):
        network = build_network(config, weights="none")
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    total = sum(parameter.numel() for parameter in network.parameters())
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert (total, trained) == COUNTS[preset][:2]
    assert abs(trained / 1e9 - COUNTS[preset][2]) < 0.1


def test_the_networks_are_those_of_the_released_files() -> None:
    for variant in ("large", "giant"):
        shapes = released_shapes(variant)
        buffers = ("running_mean", "running_var", "num_batches_tracked")
        used = [key for key in shapes if not release.TRAINING_ONLY.fullmatch(key) and not key.endswith(buffers)]
        assert sum(math.prod(shapes[key]) for key in used) == COUNTS[f"release-{variant}"][0]


def test_table_4_is_a_row_of_switches() -> None:
    rows = {name: resolve("salient", preset=name).config for name in TABLE_4}
    switches = {
        name: (c.prediction.rule, c.refiner.name, c.enhancer.name, c.backbone.frozen, c.backbone.weights) for name, c in rows.items()
    }
    assert switches == TABLE_4


def test_recipes() -> None:
    paper, released = (resolve("shadow", preset=name).config for name in ("paper-large", "release-large"))
    assert (paper.training.learning_rate, paper.training.backbone_rate, paper.decoder.first_mask) == (1e-5, 1.0, "pca")
    assert (released.training.learning_rate, released.training.backbone_rate, released.decoder.first_mask) == (1e-4, 0.1, "release")
    assert released.training.enhancer_rate == 0.1
    for config in (paper, released):
        training = config.training
        assert (training.steps, training.batch_size, training.weight_decay, training.gradient_norm) == (20_000, 8, 0.05, 0.01)
        assert config.backbone.options["drop_path_rate"] == config.enhancer.drop_path == 0.4
        assert config.preprocessing.size == 512
