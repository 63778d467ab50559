"""The network: every kind of backbone with and without the enhancer, sizes, gradients, weights, the first mask, joint prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from focus_framework import ConfigError, PluginError, WeightsError
from focus_framework.config.layers import nest, resolve
from focus_framework.config.schema import RunConfig
from focus_framework.model.build import build_network
from focus_framework.model.first_mask import first_mask_logits, foreground_score, principal_component
from focus_framework.model.ground_decoder import GroundDecoder
from focus_framework.model.joint import foreground_map, release_mask, semantic_maps, soft_map
from focus_framework.model.network import Network

SMALL = {
    "enhancer.options.trunk": "resnet10t",
    "pixel_decoder.width": 32,
    "pixel_decoder.layers": 1,
    "pixel_decoder.heads": 4,
    "pixel_decoder.feedforward": 32,
    "decoder.layers": 2,
    "decoder.heads": 4,
    "decoder.feedforward": 32,
}
PLAIN = {
    "backbone.name": "vit",
    "backbone.weights": "none",
    "backbone.options": {"embed_dim": 32, "depth": 4, "num_heads": 2, "patch_size": 14, "img_size": 56},
}
BACKBONES: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "dinov2": {
        "backbone.name": "vit_small_patch14_dinov2",
        "backbone.weights": "none",
        "backbone.options": {"embed_dim": 32, "depth": 4, "num_heads": 2},
    },
    "dinov2-registers": {
        "backbone.name": "vit_small_patch14_reg4_dinov2",
        "backbone.weights": "none",
        "backbone.options": {"embed_dim": 32, "depth": 4, "num_heads": 2},
    },
    "dinov3": {
        "backbone.name": "vit_small_patch16_dinov3",
        "backbone.weights": "none",
        "backbone.options": {"embed_dim": 32, "depth": 4, "num_heads": 2},
    },
    "pyramid": {"backbone.name": "mobilenetv2_100", "backbone.weights": "none"},
    "pyramid-from-1/4": {"backbone.name": "convnext_atto", "backbone.weights": "none"},
}


def small_config(**settings: Any) -> RunConfig:
    """A small plain ViT with the edge enhancer, and what is set otherwise; a named backbone comes without the ViT's options."""
    base = SMALL if "backbone.name" in settings else {**SMALL, **PLAIN}
    return RunConfig.model_validate({"task": "shadow", **nest({**base, **settings})})


def small_network(**settings: Any) -> Network:
    torch.manual_seed(0)
    return build_network(small_config(**settings))


