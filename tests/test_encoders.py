"""Networks of timm as backbones: what is asked of them, what they lack and how that is made, the sizes that they take, their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from focus_plugins.backbones.choosing import build_any
from focus_plugins.backbones.offer import as_feature_net, nearest_multiple, offers
from focus_plugins.backbones.staged_pyramid import StagedPyramid, choose
from focus_plugins.backbones.staged_vit import StagedViT
from safetensors.torch import save_file
from torch import nn

from focus_framework import ConfigError, WeightsError
from focus_framework.config.schema import RunConfig
from focus_framework.model.build import build_network

ROWS = (line.split() for line in (Path(__file__).parent / "data" / "encoders.txt").read_text().splitlines())
MEMBERS = {family: name for family, name in ROWS if family in timm.list_modules()}
"""An older timm has fewer families."""
QUICK = ("deit", "efficientvit_msra", "mobilenetv3", "pit", "vision_transformer_hybrid", "xcit")
"""One for each way in which a network is asked; the others by ``pytest -m families``."""
SMALL = {
    "enhancer": {"name": "none"},
    "pixel_decoder": {"width": 32, "layers": 1, "heads": 4, "feedforward": 32},
    "decoder": {"layers": 1, "heads": 4, "feedforward": 32},
}
SHARED = Path(__file__).parents[2] / "shared" / "weights"


def small(name: str, *, size: int = 64, weights: str = "none", **backbone: Any) -> Any:
    torch.manual_seed(0)
    chosen = {"name": name, "weights": weights, **backbone}
    return build_network(RunConfig.model_validate({"task": "shadow", "backbone": chosen, "preprocessing": {"size": size}, **SMALL}))


def test_every_family_of_timm_has_a_member_here() -> None:
    assert set(MEMBERS) == set(timm.list_modules())
    assert all(name in timm.list_models(module=family) for family, name in MEMBERS.items())


@pytest.mark.parametrize(
    "family", [family if family in QUICK else pytest.param(family, marks=pytest.mark.families) for family in sorted(MEMBERS)]
)
def test_the_smallest_member_trains_and_takes_other_sizes(family: str) -> None:
    network = small(MEMBERS[family], size=128)
    heads = network.train()(torch.randn(2, 3, 128, 128))
    sum(output.square().mean() for output in heads).backward()
    backbone = network.encoder.backbone
    with_gradient = [parameter for parameter in backbone.parameters() if parameter.grad is not None]
    assert all(parameter.grad.isfinite().all() for parameter in with_gradient)
    assert sum(p.numel() for p in with_gradient) > 0.9 * sum(p.numel() for p in backbone.parameters())
    network.eval()
    with torch.no_grad():
        maps = network.encoder(torch.randn(1, 3, 96, 160)).maps
    assert [tuple(level.shape[-2:]) for level in maps] == [(24, 40), (12, 20), (6, 10), (3, 5)]


class TestScales:
    @pytest.mark.parametrize(
        ("reductions", "chosen"),
        [
            ([2, 4, 8, 16, 32], [(1, 4), (2, 8), (3, 16), (4, 32)]),
            ([4, 8, 16, 32, 32], [(0, 4), (1, 8), (2, 16), (4, 32)]),
            ([8, 16, 32], [(0, 8), (0, 8), (1, 16), (2, 32)]),
            ([16, 32, 64], [(0, 16), (0, 16), (0, 16), (1, 32)]),
            ([16] * 12, [(2, 16), (5, 16), (8, 16), (11, 16)]),
            ([7, 14], [(0, 7), (0, 7), (1, 14), (1, 14)]),
        ],
    )
    def test_are_the_networks_own_or_made_from_the_nearest(self, reductions: list[int], chosen: list[tuple[int, int]]) -> None:
        assert choose(info(reductions)) == chosen

    def test_what_is_made_is_told(self) -> None:
        notes = small(MEMBERS["efficientvit_msra"], size=128).encoder.backbone.notes
        assert [note for note in notes if note.startswith("the map")] == [  # up to timm 1.0.28 it takes one size only, which is told too
            "the map at 1/4 is made from the network's map 0 at 1/16, upsampled",
            "the map at 1/8 is made from the network's map 0 at 1/16, upsampled",
        ]

    def test_a_complete_network_has_nothing_to_tell_and_nothing_added(self) -> None:
        backbone = small("mobilenetv2_100").encoder.backbone
        assert backbone.notes == ()
        assert not list(backbone.scales.parameters())


def info(reductions: list[int]) -> Any:
    from timm.models._features import FeatureInfo

    rows = [{"num_chs": 8, "reduction": reduction, "module": str(index)} for index, reduction in enumerate(reductions)]
    return FeatureInfo(rows, tuple(range(len(rows))))


class TestSizes:
    @pytest.mark.parametrize(("length", "expected"), [(96, 98), (100, 98), (3, 14), (106, 112)])
    def test_the_nearest_multiple(self, length: int, expected: int) -> None:
        assert nearest_multiple(length, 14) == expected

    def test_one_that_takes_a_single_size_is_built_for_the_runs_and_says_so(self) -> None:
        backbone = small(MEMBERS["pit"], size=96).encoder.backbone
        assert backbone.size == 96
        assert "images are resized to 96 x 96 for the backbone, which takes no other size" in backbone.notes

    def test_that_size_goes_with_a_checkpoint(self) -> None:
        first = small(MEMBERS["pit"], size=96).encoder.backbone
        again = small(MEMBERS["pit"], size=128, options=first.options).encoder.backbone
        again.load_state_dict(first.state_dict())
        assert again.size == 96
        assert json.dumps(first.options)

    def test_whichever_the_shape_the_image_is_seen_whole(self) -> None:
        """The last map of a wide image differs where its right end does."""
        backbone = small(MEMBERS["pit"], size=64).encoder.backbone.eval()
        image = torch.randn(1, 3, 64, 160)
        other = image.clone()
        other[..., -16:] += 1
        with torch.no_grad():
            assert not torch.equal(backbone.begin(image).maps[3], backbone.begin(other).maps[3])


class TestKinds:
    @pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
    def test_plain_transformers_are_run_in_stages(self, name: str) -> None:
        assert isinstance(build_any(name, "none", {}, 64), StagedViT)

    @pytest.mark.parametrize("name", ["vit_tiny_r_s16_p8_224", "vit_relpos_small_patch16_224"])
    def test_those_with_a_stem_or_positions_of_their_own_are_not(self, name: str) -> None:
        assert isinstance(build_any(name, "none", {"depth": 4} if "relpos" in name else {}, 64), StagedPyramid)

    def test_what_cannot_work_is_refused_by_name_with_one_that_can(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = timm.create_model

        def broken(name: str, **options: Any) -> nn.Module:
            if name == "resnet10t":
                raise RuntimeError("no maps here")
            return real(name, **options)

        monkeypatch.setattr(timm, "create_model", broken)
        with pytest.raises(ConfigError, match=r"backbone resnet10t gives no maps .* 64 pixels: no maps here\. \w+ can"):
            next(offers("resnet10t", 64))


class TestWeights:
    def test_of_a_wrapped_network_are_all_taken(self, tmp_path: Path) -> None:
        source = timm.create_model(MEMBERS["pit"], img_size=64)
        save_file(source.state_dict(), tmp_path / "w.safetensors")
        backbone = small(MEMBERS["pit"], weights=str(tmp_path / "w.safetensors")).encoder.backbone
        image = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            ours = backbone.eval().begin(image).maps[1:]
            theirs = as_feature_net(source.eval())(image)
        for mine, their in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, their)

    def test_decide_the_size_where_positions_cannot_be_resized(self, tmp_path: Path) -> None:
        name = MEMBERS["mlp_mixer"]
        save_file(timm.create_model(name).state_dict(), tmp_path / "w.safetensors")
        assert small(name, size=64, weights=str(tmp_path / "w.safetensors")).encoder.backbone.size == 224

    def test_of_something_else_are_refused_with_the_first_reason(self, tmp_path: Path) -> None:
        save_file({"x": torch.zeros(3)}, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=rf"backbone {MEMBERS['pit']}: the weights in .*w\.safetensors cannot be loaded"):
            small(MEMBERS["pit"], weights=str(tmp_path / "w.safetensors"))

    @pytest.mark.parametrize("name", ["tf_efficientnet_lite1", "mobilenetv2_100"])
    @pytest.mark.parametrize("frozen_norm", [True, False])
    def test_of_a_file_with_its_batch_norms_kept_or_trained(self, name: str, frozen_norm: bool) -> None:
        file = SHARED / f"{name}.safetensors"
        if not file.is_file():
            pytest.skip(f"{file} is not here")
        network = small(name, weights=str(file), options={"frozen_norm": frozen_norm}).train()
        norm = next(module for module in network.encoder.backbone.modules() if isinstance(module, nn.BatchNorm2d))
        before = norm.running_mean.clone()
        network(torch.randn(2, 3, 64, 64))
        assert torch.equal(norm.running_mean, before) == frozen_norm
        assert network.encoder.backbone.mean == (0.5, 0.5, 0.5)
