"""The packages under ``examples/``: short, and they keep every promise by the code that everybody's plugins are tried by."""

from __future__ import annotations

import importlib
import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from focus_framework.testing import Trial, promises, subjects

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[1] / "examples").glob("*/pyproject.toml"))
STARTS_TORCH = ("two processes learn the same", "another process gives the same loss")
FULL = ("glass", "reflection", "tv_resnet18", "residual")
"""Tried to the end; the others, larger ones of the same code, as far as that they build."""
BUILDS = "it builds without weights"


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module", autouse=True)
def importable() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for folder in FOLDERS:
            patch.syspath_prepend(str(folder))
        yield


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Options that make a small model of SigLIP's kind."""
    folder = tmp_path_factory.mktemp("siglip")
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "avg", "timm_proj": "none", "image_size": 224}
    text = {"context_length": 77, "vocab_size": 49408, "width": 192, "heads": 2, "layers": 1, "proj_bias": True}
    model = {"embed_dim": 192, "custom_text": True, "vision_cfg": vision, "text_cfg": text, "init_logit_bias": -10.0}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    return {"model": f"local-dir:{folder}", "weights": "random"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_promise_is_kept(folder: Path, siglip: dict[str, str]) -> None:
    (module,) = project(folder)["project"]["entry-points"]["focus_framework"].values()
    for subject in subjects(str(folder / f"{module}.py"), options=siglip if folder.name.endswith("siglip") else {}):
        for promise in promises(subject.entry.kind):
            if promise.name in STARTS_TORCH:
                continue
            with suppress(pytest.skip.Exception):  # tells no more than that it offers something less
                Trial(promise, subject).keep()
            if promise.name == BUILDS and subject.name not in FULL:
                break


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_all_its_files_are_in_the_package(folder: Path) -> None:
    assert {path.stem for path in folder.glob("*.py")} == set(project(folder)["tool"]["setuptools"]["py-modules"])
    assert project(folder)["project"]["license"] == "Apache-2.0"
    assert (folder / "README.md").is_file()


@pytest.mark.parametrize("name", ["focus-task-reflection", "focus-backbone-torchvision", "focus-enhancer-residual"])
def test_it_is_short(name: str) -> None:
    lines = sum(len(path.read_text("utf-8").splitlines()) for folder in FOLDERS if folder.name == name for path in folder.glob("*.py"))
    assert 0 < lines < 60


def test_the_backbone_takes_weights_of_torchvision(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(3)
    source = resnet18().eval()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    backbone = importlib.import_module("focus_backbone_torchvision").build("tv_resnet18", weights=str(tmp_path / "w.pth")).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        pooled = backbone.begin(image)[3].mean((2, 3))
        torch.testing.assert_close(source.fc(pooled), source(image))


def test_residuals_are_those_of_the_filters() -> None:
    """Nothing on planes of colour; and at a single bright pixel the filter's own numbers."""
    module = importlib.import_module("focus_enhancer_residual")
    prior = module.build(8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), largest=100.0)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    plane = ((rows + 2 * columns) / 255).expand(1, 3, 32, 32)
    assert prior.residuals(plane)[..., 2:-2, 2:-2].abs().max() < 1e-3
    dot = torch.zeros(1, 3, 32, 32)
    dot[0, 1, 16, 16] = 12 / 255
    found = prior.residuals(dot) * 100
    for number, (rows_, divisor) in enumerate(module.FILTERS):
        torch.testing.assert_close(
            found[0, 3 + number, 14:19, 14:19], torch.tensor(rows_, dtype=torch.float32) * 12 / divisor, atol=1e-3, rtol=0
        )
    assert not found[0, :3].any() and not found[0, 6:].any()
