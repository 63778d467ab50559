"""Flip, scales, tiles and the size of batches, with networks whose answer is known without running them."""

from __future__ import annotations

import logging
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from focus_framework import ConfigError, DeviceError
from focus_framework.config.layers import resolve, with_prediction
from focus_framework.config.schema import RunConfig
from focus_framework.inference.model import Model
from focus_framework.inference.views import spans
from focus_framework.model.build import build_network

SURE = torch.tensor([[20.0, 0.0, 0.0], [0.0, 20.0, 0.0]])
"""Class logits: the first query is the foreground, the second the background."""


class Recorder(nn.Module):
    """A network that looks at one pixel at a time: red is foreground. It keeps the sizes that it saw, and has room for so many."""

    def __init__(self, room: int = 1000) -> None:
        super().__init__()
        self.room = room
        self.encoder = SimpleNamespace(backbone=SimpleNamespace(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
        self.seen: list[tuple[int, ...]] = []

    def logits(self, pixels: Tensor) -> Tensor:
        return 8 * pixels[:, 0] - 4

    def forward(self, pixels: Tensor) -> SimpleNamespace:
        self.seen.append(tuple(pixels.shape))
        if len(pixels) > self.room:
            raise torch.OutOfMemoryError("no room")
        red = self.logits(pixels)
        return SimpleNamespace(class_logits=[SURE.expand(len(pixels), 2, 3)], mask_logits=[torch.stack([red, -red], 1)])


class Lopsided(Recorder):
    """What it says of a pixel depends on where the pixel is."""

    def logits(self, pixels: Tensor) -> Tensor:
        return super().logits(pixels) + torch.linspace(-2, 2, pixels.shape[-1])


def expected(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What `Recorder` says of an image that is not resized: both queries agree, so the map is the sigmoid itself."""
    return 1 / (1 + np.exp(4 - 8 * (picture[..., 0] / 255)))


def model(network: nn.Module | None = None, *, size: int = 64, **prediction: Any) -> Model:
    config = resolve("shadow", options={"preprocessing.size": size, "preprocessing.resize": "short-side"}).config
    return Model(with_prediction(config, prediction), network or Recorder())  # type: ignore[arg-type]


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tiny_network() -> tuple[RunConfig, nn.Module]:
    options = {
        "backbone.options.embed_dim": 32,
        "backbone.options.depth": 4,
        "backbone.options.num_heads": 2,
        "pixel_decoder.width": 32,
        "pixel_decoder.layers": 1,
        "pixel_decoder.feedforward": 32,
        "decoder.layers": 2,
        "decoder.feedforward": 32,
        "preprocessing.size": 64,
    }
    config = resolve("shadow", options=options).config
    torch.manual_seed(0)
    return config, build_network(config, weights="none")


@pytest.mark.parametrize(("extent", "tile", "overlap"), [(200, 64, 0.25), (65, 64, 0.25), (1000, 64, 0.75), (129, 64, 0.0)])
def test_spans_cover_an_axis_and_their_weights_add_up_to_one(extent: int, tile: int, overlap: float) -> None:
    made = spans(extent, tile, overlap)
    total = np.zeros(extent)
    for span in made:
        assert len(span.weights) == tile
        assert (span.weights > 0).all()
        total[span.pixels] += span.weights
    np.testing.assert_allclose(total, 1, atol=1e-6)
    shared = [first.start + tile - second.start for first, second in pairwise(made)]
    assert min(shared) >= int(tile * overlap) - 1  # starts are whole pixels


def test_a_tile_fades_out_where_it_ends() -> None:
    first, second = spans(100, 64, 0.25)[:2]
    assert first.weights[0] == 1  # the border of the image is no seam
    assert first.weights[-1] < 0.01
    assert second.weights[0] < 0.01


def test_a_image_of_the_size_of_a_tile_is_not_changed_by_tiling() -> None:
    picture = noise(90, 128)
    plain, tiled = (model(Lopsided(), tile=tile).predict(picture).probability for tile in (0, 128))
    assert np.array_equal(plain, tiled)


def test_tiles_of_a_network_of_single_pixels_give_the_map_of_the_whole() -> None:
    picture = noise(160, 203)
    network = Recorder()
    tiled = model(network, size=64, tile=64).predict(picture).probability  # tiles are not resized
    np.testing.assert_allclose(tiled, expected(picture), atol=1e-6)
    np.testing.assert_allclose(model(size=160).predict(picture).probability, expected(picture), atol=1e-6)
    assert {shape[2:] for shape in network.seen} == {(64, 64)}


def test_a_tile_too_small_to_be_worth_a_pass_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^option: prediction.tile = 3: should be 0 or at least 64$"):
        with_prediction(resolve("shadow").config, {"tile": 3})


def test_no_pass_sees_more_than_a_tile_of_a_large_image() -> None:
    network = Recorder()
    given: list[tuple[int, int]] = []
    seer = model(network, tile=256)
    prepare = seer.prepare

    def noted(image: NDArray[np.uint8], *, scale: float = 1.0) -> Any:
        given.append(image.shape[:2])
        return prepare(image, scale=scale)

    seer.prepare = noted  # type: ignore[method-assign]
    result = seer.predict(noise(1500, 700))
    assert result.probability.shape == (1500, 700)
    assert set(given) == {(256, 256)}
    assert {shape[2:] for shape in network.seen} == {(64, 64)}


def test_a_constant_image_has_a_map_without_seams() -> None:
    picture = np.full((300, 333, 3), 150, np.uint8)
    probability = model(tile=64, flip=True, scales=[0.75, 1.5]).predict(picture).probability
    np.testing.assert_allclose(probability, expected(picture), atol=1e-6)


def test_a_border_between_disagreeing_tiles_is_smooth() -> None:
    """`Lopsided` says 0.12 at a tile's left and 0.88 at its right: hard borders would be steps of 0.76."""
    picture = np.full((64, 400, 3), 127, np.uint8)
    row = model(Lopsided(), tile=64, overlap=0.5).predict(picture).probability[30]
    hard = model(Lopsided(), tile=64, overlap=0.0).predict(picture[:, :384]).probability[30]
    assert np.abs(np.diff(hard)).max() > 0.7
    assert np.abs(np.diff(row)).max() < 0.05


def test_with_flip_the_map_of_the_mirrored_image_is_the_mirrored_map() -> None:
    config, network = tiny_network()
    picture = noise(70, 100)
    seer = Model(with_prediction(config, {"flip": True}), network)  # type: ignore[arg-type]
    of_image, of_mirrored = (seer.predict(image).probability for image in (picture, np.ascontiguousarray(picture[:, ::-1])))
    assert of_image.shape == (70, 100)
    np.testing.assert_allclose(of_mirrored, of_image[:, ::-1], atol=1e-6)
    alone = Model(config, network).predict(picture).probability  # type: ignore[arg-type]
    assert np.abs(alone - of_image).max() > 1e-4


def test_views_are_averaged_as_probabilities() -> None:
    picture = noise(64, 64)
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    one = model(Lopsided())
    mean = (one.predict(picture).probability + one.predict(mirrored).probability[:, ::-1]) / 2
    np.testing.assert_allclose(model(Lopsided(), flip=True).predict(picture).probability, mean, atol=1e-6)
    single = [model(Lopsided(), scales=[scale]).predict(picture).probability for scale in (0.5, 2.0)]
    np.testing.assert_allclose(model(Lopsided(), scales=[0.5, 2]).predict(picture).probability, sum(single) / 2, atol=1e-6)


def test_scales_are_multiples_of_the_network_size() -> None:
    network = Recorder()
    assert model(network, scales=[0.5, 1, 1.5], flip=True).predict(noise(100, 150)).probability.shape == (100, 150)
    assert sorted(network.seen) == [(2, 3, 32, 64), (2, 3, 64, 96), (2, 3, 96, 160)]  # padded to multiples of 32
    square = resolve("shadow", options={"preprocessing.size": 64, "preprocessing.resize": "square"}).config
    assert Model(square, network).padded_size(100, 150, 0.8) == (64, 64)  # type: ignore[arg-type]


def test_images_of_mixed_sizes_come_in_order_and_share_batches() -> None:
    network = Recorder()
    pictures = [noise(*size, seed=seed) for seed, size in enumerate([(64, 96), (96, 64), (64, 96), (96, 64), (64, 96)])]
    results = model(network).predict(tuple(pictures), batch_size=4)
    for picture, result in zip(pictures, results, strict=True):
        assert np.shares_memory(result.image, picture) and np.array_equal(result.image, picture)
        np.testing.assert_allclose(result.probability, expected(picture), atol=1e-6)
    assert sorted(network.seen) == [(1, 3, 64, 96), (2, 3, 64, 96), (2, 3, 96, 64)]


def test_batches_are_halved_until_they_fit(caplog: pytest.LogCaptureFixture) -> None:
    network = Recorder(room=3)
    pictures = [noise(64, 64, seed=seed) for seed in range(20)]
    with caplog.at_level(logging.WARNING, logger="focus_framework"):
        results = model(network).predict(tuple(pictures), batch_size=8)
    for picture, result in zip(pictures, results, strict=True):
        np.testing.assert_allclose(result.probability, expected(picture), atol=1e-6)
    assert [shape[0] for shape in network.seen] == [8, 4, *[2] * 10]  # found once, kept for the rest
    assert [record.getMessage() for record in caplog.records] == ["memory is short: predicting in batches of 2 from here on"]


def test_one_image_too_large_says_what_to_do() -> None:
    with pytest.raises(DeviceError, match="--tile 500"):
        model(Recorder(room=0)).predict(noise(600, 1000))


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    network = Recorder()
    network.logits = lambda pixels: pixels @ torch.zeros(3, 3)  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="shape"):
        model(network).predict([noise(64, 64)] * 2)
    assert len(network.seen) == 1


def test_settings_of_the_call_replace_those_of_the_checkpoint() -> None:
    config = with_prediction(resolve("shadow").config, {"rule": "release", "tile": 512})
    changed = with_prediction(config, {"flip": True, "tile": None, "scales": [0.75, 1]})
    assert changed.prediction.model_dump() == {
        "rule": "release",
        "threshold": 0.5,
        "temperature": 1.0,
        "flip": True,
        "scales": [0.75, 1.0],
        "tile": 512,
        "overlap": 0.25,
        "precision": "fp32",
    }
    assert changed.model_copy(update={"prediction": config.prediction}) == config


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tile": 8}, "prediction.tile = 8.*at least 64"),
        ({"scales": [1, 9]}, "prediction.scales.1 = 9"),
        ({"scales": []}, "prediction.scales"),
        ({"flips": True}, "no setting 'prediction.flips'.*prediction.flip"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        with_prediction(resolve("shadow").config, settings)