@pytest.mark.parametrize("enhancer", ["edge", "edge-release", "none"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_goes_with_every_enhancer(backbone: str, enhancer: str) -> None:
    settings = {"enhancer.name": enhancer, **BACKBONES[backbone]} | ({"enhancer.options": {}} if enhancer == "none" else {})
    network = small_network(**settings)
    heads = network(torch.randn(2, 3, 64, 96), all_heads=True)
    assert heads.class_logits.shape == (3, 2, 2, 3)
    assert heads.mask_logits.shape == (3, 2, 2, 16, 24)
    assert heads.boxes.shape == (3, 2, 2, 4)
    sum(part.square().mean() for part in heads).backward()  # type: ignore[union-attr]
    silent = [name for name, p in network.named_parameters() if p.grad is None]
    # Where the release's first mask is in use nothing else is left out; injectors start with gamma = 0, so theirs is zero, not missing.
    assert silent == []


def test_evaluation_gives_the_last_head_alone() -> None:
    network = small_network().eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        last, every = network(image), network(image, all_heads=True)
    assert len(last.mask_logits) == 1
    torch.testing.assert_close(last.mask_logits[0], every.mask_logits[-1])


def test_a_image_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    network = small_network().eval()
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together, alone = network(images).mask_logits[0, 1:2], network(images[1:2]).mask_logits[0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_the_injectors_start_silent() -> None:
    """With gamma = 0 the backbone sees nothing of the prior: its last output equals that of the plain encoder (ViT-Adapter, 3.3)."""
    enhanced = small_network().eval()
    plain = small_network(**{"enhancer.name": "none", "enhancer.options": {}}).eval()
    plain.encoder.backbone.load_state_dict(enhanced.encoder.backbone.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(enhanced.encoder(image).last, plain.encoder(image).last)


def test_a_frozen_backbone_stays_as_it_was() -> None:
    network = small_network(**{"backbone.frozen": True}).train()
    assert not any(p.requires_grad for p in network.encoder.backbone.parameters())
    assert any(p.requires_grad for p in network.encoder.prior.parameters())
    assert not network.encoder.backbone.training


class TestWeights:
    def test_a_file_is_loaded(self, tmp_path: Any) -> None:
        source = build_network(small_config(**BACKBONES["pyramid"])).encoder.backbone
        save_file(
            source.body.state_dict(), tmp_path / "w.safetensors", metadata={"mean": "0.5", "std": "[0.5, 0.25, 0.5]", "pad_type": "same"}
        )
        settings = {**BACKBONES["pyramid"], "backbone.weights": str(tmp_path / "w.safetensors")}
        loaded = build_network(small_config(**settings)).encoder.backbone
        for name, tensor in source.body.state_dict().items():
            torch.testing.assert_close(loaded.body.state_dict()[name], tensor)
        assert loaded.mean == (0.5, 0.5, 0.5)
        assert loaded.std == (0.5, 0.25, 0.5)
        assert loaded.options["pad_type"] == "same"

    def test_batch_norms_that_came_with_weights_keep_their_statistics(self, tmp_path: Any) -> None:
        source = build_network(small_config(**BACKBONES["pyramid"])).encoder.backbone
        save_file(source.body.state_dict(), tmp_path / "w.safetensors")
        settings = {**BACKBONES["pyramid"], "backbone.weights": str(tmp_path / "w.safetensors")}
        network = build_network(small_config(**settings)).train()
        before = network.encoder.backbone.body.bn1.running_mean.clone()
        network(torch.randn(2, 3, 64, 64))
        torch.testing.assert_close(network.encoder.backbone.body.bn1.running_mean, before)

    def test_a_missing_file_is_named(self) -> None:
        with pytest.raises(WeightsError, match=r"nowhere\.safetensors do not exist.*--backbone-weights"):
            small_network(**{**BACKBONES["pyramid"], "backbone.weights": "nowhere.safetensors"})

    def test_weights_of_something_else_are_refused(self, tmp_path: Any) -> None:
        save_file({"x": torch.zeros(3)}, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"w\.safetensors cannot be loaded"):
            small_network(**{**BACKBONES["pyramid"], "backbone.weights": str(tmp_path / "w.safetensors")})

    def test_pretrained_weights_that_cannot_be_had_say_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import timm

        def offline(*arguments: Any, **options: Any) -> None:
            raise OSError("cannot reach the hub")

        monkeypatch.setattr(timm, "create_model", offline)
        with pytest.raises(WeightsError, match=r"cannot reach the hub.*--backbone-weights FILE.*--backbone-weights none"):
            small_network(**{"backbone.name": "vit_small_patch14_dinov2", "backbone.weights": "pretrained", "backbone.options": {}})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone.name": "vit_smal_patch14_dinov2"}, "there is no backbone"),
        ({"backbone.options": {"embed_dims": 32}}, "embed_dims"),
        ({"backbone.options": {"embed_dim": 32, "depth": 5, "num_heads": 2}}, "5 blocks"),
        ({"enhancer.name": "edges"}, "did you mean edge"),
        ({"enhancer.options": {"trunk": "resnet51"}}, "resnet51"),
        ({"enhancer.options": {"colour": 1}}, "colour"),
        ({"enhancer.options": {"trunk": "vit_tiny_patch16_224"}}, "trunk"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, PluginError), match=message):
        small_network(**settings)


class TestFirstMask:
    def test_the_component_is_that_of_scikit_learn(self) -> None:
        from sklearn.decomposition import PCA

        random = np.random.default_rng(0)
        directions, _ = np.linalg.qr(random.normal(size=(24, 24)))
        spread = 3.0 * 0.8 ** np.arange(24)
        tokens = (random.normal(size=(2, 300, 24)) * spread) @ directions.T + 5
        ours = principal_component(torch.from_numpy(tokens)).numpy()
        for mine, theirs in zip(ours, (PCA(1).fit_transform(t)[:, 0] for t in tokens), strict=True):
            assert abs(np.corrcoef(mine, theirs)[0, 1]) > 0.999

    def test_the_sign_of_the_features_does_not_matter(self) -> None:
        tokens = torch.randn(2, 48, 16)
        torch.testing.assert_close(foreground_score(tokens, (6, 8)), foreground_score(-tokens, (6, 8)))

    def test_what_stands_in_the_middle_is_foreground(self) -> None:
        grid = torch.zeros(1, 8, 8, 4)
        grid[:, 2:6, 3:6] = torch.tensor([1.0, -2.0, 0.5, 0.0])
        inside, outside = first_mask_logits(grid.flatten(1, 2) + 0.01 * torch.randn(1, 64, 4), (8, 8))[0]
        expected = torch.zeros(8, 8, dtype=torch.bool)
        expected[2:6, 3:6] = True
        assert torch.equal(inside > 0, expected)
        assert torch.equal(outside > 0, ~expected)

    def test_equal_features_give_finite_scores(self) -> None:
        assert foreground_score(torch.ones(1, 16, 8), (4, 4)).isfinite().all()

    def test_it_blocks(self) -> None:
        """Unlike the release's, whose comparison of 0 and 1 with one half after a sigmoid never holds."""
        decoder = GroundDecoder(32, small_config().decoder)
        grid = torch.zeros(1, 8, 8, 4)
        grid[:, 2:6, 3:6] = 1.0
        blocked = decoder._blocked(first_mask_logits(grid.flatten(1, 2), (8, 8)), (8, 8))
        assert blocked is not None
        assert blocked[0].sum(1).tolist() == [64 - 12, 12]

    def test_a_row_that_forbids_everything_is_opened(self) -> None:
        decoder = GroundDecoder(32, small_config().decoder)
        logits = torch.stack([torch.full((4, 4), -1.0), torch.full((4, 4), 1.0)])[None]
        blocked = decoder._blocked(logits, (4, 4))
        assert blocked is not None
        assert not blocked.any()


class TestJointPrediction:
    class_logits = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(1))
    mask_logits = torch.randn(2, 2, 9, 7, generator=torch.Generator().manual_seed(2)) * 3

    def test_the_soft_map_is_the_share_of_the_foreground(self) -> None:
        weights, masks = self.class_logits.double().softmax(-1), self.mask_logits.double().sigmoid()
        expected = torch.zeros(2, 9, 7, dtype=torch.float64)
        for picture in range(2):
            for y in range(9):
                for x in range(7):
                    evidence = [sum(weights[picture, q, c] * masks[picture, q, y, x] for q in range(2)) for c in range(2)]
                    expected[picture, y, x] = evidence[0] / (evidence[0] + evidence[1])
        torch.testing.assert_close(soft_map(self.class_logits, self.mask_logits).double(), expected, atol=1e-6, rtol=1e-6)

    def test_exchanging_the_classes_gives_the_complement(self) -> None:
        exchanged = self.class_logits[..., [1, 0, 2]]
        torch.testing.assert_close(soft_map(exchanged, self.mask_logits), 1 - soft_map(self.class_logits, self.mask_logits))

    def test_the_order_of_the_queries_does_not_matter(self) -> None:
        swapped = (self.class_logits.flip(1), self.mask_logits.flip(1))
        for rule in (soft_map, foreground_map, release_mask, semantic_maps):
            torch.testing.assert_close(rule(*swapped), rule(self.class_logits, self.mask_logits))

    def test_masks_that_are_nearly_nothing_are_weighed_exactly(self) -> None:
        mask_logits = torch.tensor([-120.0, -119.0])[None, :, None, None]
        weights, masks = self.class_logits[:1].double().softmax(-1)[0], mask_logits.double().sigmoid().flatten()
        evidence = weights[:, 0] @ masks, weights[:, 1] @ masks
        found = soft_map(self.class_logits[:1], mask_logits).item()
        assert found == pytest.approx(float(evidence[0] / (evidence[0] + evidence[1])), rel=1e-6)

    def test_no_evidence_is_undecided(self) -> None:
        nothing = torch.full((1, 2, 3, 3), -200.0)
        torch.testing.assert_close(soft_map(torch.zeros(1, 2, 3), nothing), torch.full((1, 3, 3), 0.5))


def test_the_quick_preset_is_small_enough_for_a_laptop() -> None:
    network = build_network(resolve("shadow").config)
    assert sum(p.numel() for p in network.parameters()) < 10e6
