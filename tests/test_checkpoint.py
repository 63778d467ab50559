"""Our checkpoint files: what is written is read again, and what is none is refused with a reason."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from focus_framework import WeightsError, __version__
from focus_framework.checkpoint import describe, load_network, open_checkpoint, read_checkpoint, read_description, write_checkpoint
from focus_framework.checkpoint.format import FORMAT, KEY, is_pickle
from focus_framework.cli.checkpoint import checkpoint as command
from focus_framework.config.layers import resolve
from focus_framework.config.prompts import choose
from focus_framework.config.schema import RunConfig
from focus_framework.model.build import build_network
from focus_framework.plugin.registry import registry

SMALL = {
    "backbone.options.embed_dim": 32,
    "backbone.options.depth": 4,
    "backbone.options.num_heads": 2,
    "pixel_decoder.width": 32,
    "pixel_decoder.layers": 1,
    "decoder.layers": 1,
}


def small_config(**options: Any) -> RunConfig:
    small = {key: value for key, value in SMALL.items() if not ("backbone.name" in options and key.startswith("backbone."))}
    return resolve("shadow", preset="quick", options={**small, **options}).config


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A checkpoint and the network that it was written of."""
    path = tmp_path_factory.mktemp("checkpoint") / "x.safetensors"
    config = small_config()
    network = build_network(config).eval()
    task = registry().find_task("shadow")
    write_checkpoint(path, network.state_dict(), describe(config, network, task, choose(task.get(), config.prompts)))
    return path, network


def test_the_network_comes_back(written: tuple[Path, torch.nn.Module]) -> None:
    path, network = written
    config, again, description = load_network(path)
    picture = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(again(picture).mask_logits, network(picture).mask_logits)
    assert not again.training
    assert config.task == "shadow"
    assert config.pixel_decoder.width == 32
    assert description["framework_version"] == __version__
    assert all(parameter.device.type == "cpu" and parameter.requires_grad for parameter in again.parameters())


