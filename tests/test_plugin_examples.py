"""The examples a plugin author starts from: the package beside the framework, and the code on the page "Write a plugin"."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from focus_framework import Backbone, Conditioner, Enhancer, Prompts, Refiner, WeightsError
from focus_framework.config.schema import EnhancerConfig
from focus_framework.model.encoder import EnhancedEncoder, PlainEncoder
from focus_framework.model.trial import built_conditioner
from focus_framework.plugin import hookspecs
from focus_framework.plugin.interfaces import Prior, RefinerLoss, StagedBackbone, TaskVectors, resolve
from focus_framework.plugin.kit.practice import practice_pair
from focus_framework.plugin.registry import Registry

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "plugins.md").read_text("utf-8")
EXAMPLE = ROOT / "examples" / "focus-task-glass"
GLASS = EXAMPLE / "focus_task_glass.py"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("block", re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", PAGE, re.DOTALL), ids=lambda b: b[0])
def test_the_page_shows_the_example_as_it_is(block: tuple[str, str]) -> None:
    path, shown = block
    assert shown == (ROOT / path).read_text("utf-8")


def test_the_page_shows_both_files() -> None:
    assert PAGE.count("<!-- file: ") == 2


def test_the_page_has_every_hook_as_it_is_specified() -> None:
    hooks = {name: function for name, function in vars(hookspecs).items() if name.startswith("focus_")}
    assert len(hooks) == 5
    for name, function in hooks.items():
        assert f"`{name}() -> {function.__annotations__['return']}`" in PAGE
        assert function.__doc__ in PAGE


def from_page(kind: str) -> Any:
    """The description that the page's example of this kind yields, through the registry."""
    (source,) = re.findall(rf"<!-- plugin: {kind} -->\n```python\n(.*?)```\n", PAGE, re.DOTALL)
    module = types.ModuleType(f"example_{kind}")
    exec(compile(source, f"docs/plugins.md ({kind})", "exec"), vars(module))
    registry = Registry()
    (entry,) = registry.add(module, kind, "docs/plugins.md", "page", "0")
    return entry.get()


def test_the_backbone_of_the_page_works_with_and_without_an_enhancer() -> None:
    description = from_page("backbone")
    assert isinstance(description, Backbone)
    with pytest.raises(WeightsError, match="--backbone-weights none"):
        resolve(description.build)("small", weights="pretrained")
    prior = resolve(from_page("enhancer").build)(32, mean=MEAN, std=STD)
    image = torch.randn(2, 3, 64, 96)
    for encoder in (
        PlainEncoder(resolve(description.build)("small", weights="none", width=8)),
        EnhancedEncoder(resolve(description.build)("small", weights="none"), prior, width=32, heads=4, config=EnhancerConfig()),
    ):
        assert isinstance(encoder.backbone, StagedBackbone)
        maps = encoder(image).maps
        assert [tuple(level.shape[2:]) for level in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
        sum(level.square().mean() for level in maps).backward()
        assert all(parameter.grad is not None for parameter in encoder.backbone.parameters())


def test_the_enhancer_of_the_page_sees_edges() -> None:
    description = from_page("enhancer")
    assert isinstance(description, Enhancer)
    prior = resolve(description.build)(24, mean=MEAN, std=STD)
    assert isinstance(prior, Prior)
    flat, edge = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    edge[..., 30:] = 1
    assert [tuple(level.shape) for level in prior(edge)] == [(1, 24, s, s) for s in (16, 8, 4, 2)]
    at_edge, beside = (prior(edge)[0] - prior(flat)[0]).abs().amax((0, 1, 2))[[7, 2]]
    assert at_edge > 0
    assert beside == 0


def test_the_refiner_of_the_page_prefers_the_right_mask_and_has_a_gradient() -> None:
    description = from_page("refiner")
    assert isinstance(description, Refiner)
    loss = resolve(description.build)([Prompts("a red disc", "a blue ground")], mean=MEAN, std=STD)
    assert isinstance(loss, RefinerLoss)
    image = torch.zeros(1, 3, 32, 32)
    image[:, 0, :, :16], image[:, 2, :, 16:] = 2, 2
    right = torch.full((3, 1, 2, 8, 8), -4.0)
    right[:, :, 0, :, :4], right[:, :, 1, :, 4:] = 4, 4
    wrong = right.roll(2, -1).requires_grad_()
    assert loss(image, right) < loss(image, wrong)
    loss(image, wrong).backward()
    assert wrong.grad is not None
    assert wrong.grad.abs().max() > 0


def test_the_conditioner_of_the_page_starts_from_nothing_and_learns_each_task_alone() -> None:
    description = from_page("conditioner")
    assert isinstance(description, Conditioner)
    built = built_conditioner("shift", resolve(description.build)(["a", "b"], width=8), tasks=2)
    assert isinstance(built, TaskVectors)
    shift = built(built.vectors[torch.tensor([1, 1, 0])])
    assert shift.shape == (3, 2, 8) and not shift.any()
    shift[:2].sum().backward()
    assert built.vectors.grad is not None
    assert built.vectors.grad[1].all() and not built.vectors.grad[0].any()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the example is installed; the shared one stays as it is."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "focus-task-glass"  # building leaves folders behind
    source.mkdir()
    for path in EXAMPLE.iterdir():
        if path.is_file():
            (source / path.name).write_bytes(path.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True, timeout=120)
    return os.environ | {"PYTHONPATH": str(target)}


def focus(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "focus_framework", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_the_installed_example_is_listed_with_its_distribution(installed: dict[str, str]) -> None:
    listed = json.loads(focus("plugins", "list", "--json", environment=installed).stdout)
    (glass,) = [row for row in listed["tasks"] if row["name"] == "glass"]
    assert (glass["distribution"], glass["version"], glass["status"]) == ("focus-task-glass", "0.1.0", "ok")
    assert json.loads(focus("plugins", "info", "glass", "--json", environment=installed).stdout)["licence"] == "Apache-2.0"
    assert focus("plugins", "info", "glass").returncode == 2  # not installed here


def test_the_installed_example_trains(installed: dict[str, str], tmp_path: Path) -> None:
    arguments = ["--task-plugin", "glass", "--config", str(ROOT / "tests" / "data" / "toy.toml"), "--steps", "1", "--out", str(tmp_path)]
    done = focus("train", *arguments, "--json", environment=installed)
    assert done.returncode == 0, done.stderr
    assert {"iou", "mae"} <= set(json.loads(done.stdout)["validation"])


def test_practice_images_of_the_example_are_varied_and_follow_from_their_seed() -> None:
    task = Registry().find_task(str(GLASS)).get()
    pairs = [practice_pair(task, seed=0, split="train", index=index, size=64) for index in range(24)]
    again = practice_pair(task, seed=0, split="train", index=3, size=64)
    assert np.array_equal(pairs[3][0], again[0])
    assert np.array_equal(pairs[3][1], again[1])
    assert len({image.tobytes() for image, _ in pairs}) == 24
    assert all(0.02 < mask.mean() < 0.65 for _, mask in pairs)


def test_brightness_does_not_give_the_glass_away() -> None:
    """No threshold on grey, in either direction, chosen with the truth at hand, comes near the mask on average."""
    task = Registry().find_task(str(GLASS)).get()
    best = []
    for index in range(24):
        image, mask = practice_pair(task, seed=1, split="test", index=index, size=64)
        grey = image.mean(axis=2)
        guesses = [side for level in range(8, 256, 8) for side in (grey > level, grey <= level)]
        best.append(max((guess & mask).sum() / (guess | mask).sum() for guess in guesses))
    assert np.mean(best) < 0.6
