"""`focus explain` and `Model.explain`: what is shown is what the network computed, for every kind of network, and errors by kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from focus_framework import DataError
from focus_framework.checkpoint import describe, write_checkpoint
from focus_framework.cli.explain import explain as command
from focus_framework.config.layers import resolve
from focus_framework.evaluation.errors import errors_by_kind, near_border
from focus_framework.inference.explain import Colours, tiles
from focus_framework.inference.explain.recorder import Attended, sampled
from focus_framework.inference.model import Model
from focus_framework.model.build import build_network
from focus_framework.model.deformable_attention import DeformableAttention, grid_references
from focus_framework.plugin.interfaces import ShowsImage
from focus_framework.plugin.registry import registry

SMALL = {"preprocessing.size": 64, "preprocessing.resize": "short-side", "decoder.layers": 3}


def small_model(seed: int = 0, **options: Any) -> Model:
    torch.manual_seed(seed)
    config = resolve("shadow", preset="quick", options=SMALL | {"refiner.name": "none"} | options).config
    return Model(config, build_network(config)).eval()


def picture(width: int = 100, height: int = 70, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> Model:
    return small_model()


def test_what_is_shown_is_what_the_network_computed(model: Model) -> None:
    image = picture()
    explained = model.explain(image)
    prepared = model.prepare(image)
    height, width = prepared.size
    assert explained.image.shape == (height, width, 3)
    with torch.inference_mode():
        features = model.network.encoder(prepared.pixels[None])
        pixels = model.network.pixel_decoder(features.maps)
        heads = model.network.decoder(pixels, features, all_heads=True)
        prior = model.network.encoder.prior(prepared.pixels[None])
    rows, columns = -(-height // 4), -(-width // 4)
    torch.testing.assert_close(explained.tensors["mask_features"], pixels.mask_features[0, :, :rows, :columns])
    torch.testing.assert_close(explained.tensors["fused.4"], features.maps[0][0, :, :rows, :columns])
    torch.testing.assert_close(explained.tensors["prior.4"], prior[0][0, :, :rows, :columns])
    torch.testing.assert_close(explained.tensors["masks"], heads.mask_logits[:, 0, :, :rows, :columns].sigmoid())
    torch.testing.assert_close(explained.tensors["class_probabilities"], heads.class_logits[:, 0].softmax(-1))
    stage = features.last[0].T.unflatten(1, features.grid)
    torch.testing.assert_close(
        explained.tensors["stage.4"], stage[:, : explained.tensors["stage.4"].shape[1], : explained.tensors["stage.4"].shape[2]]
    )
    assert {name for name in explained.tensors if name.startswith("attention")} == {"attention.1", "attention.2", "attention.3"}
    np.testing.assert_array_equal(explained.result.probability, model.predict(image).probability)


def test_no_hook_stays_behind(model: Model) -> None:
    model.explain(picture())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.network.modules())


@pytest.mark.parametrize(
    "options",
    [
        {"enhancer.name": "none"},
        {"backbone.name": "resnet18", "backbone.weights": "none"},
        {"backbone.name": "resnet18", "backbone.weights": "none", "enhancer.name": "none", "decoder.first_mask": "open"},
        {"decoder.layers": 1, "preprocessing.resize": "square"},
    ],
)
def test_every_kind_of_network_is_explained(options: dict[str, Any]) -> None:
    explained = small_model(**options).explain(picture(), points=[(5, 5)])
    assert ("prior.4" in explained.tensors) is (options.get("enhancer.name") != "none")
    assert [f"stage.{number}" in explained.tensors for number in (1, 2, 3, 4)] == [True] * 4
    if options.get("decoder.first_mask") == "open":
        assert (explained.tensors["attention.1"] == 1).all()
    assert np.asarray(explained.sheet()).std() > 0


def test_the_edge_prior_shows_its_edge_image(model: Model) -> None:
    prior: Any = model.network.encoder.prior
    assert isinstance(prior, ShowsImage)
    prepared = model.prepare(picture())
    shown = prior.image_seen(prepared.pixels[None])
    torch.testing.assert_close((shown - model.mean) / model.std, prior.overlay(prepared.pixels[None]))


def test_samples_lie_where_the_attention_takes_them_from() -> None:
    """A value that is its own position: what comes out is the mean of the places, weighted."""
    torch.manual_seed(3)
    shapes = [(3, 5), (6, 10)]
    module = DeformableAttention(8, heads=1, levels=2, points=3)
    torch.nn.init.normal_(module.sampling_offsets.weight, std=0.05)
    torch.nn.init.zeros_(module.sampling_offsets.bias)
    torch.nn.init.normal_(module.attention_weights.weight)
    torch.nn.init.eye_(module.value_proj.weight)
    torch.nn.init.eye_(module.output_proj.weight)
    places = grid_references(shapes, torch.device("cpu"))
    value = torch.nn.functional.pad(places[:, :, 0], (0, 6))
    query = torch.randn(1, 75, 8)
    with torch.inference_mode():
        output = module(query, places, value, shapes)
        number = 15 + 3 * 10 + 5  # in the middle of the finer map
        samples = sampled(Attended(module, query, places, shapes), number)
    assert samples.shape == (6, 4)
    assert samples[:, 2].tolist() == [0, 0, 0, 1, 1, 1]
    torch.testing.assert_close(samples[:, 3].sum(), torch.tensor(1.0))
    assert ((samples[:, :2] > 0.2) & (samples[:, :2] < 0.8)).all()  # away from the border, where what lies outside counts as 0
    torch.testing.assert_close((samples[:, :2] * samples[:, 3:]).sum(0), output[0, number, :2])


def test_a_point_is_looked_from_and_one_outside_is_named(model: Model) -> None:
    explained = model.explain(picture(), points=[(50, 35)])
    assert [look.part for look in explained.looked] == ["injector of the last stage", "last layer of the pixel decoder"]
    assert explained.looked[0].point == pytest.approx((0.505, 35.5 / 70))
    assert len(explained.everywhere) == 144
    with pytest.raises(DataError, match="the point 100,20 lies outside of the image, which is 100 pixels wide and 70 high"):
        model.explain(picture(), points=[(100, 20)])


def test_colours_compare_between_images_and_are_the_same_every_time(model: Model) -> None:
    first, second = model.explain(picture(seed=1)), model.explain(picture(seed=2))
    together = Colours([first, second])
    alone = Colours([first])
    features = first.tensors["stage.4"]
    assert not np.array_equal(together("stage.4", features), alone("stage.4", features))
    np.testing.assert_array_equal(together("stage.4", features), Colours([second, first])("stage.4", features))
    assert "Joint prediction, by rule: soft" in tiles(first)


# Errors by kind.


def square(size: int = 100, start: int = 30, end: int = 70) -> NDArray[np.bool_]:
    mask = np.zeros((size, size), bool)
    mask[start:end, start:end] = True
    return mask


def test_the_border_is_what_lies_near_the_other_class() -> None:
    truth = square()
    rows, columns = np.indices(truth.shape)
    inside = np.maximum(abs(rows - 49.5), abs(columns - 49.5))
    near = near_border(truth, 2)
    assert near[(inside > 18) & (inside < 20)].all()
    assert not near[inside < 18].any()
    assert near[70:76, 50].tolist() == [True, True, False, False, False, False]
    assert not near[0].any()
    assert not near_border(np.ones((5, 5), bool), 2).any()


@pytest.mark.parametrize("kind", ["missed", "wrong", "border"])
def test_each_kind_of_error_is_told(kind: str) -> None:
    truth, level = square(), np.where(square(), 255, 0).astype(np.uint8)
    if kind == "missed":
        level[45:55, 45:55] = 0
    elif kind == "wrong":
        level[:10, :10] = 255
    else:
        level = np.where(square(start=29, end=71), 255, 0).astype(np.uint8)
    errors = errors_by_kind(level, truth)
    assert errors.shares[kind] == 1
    assert errors.total == (np.where(level > 127, True, False) ^ truth).sum()


def test_shares_add_up_to_the_mean_absolute_error_and_parts_are_counted() -> None:
    truth = square() | square(start=80, end=90)
    level = np.random.default_rng(0).integers(0, 256, truth.shape, dtype=np.uint8)
    level[30:70, 30:70] = 255
    level[80:90, 80:90] = 100
    errors = errors_by_kind(level, truth)
    assert errors.total == pytest.approx(np.abs(level / 255 - truth).sum())
    assert sum(errors.shares.values()) == pytest.approx(1)
    assert (errors.parts, errors.found) == (2, 1)
    assert errors.line.endswith("; 1 of 2 parts found")
    assert errors_by_kind(np.where(truth, 255, 0).astype(np.uint8), truth).line == "no error"


# The command.


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("explain")
    paths = [folder / "first.safetensors", folder / "second.safetensors"]
    for seed, path in enumerate(paths):
        made = small_model(seed)
        task = registry().find_task("shadow")
        write_checkpoint(path, made.network.state_dict(), describe(made.config, made.network, task, task.get().pairs()))
    return paths


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (tmp_path / "masks").mkdir()
    folder.mkdir()
    for name in ("one", "two"):
        Image.fromarray(picture(seed=len(name))).save(folder / f"{name}.png")
        Image.fromarray(np.where(square()[:70], 255, 0).astype(np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    return folder


def test_the_command_writes_a_page_and_a_sheet_an_image(checkpoints: list[Path], images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call = [str(images), "--checkpoint", str(checkpoints[0]), "--masks", str(images.parent / "masks"), "--against", str(checkpoints[1])]
    ran = CliRunner().invoke(command, [*call, "--point", "20,30", "--out", str(out), "--json"], catch_exceptions=False)
    assert ran.exit_code == 0
    told = json.loads(ran.stdout)
    assert sorted(path.name for path in out.iterdir() if path.suffix) == ["explained.html", "one.png", "two.png"]
    assert list(told["images"][0]["errors"]) == [f"{path.parent.name}/{path.name}" for path in checkpoints]
    text = (out / "explained.html").read_text("utf-8")
    assert text.count("<canvas") == 4
    assert "Errors by kind" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")  # nothing is fetched


@pytest.mark.parametrize(
    "extra, message",
    [
        (["--point", "nine"], "'nine' is no point such as 120,80"),
        (["--point", "1,2,3"], "'1,2,3' is no point such as 120,80"),
        ([], "give either --checkpoint"),
    ],
)
def test_a_wrong_call_is_named(images: Path, extra: list[str], message: str) -> None:
    ran = CliRunner().invoke(command, [str(images), *extra])
    assert message in ran.output + str(ran.exception)


def test_an_image_without_its_mask_is_named(checkpoints: list[Path], images: Path, tmp_path: Path) -> None:
    (images.parent / "masks" / "two.png").unlink()
    with pytest.raises(DataError, match=r"masks has no mask for two\.png"):
        call = [str(images), "--checkpoint", str(checkpoints[0]), "--masks", str(images.parent / "masks"), "--out", str(tmp_path / "out")]
        CliRunner().invoke(command, call, catch_exceptions=False)
