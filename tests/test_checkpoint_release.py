"""Released checkpoints: every key accounted for, sizes read from shapes, what does not fit named."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from support.release import released_shapes, released_state, weight

import focus_framework
from focus_framework import FocusError, WeightsError
from focus_framework.checkpoint import open_checkpoint, release
from focus_framework.checkpoint.importing import import_release, read_release
from focus_framework.checkpoint.loading import empty_network
from focus_framework.cli.checkpoint import checkpoint as command
from focus_framework.config.layers import nest
from focus_framework.config.schema import RunConfig
from focus_framework.model.build import build_network

KEYS = {"large": 1488, "giant": 1712}
TRAINING_ONLY = 329
PREDICTOR = "sem_seg_head.predictor."


def network_of(shapes: release.Shapes) -> torch.nn.Module:
    settings = release.implied_settings(shapes)
    return empty_network(RunConfig.model_validate({"task": "salient", **nest(settings)}))


@pytest.fixture(scope="module")
def tiny() -> dict[str, torch.Tensor]:
    return released_state(released_shapes("tiny"))


@pytest.fixture(scope="module")
def file(tiny: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("release") / "focus_tiny_sd.pth"
    torch.save({"model": tiny, "iteration": 20_000, "trainer": {"best": np.float64(0.9)}}, path)
    return path


class TestKeys:
    @pytest.mark.parametrize("variant", KEYS)
    def test_every_key_of_the_released_files_has_its_place(self, variant: str) -> None:
        shapes = released_shapes(variant)
        network = network_of(shapes)
        ours = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        mapped = {key: release.our_name(key) for key in shapes if not release.TRAINING_ONLY.fullmatch(key)}
        assert len(shapes) == KEYS[variant]
        assert len(shapes) - len(mapped) == TRAINING_ONLY
        assert {name: shapes[key] for key, name in mapped.items()} == ours
        assert len(set(mapped.values())) == len(mapped)
        gated = release.is_gated(shapes)
        assert [release.their_name(name, gated=gated) for name in mapped.values()] == list(mapped)

    @pytest.mark.parametrize(("variant", "backbone"), [("large", "vit_large_patch14_dinov2"), ("giant", "vit_giant_patch14_dinov2")])
    def test_the_variant_is_recognised(self, variant: str, backbone: str) -> None:
        shapes = released_shapes(variant)
        assert release.variant(shapes) == variant
        assert release.implied_settings(shapes)["backbone.name"] == backbone
        assert release.variant(released_shapes("tiny")) == ""

    @pytest.mark.parametrize(
        ("name", "task"),
        [
            ("geshang/focus_giant_cod", "camouflage"),
            ("focus_large_sod.pth", "salient"),
            ("hf://geshang/focus_large_sd", "shadow"),
            ("focus-giant-dbd", "defocus"),
            ("FD", "forgery"),
            ("model_final", None),
            ("sod_or_sd", None),
        ],
    )
    def test_the_task_is_in_the_name(self, name: str, task: str | None) -> None:
        assert release.task_of(name) == task


OTHER_NETWORKS = {
    "gated, wide": {
        "backbone.options": {"embed_dim": 96, "depth": 8, "num_heads": 6, "mlp_ratio": 512 / 96 + 1e-9, "gated_mlp": True},
        "enhancer.ratio": 1.0,
        "pixel_decoder": {"width": 96, "layers": 1, "heads": 8, "feedforward": 1024},
        "decoder": {"layers": 2, "heads": 8, "feedforward": 96},
    },
    "odd ratios, no extra extractors": {
        "backbone.options": {"embed_dim": 48, "depth": 4, "num_heads": 3, "mlp_ratio": 2.5, "img_size": 112, "patch_size": 16},
        "enhancer.ratio": 0.25,
        "enhancer.feedforward_ratio": 0.3,
        "enhancer.extra_extractors": 0,
        "pixel_decoder": {"width": 32, "layers": 3, "heads": 4, "feedforward": 48},
        "decoder": {"layers": 5, "heads": 4, "feedforward": 200},
    },
    "deep, three extra extractors": {
        "backbone.options": {"embed_dim": 32, "depth": 12, "num_heads": 8},
        "enhancer.extra_extractors": 3,
        "pixel_decoder": {"width": 64, "layers": 6, "heads": 2, "feedforward": 64},
        "decoder": {"layers": 1, "heads": 2, "feedforward": 64},
    },
}


@pytest.mark.parametrize("name", OTHER_NETWORKS)
def test_any_sizes_are_read_from_shapes(name: str, tmp_path: Path) -> None:
    """A file of the authors' names with weights by the rule, for a network of other sizes: it loads, whole, and runs."""
    plain = {"backbone.name": "vit", "backbone.weights": "none", "enhancer.name": "edge-release"}
    options = {"patch_size": 14, "img_size": 518, "init_values": 1.0}
    table = OTHER_NETWORKS[name] | {"backbone.options": options | OTHER_NETWORKS[name]["backbone.options"]}
    config = RunConfig.model_validate({"task": "salient", **nest({**plain, **table})})
    built = build_network(config)
    gated = table["backbone.options"].get("gated_mlp", False)
    state = {}
    for key, tensor in built.state_dict().items():
        theirs = release.their_name(key, gated=gated)
        state[theirs] = weight(7, theirs, tuple(tensor.shape))
    torch.save(state, tmp_path / "focus_cod.pth")
    found, network, _ = open_checkpoint(tmp_path / "focus_cod.pth")
    for section in ("pixel_decoder", "decoder"):
        for key, value in table[section].items():
            assert getattr(getattr(found, section), key) == value, key
    assert network.encoder.backbone.heads == table["backbone.options"]["num_heads"]
    built.load_state_dict({release.our_name(key): tensor for key, tensor in state.items()}, strict=True)
    built.decoder.first_mask = "release"
    picture = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(network(picture).mask_logits, built.eval()(picture).mask_logits)


