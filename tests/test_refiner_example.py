"""The refiner of somebody else: examples/focus-refiner-siglip, loaded as it lies there."""

from __future__ import annotations

import importlib
import json
import math
import tomllib
from pathlib import Path

import pytest
import torch

from focus_framework import ConfigError, Prompts, Refiner
from focus_framework.plugin.interfaces import PromptJudge, RefinerLoss, resolve
from focus_framework.plugin.registry import Registry

FOLDER = Path(__file__).parents[1] / "examples" / "focus-refiner-siglip"
PAIR = Prompts("a shadow", "no shadow")
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.fixture
def siglip(monkeypatch: pytest.MonkeyPatch) -> Refiner:
    """The description that the entry point of its pyproject gives, through the registry."""
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())
    ((name, module),) = project["project"]["entry-points"]["focus_framework"].items()
    assert {path.stem for path in FOLDER.glob("*.py")} == set(project["tool"]["setuptools"]["py-modules"])
    monkeypatch.syspath_prepend(str(FOLDER))
    registry = Registry()
    registry.add(importlib.import_module(module), name, module, project["project"]["name"], project["project"]["version"])
    return registry.get("refiner", name)


def tiny_model(folder: Path, **more: float) -> str:
    """A small model of SigLIP's kind: a text tower of its own and, with `init_logit_bias`, a bias."""
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "avg", "timm_proj": "none", "image_size": 224}
    text = {"context_length": 77, "vocab_size": 49408, "width": 192, "heads": 2, "layers": 1, "proj_bias": True}
    model = {"embed_dim": 192, "custom_text": True, "vision_cfg": vision, "text_cfg": text, **more}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    return f"local-dir:{folder}"


def test_it_is_listed_without_its_loss_being_imported(siglip: Refiner) -> None:
    assert isinstance(siglip, Refiner) and siglip.name == "siglip"
    assert isinstance(siglip.build, str)


def test_it_trains_masks_and_saves_nothing(siglip: Refiner, tmp_path: Path) -> None:
    model = tiny_model(tmp_path, init_logit_bias=-10.0)
    refiner = resolve(siglip.build)([PAIR], **IMAGENET, model=model, weights="random", checkpointing=True)
    assert isinstance(refiner, RefinerLoss) and isinstance(refiner, PromptJudge)
    logits = torch.randn(2, 3, 2, 16, 16).requires_grad_()
    loss = refiner(torch.randn(3, 3, 64, 64), logits)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all() and logits.grad.abs().max() > 0
    assert not refiner.state_dict()


def test_its_loss_is_that_of_four_independent_questions(siglip: Refiner, tmp_path: Path) -> None:
    refiner = resolve(siglip.build)([PAIR], **IMAGENET, model=tiny_model(tmp_path, init_logit_bias=-10.0), weights="random")
    cosines = torch.tensor([[0.9, 0.2], [0.1, 0.7]])
    refiner.text = torch.eye(2)
    total = 0.0
    for region in range(2):
        for prompt in range(2):
            logit = refiner.scale * float(cosines[region, prompt]) - 10
            total += math.log1p(math.exp(-logit if region == prompt else logit))
    assert float(refiner.loss(cosines[None, None])) == pytest.approx(total / 2, rel=1e-5)


def test_a_model_without_bias_is_refused(siglip: Refiner, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a SigLIP model"):
        resolve(siglip.build)([PAIR], **IMAGENET, model=tiny_model(tmp_path), weights="random")