def test_the_description_says_what_a_user_needs(written: tuple[Path, torch.nn.Module]) -> None:
    path, network = written
    description = read_description(path)
    assert description["task"] == {"name": "shadow", "title": description["task"]["title"], "metrics": ["ber"], "primary_metric": "ber"}
    assert description["prompts"][0]["foreground"] == "it's an image of shadow without background."
    assert "shadow" in description["prompts"][0]["source"]
    assert description["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert description["parameters"] == sum(p.numel() for p in network.parameters())
    kinds = {plugin["kind"]: plugin for plugin in description["plugins"]}
    assert kinds["backbone"] == {"kind": "backbone", "name": "vit", "distribution": "focus-framework", "version": __version__}
    assert set(kinds) == {"task", "backbone", "enhancer"}


def test_a_checkpoint_asks_for_no_other_weights(tmp_path: Path) -> None:
    """Those of backbone and trunk are in it; a pyramid's facts, read from its file of weights, stay with it."""
    weights = tmp_path / "backbone.safetensors"
    save_file(timm.create_model("mobilenetv2_100").state_dict(), weights, metadata={"mean": "[0.5, 0.4, 0.3]", "std": "0.5"})
    config = small_config(**{"backbone.name": "mobilenetv2_100", "backbone.weights": str(weights)})
    network = build_network(config)
    task = registry().find_task("shadow")
    write_checkpoint(tmp_path / "x.safetensors", network.state_dict(), describe(config, network, task, task.get().pairs()))
    weights.unlink()
    loaded, again, description = load_network(tmp_path / "x.safetensors")
    assert loaded.backbone.weights == "none"
    assert again.encoder.backbone.mean == (0.5, 0.4, 0.3)
    assert again.encoder.backbone.frozen_norm
    assert description["preprocessing"]["std"] == [0.5, 0.5, 0.5]


def test_buffers_that_no_file_holds_are_there(written: tuple[Path, torch.nn.Module]) -> None:
    """The network is built without values for its parameters; what is computed at building must not be lost with them."""
    _, again, _ = load_network(written[0])
    overlay = again.encoder.prior.overlay
    assert overlay.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


class TestWriting:
    def test_nothing_is_left_behind_by_a_failure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "x.safetensors"
        write_checkpoint(path, {"a": torch.ones(3)}, {})
        before = path.read_bytes()
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_checkpoint(path, {"a": torch.zeros(3)}, {"number": float("nan")})

        def full_disk(tensors: Any, beside: Path, metadata: Any) -> None:
            beside.write_bytes(b"half")
            raise OSError("no space left on device")

        monkeypatch.setattr("focus_framework.checkpoint.format.save_file", full_disk)
        with pytest.raises(OSError, match="no space left"):
            write_checkpoint(path, {"a": torch.zeros(3)}, {})
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_folders_are_made_and_others_may_read(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "x.safetensors"
        write_checkpoint(path, {"a": torch.ones(3)}, {})
        plain = tmp_path / "plain"
        plain.touch()
        assert path.stat().st_mode == plain.stat().st_mode

    def test_tied_weights(self, tmp_path: Path) -> None:
        tied = torch.arange(3.0)
        write_checkpoint(tmp_path / "x.safetensors", {"a": tied, "b": tied}, {})
        assert read_checkpoint(tmp_path / "x.safetensors")[1]["b"].tolist() == [0.0, 1.0, 2.0]

    def test_any_safetensors_reader_can_read_it(self, written: tuple[Path, torch.nn.Module]) -> None:
        path, network = written
        tensors = load_file(path)
        assert set(tensors) == set(network.state_dict())
        with safe_open(path, "pt") as file:
            assert json.loads(file.metadata()[KEY])["format"] == FORMAT


def damaged(path: Path, **changes: Any) -> Path:
    """A copy of a checkpoint beside it with another description."""
    description, state = read_checkpoint(path)
    copy = path.with_name("damaged.safetensors")
    save_file(state, copy, metadata={KEY: json.dumps(description | changes)})
    return copy


@pytest.mark.parametrize("length", [0x80, 0x0280, 0x0480])
def test_no_length_of_the_header_makes_a_checkpoint_a_pickle(tmp_path: Path, length: int) -> None:
    """A safetensors file starts with that length, and a pickle with the byte 0x80."""
    path = tmp_path / "x.safetensors"
    padding = 0
    while path.exists() is False or path.read_bytes()[:8] != length.to_bytes(8, "little"):
        write_checkpoint(path, {}, {"padding": "-" * padding})
        padding += 1
        assert padding < 0x500
    assert not is_pickle(path)
    assert read_description(path)["padding"] == "-" * (padding - 1)


class TestRefusals:
    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"nowhere\.safetensors does not exist"):
            read_checkpoint(tmp_path / "nowhere.safetensors")
        with pytest.raises(WeightsError, match=r"is a folder.*best\.safetensors"):
            open_checkpoint(tmp_path)

    @pytest.mark.parametrize("length", [0, 5, 400, -1])
    def test_a_file_cut_short(self, length: int, written: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
        path = tmp_path / "cut.safetensors"
        path.write_bytes(written[0].read_bytes()[:length])
        with pytest.raises(WeightsError, match=r"cut\.safetensors is not a complete \.safetensors file"):
            open_checkpoint(path)

    def test_something_else(self, tmp_path: Path) -> None:
        save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors", metadata={"format": "pt"})
        with pytest.raises(WeightsError, match=r"other\.safetensors holds weights of something else"):
            open_checkpoint(tmp_path / "other.safetensors")
        (tmp_path / "text.safetensors").write_text("a poem, which is no weights at all")
        with pytest.raises(WeightsError, match=r"text\.safetensors is not a complete"):
            open_checkpoint(tmp_path / "text.safetensors")
        (tmp_path / "text.safetensors").rename(tmp_path / "text.pth")
        with pytest.raises(WeightsError, match=r"text\.pth is neither a file of torch\.save nor a complete"):
            open_checkpoint(tmp_path / "text.pth")

    def test_a_newer_format_and_a_configuration_that_does_not_fit(self, written: tuple[Path, torch.nn.Module]) -> None:
        with pytest.raises(WeightsError, match=r"of format 99.*update focus-framework"):
            load_network(damaged(written[0], format=99))
        config = read_description(written[0])["config"]
        with pytest.raises(WeightsError, match=r"decoder\.layers"):
            load_network(damaged(written[0], config=config | {"decoder": {"layers": 0}}))
        with pytest.raises(WeightsError, match="says format 'new'"):
            load_network(damaged(written[0], format="new"))

    def test_keys_that_do_not_fit_are_listed(self, written: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
        description, state = read_checkpoint(written[0])
        state["decoder.norm.wight"] = state.pop("decoder.norm.weight")
        state["decoder.norm.bias"] = torch.zeros(7)
        write_checkpoint(tmp_path / "x.safetensors", state, description)
        with pytest.raises(WeightsError) as error:
            load_network(tmp_path / "x.safetensors")
        assert "1 missing: decoder.norm.weight" in str(error.value)
        assert "1 not part of the network: decoder.norm.wight" in str(error.value)
        assert "decoder.norm.bias [7] instead of [32]" in str(error.value)

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
    def test_a_pickle_is_not_run(self, tmp_path: Path) -> None:
        class Attack:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(tmp_path / "attacked"),)

        torch.save({"model": {"a": torch.zeros(1)}, "more": Attack()}, tmp_path / "torch.pth")
        (tmp_path / "plain.pth").write_bytes(pickle.dumps(Attack()))
        with pytest.raises(WeightsError, match=r"torch\.pth is refused: it asks for posix\.mkdir"):
            open_checkpoint(tmp_path / "torch.pth")
        with pytest.raises(WeightsError, match=r"plain\.pth is refused"):
            open_checkpoint(tmp_path / "plain.pth")
        with pytest.raises(WeightsError, match="is a pickle"):
            read_checkpoint(tmp_path / "torch.pth")
        assert not (tmp_path / "attacked").exists()

    def test_a_pickle_of_something_else(self, tmp_path: Path) -> None:
        torch.save({"layer.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
        with pytest.raises(WeightsError, match="not of one of the authors' released checkpoints"):
            open_checkpoint(tmp_path / "resnet.pth")
        torch.save([1, 2], tmp_path / "list.pth")
        with pytest.raises(WeightsError, match="holds a list"):
            open_checkpoint(tmp_path / "list.pth")
        (tmp_path / "cut.pth").write_bytes((tmp_path / "resnet.pth").read_bytes()[:300])
        with pytest.raises(WeightsError, match="truncated"):
            open_checkpoint(tmp_path / "cut.pth")


class TestInspect:
    def test_json(self, written: tuple[Path, torch.nn.Module]) -> None:
        result = CliRunner().invoke(command, ["inspect", str(written[0]), "--json"])
        facts = json.loads(result.stdout)
        assert (facts["task"], facts["backbone"], facts["enhancer"], facts["refiner"]) == ("shadow", "vit", "edge", "none")
        assert facts["parameters"] == sum(p.numel() for p in written[1].parameters())
        assert facts["preprocessing"]["size"] == 128
        assert facts["plugins"][0]["distribution"] == "focus-framework"
        assert {"prompts", "licence"} <= set(facts)

    def test_text(self, written: tuple[Path, torch.nn.Module]) -> None:
        text = CliRunner().invoke(command, ["inspect", str(written[0])]).stdout
        assert "shadow: Shadow detection" in text
        assert "it's an image of shadow without background." in text