class TestImport:
    def test_the_file_becomes_ours(self, file: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.safetensors"
        result = CliRunner().invoke(command, ["import", str(file), "--out", str(out), "--json"], catch_exceptions=False)
        facts = json.loads(result.stdout)
        assert facts["task"] == "shadow"
        assert (facts["keys"], facts["used"], facts["training_only"]) == (808, 707, 101)
        picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        directly, imported = focus_framework.load(file), focus_framework.load(out)
        assert directly.config == imported.config
        model = imported.config
        assert (model.prediction.rule, model.decoder.first_mask, model.enhancer.name) == ("release", "release", "edge-release")
        assert (model.preprocessing.resize, model.preprocessing.size, model.preprocessing.longest) == ("short-side", 512, 2048)
        assert model.prompts.choice == "release"
        assert model.training.learning_rate == 1e-4
        assert imported.description["prompts"][0]["background"] == "It's an image of background with shadow removed."
        small = [m.config.preprocessing.model_copy(update={"size": 64}) for m in (directly, imported)]
        for m, rule in zip((directly, imported), small, strict=True):
            m.config = m.config.model_copy(update={"preprocessing": rule})
        mask = imported.predict(picture).probability
        assert np.array_equal(mask, directly.predict(picture).probability)
        assert set(np.unique(mask)) <= {0.0, 1.0}

    def test_inspecting_the_pickle_and_the_import_tells_the_same(self, file: Path, tmp_path: Path) -> None:
        import_release(file, tmp_path / "out.safetensors")
        told = []
        for path in (file, tmp_path / "out.safetensors"):
            result = CliRunner().invoke(command, ["inspect", str(path), "--json"], catch_exceptions=False)
            facts = json.loads(result.stdout)
            told.append({key: facts[key] for key in ("task", "backbone", "prompts", "preprocessing", "parameters", "plugins", "licence")})
        assert told[0] == told[1]
        assert told[0]["licence"].startswith("Apache-2.0")

    def test_other_wrappings(self, tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
        """Numpy arrays as detectron2 leaves them, torch's old format, safetensors, and half precision."""
        arrays = {"model": {key: tensor.numpy() for key, tensor in tiny.items()}, "__author__": "the authors"}
        torch.save(arrays, tmp_path / "arrays_sd.pth")
        torch.save(tiny, tmp_path / "old_sd.pth", _use_new_zipfile_serialization=False)
        save_file(tiny, tmp_path / "focus_sd.safetensors")
        torch.save({"state_dict": {key: t.half() if t.is_floating_point() else t for key, t in tiny.items()}}, tmp_path / "half_sd.pth")
        key = "backbone.patch_embed.proj.weight"
        for name, allowed in {"arrays_sd.pth": 0, "old_sd.pth": 0, "focus_sd.safetensors": 0, "half_sd.pth": 1e-3}.items():
            released = read_release(tmp_path / name)
            found = released.state[release.our_name(key)]
            assert found.dtype == torch.float32
            assert (found - tiny[key]).abs().max() <= allowed, name

    def test_an_unknown_task_is_assumed_aloud_or_given(
        self, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logging.getLogger("focus_framework"), "propagate", True)
        (tmp_path / "model_final.pth").symlink_to(file)
        assert read_release(tmp_path / "model_final.pth").config.task == "salient"
        assert read_release(tmp_path / "model_final.pth").config.task == "salient"
        assert caplog.text.count("says which task") == 1
        assert read_release(tmp_path / "model_final.pth", task="forgery").config.task == "forgery"
        with pytest.raises(FocusError, match="did you mean forgery"):
            read_release(tmp_path / "model_final.pth", task="forgrey")


class TestRefusals:
    """The keys are named as the file names them."""

    def refused(self, state: dict[str, torch.Tensor], tmp_path: Path) -> str:
        torch.save({"model": state}, tmp_path / "changed_sd.pth")
        with pytest.raises(WeightsError) as error:
            import_release(tmp_path / "changed_sd.pth", tmp_path / "out.safetensors")
        assert not (tmp_path / "out.safetensors").exists()
        return str(error.value)

    @pytest.mark.parametrize(
        "key",
        [
            "backbone.norm2.weight",
            "backbone.blocks.3.mlp.fc2.bias",
            "backbone.interactions.3.extra_extractors.1.ffn.fc1.weight",
            "sem_seg_head.pixel_decoder.adapter_1.weight",
            f"{PREDICTOR}query_feat.weight",
            "backbone.patch_embed.proj.weight",
        ],
    )
    def test_a_renamed_key(self, key: str, tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
        message = self.refused({k + "x" if k == key else k: t for k, t in tiny.items()}, tmp_path)
        assert key in message.replace(key + "x", "")
        assert key + "x" in message

    def test_a_renamed_key_of_the_refiner(self, tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
        key = f"{PREDICTOR}clip_refiner.clip_model.ln_final.weight"
        assert key + "x" in self.refused({k + "x" if k == key else k: t for k, t in tiny.items()}, tmp_path)

    def test_a_block_that_is_missing_and_a_stray_one(self, tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
        message = self.refused({k: t for k, t in tiny.items() if not k.startswith("backbone.blocks.2.")}, tmp_path)
        assert "14 missing: backbone.blocks.2.norm1.weight" in message
        message = self.refused(tiny | {"backbone.blocks.77.norm1.weight": torch.zeros(64)}, tmp_path)
        assert "1 not part of the network: backbone.blocks.77.norm1.weight" in message

    def test_another_shape(self, tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
        key = f"{PREDICTOR}class_embed.weight"
        assert f"{key} [5, 64] instead of [3, 64]" in self.refused(tiny | {key: torch.zeros(5, 64)}, tmp_path)

    def test_widths_that_differ(self, tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
        message = self.refused(tiny | {f"{PREDICTOR}query_feat.weight": torch.zeros(2, 96)}, tmp_path)
        assert "64, 64 and 96 wide" in message

    def test_a_depth_without_four_equal_stages(self, tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
        message = self.refused({k: t for k, t in tiny.items() if not k.startswith("backbone.blocks.3.")}, tmp_path)
        assert "3 blocks cannot be cut into 4 stages" in message

    def test_a_checkpoint_of_ours(self, file: Path, tmp_path: Path) -> None:
        import_release(file, tmp_path / "ours.safetensors")
        with pytest.raises(WeightsError, match="of this framework already"):
            import_release(tmp_path / "ours.safetensors", tmp_path / "again.safetensors")
