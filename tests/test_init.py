"""Starting from a checkpoint: what it decides, what of it is taken over, what the run remembers, and what cannot be a start."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.training import TINY, run, saved
from torch import nn

from focus_framework import Checkpoint, ConfigError, WeightsError
from focus_framework import cli as frame
from focus_framework.checkpoint import read_description
from focus_framework.checkpoint.inspection import inspect_checkpoint
from focus_framework.checkpoint.parent import Parent, inherit, open_parent
from focus_framework.checkpoint.positions import resized_positions
from focus_framework.config.layers import Resolved
from focus_framework.inference.model import load
from focus_framework.model.build import build_network
from focus_framework.plugin.checkpoints import KnownCheckpoint
from focus_framework.plugin.registry import registry
from focus_framework.training.data import load_data
from focus_framework.training.norms import spare_single_values
from focus_framework.training.plan import plan
from focus_framework.training.record.summary import Summary
from focus_framework.training.rehearsal import rehearse
from focus_framework.training.run import train
from focus_framework.training.validation import score

ROUTINE = {key: value for key, value in TINY.items() if key.startswith(("training.", "data.", "loss."))} | {"data.validation_limit": 1}
"""What keeps a run short, without a word on the network."""


@pytest.fixture(scope="module")
def parent_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("parent"), **{"training.steps": 1, "training.checkpoint_every": 1}).best


def planned(parent: Path, task: str | None = "defocus", **settings: Any) -> Resolved:
    return plan(task, options={**ROUTINE, "init": str(parent), **settings})[0]


def finetuned(folder: Path, parent: Path, *, resume: bool = False, **settings: Any) -> Summary:
    summary = train(planned(parent, **settings), registry().find_task("defocus"), folder, resume=resume)
    assert summary
    return summary


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        frame.main(["train", *arguments])
    return ended.value.code  # type: ignore[return-value]


def test_the_checkpoint_is_a_layer_between_preset_and_task(parent_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--task-plugin", "defocus", "--init", str(parent_file), "--set", "decoder.layers=3", "--show-config", "--json"]
    assert call(*arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    config, sources = printed["config"], printed["sources"]
    assert config["preset"] == "finetune"
    assert config["init"] == str(parent_file)
    assert config["backbone"]["options"]["embed_dim"] == 32
    assert config["backbone"]["weights"] == "none"
    assert config["preprocessing"]["size"] == 64
    layer = f"checkpoint {parent_file}"
    assert {sources[f"{name}"] for name in ("backbone.name", "pixel_decoder.width", "enhancer.name", "preprocessing.size")} == {layer}
    assert (config["decoder"]["layers"], sources["decoder.layers"]) == (3, "--set")
    assert sources["training.learning_rate"] == "preset finetune"


def test_a_preset_of_another_network_leaves_the_network_to_the_checkpoint(parent_file: Path) -> None:
    resolved, _ = plan("shadow", preset="paper-giant", options={"init": str(parent_file)})
    assert resolved.config.backbone.name == "vit"
    assert "weights" not in resolved.config.enhancer.options
    assert resolved.config.training.steps == 20000


def test_without_a_task_it_is_that_of_the_checkpoint(parent_file: Path) -> None:
    assert planned(parent_file, task=None).config.task == "shadow"


def test_a_network_of_the_same_shape_takes_everything(parent_file: Path) -> None:
    network = build_network(planned(parent_file).config)
    found = inherit(network, open_parent(str(parent_file)))
    assert found.share == 1
    assert (found.new, found.unused) == ((), ())
    expected = load_file(parent_file)
    assert expected.keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())
    assert str(found).endswith(f"(step 1): {len(expected)} of {len(expected)} tensors taken, 100 % of the parameters")


def test_a_changed_network_takes_what_fits_and_says_what_not(parent_file: Path) -> None:
    config = planned(parent_file, **{"decoder.layers": 3, "enhancer.name": "none", "refiner.name": "none"}).config
    network = build_network(config)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = inherit(network, open_parent(str(parent_file)))
    source = load_file(parent_file)
    third = [name for name in before if name.startswith("decoder.layers.2.")]
    assert third
    assert set(third) <= set(found.new)
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in found.new)
    assert torch.equal(network.state_dict()["decoder.query_content"], source["decoder.query_content"])
    parameters = dict(network.named_parameters())
    same = [name for name, p in parameters.items() if name in source and source[name].shape == p.shape]
    share = sum(parameters[name].numel() for name in same) / sum(p.numel() for p in parameters.values())
    assert found.share == pytest.approx(share)
    assert 0 < share < 1
    line = str(found)
    assert f"new: decoder.layers ({len(third)})" in line
    assert "left in it: encoder.extractors (120), encoder.prior (92)" in line
    assert "100 %" not in line
    assert "\n" not in line


def test_nothing_in_common_is_an_error(parent_file: Path) -> None:
    settings = {"backbone.options.embed_dim": 48, "backbone.options.patch_size": 4, "pixel_decoder.width": 64, "pixel_decoder.heads": 2}
    config = planned(parent_file, **settings, **{"enhancer.name": "none", "pixel_decoder.feedforward": 48}).config
    with pytest.raises(WeightsError, match="nothing in common with the network of this run"):
        inherit(build_network(config), open_parent(str(parent_file)))


def test_position_embeddings_are_resized(parent_file: Path) -> None:
    network = build_network(planned(parent_file, **{"backbone.options.img_size": 96}).config)
    found = inherit(network, open_parent(str(parent_file)))
    assert found.share == 1
    assert found.resized == ("encoder.backbone.vit.pos_embed",)
    assert "resized: encoder.backbone (1)" in str(found)


def test_resizing_keeps_prefix_tokens_and_what_varies_evenly() -> None:
    ramp = torch.arange(8.0).repeat(8, 1)  # grows by one from column to column
    table = torch.cat([torch.tensor([[-5.0], [-7.0]]), ramp.reshape(64, 1)]).unsqueeze(0)
    larger = resized_positions("vit.pos_embed", table, (1, 2 + 256, 1))
    assert larger is not None
    assert larger[0, :2, 0].tolist() == [-5, -7]
    square = larger[0, 2:, 0].reshape(16, 16)
    assert torch.allclose(square, square[:1].expand(16, 16), atol=1e-5)
    assert torch.allclose(square[0, 4:12], torch.arange(4, 12) / 2 - 0.25, atol=0.05)  # away from the border
    assert resized_positions("vit.pos_embed", table, (1, 2 + 250, 1)) is None
    assert resized_positions("head.weight", table, (1, 2 + 256, 1)) is None


def test_the_run_its_checkpoint_and_its_report_remember_the_parent(parent_file: Path, tmp_path: Path) -> None:
    summary = finetuned(tmp_path / "child", parent_file, **{"training.steps": 2, "preprocessing.size": 96})
    record = read_description(summary.best)["parent"]
    assert record["reference"] == str(parent_file)
    assert record["sha256"] == hashlib.sha256(parent_file.read_bytes()).hexdigest()
    assert (record["step"], record["task"], record["share_of_parameters"]) == (1, "shadow", 1.0)
    assert inspect_checkpoint(str(summary.checkpoint))["parent"] == record
    assert record["sha256"] in summary.report.read_text()
    assert f'init = "{parent_file}"' in (summary.folder / "config.toml").read_text()


def test_the_licence_of_a_known_parent_is_remembered(parent_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = Checkpoint(name="mine", title="mine", reference=str(parent_file), weights_licence="CC0-1.0")
    monkeypatch.setattr("focus_framework.checkpoint.known.known_checkpoints", lambda: [KnownCheckpoint(described, "shadow", "somebody's")])
    assert open_parent("mine").description["licence"] == "CC0-1.0"
    assert open_parent(str(parent_file)).description["licence"] == ""


def test_a_stopped_run_goes_on_to_the_same_bits_without_its_parent(
    parent_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("focus_framework.training.run.write_report", lambda *arguments: None)  # drawing takes longer than training
    parent = tmp_path / "parent.safetensors"
    shutil.copy(parent_file, parent)
    whole = finetuned(tmp_path / "whole", parent)

    class StopError(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.step == 3:  # one after the checkpoint
            raise StopError

    with pytest.raises(StopError):
        train(planned(parent), registry().find_task("defocus"), tmp_path / "halves", on_progress=stop)
    parent.unlink()
    resolved, entry = plan(None, resume=tmp_path / "halves")
    summary = train(resolved, entry, tmp_path / "halves", resume=True)
    assert summary
    ours, theirs = saved(tmp_path / "halves"), saved(whole.folder)
    for name, tensor in theirs.update["network"].items():
        assert torch.equal(ours.update["network"][name], tensor), name
    assert read_description(summary.best)["parent"] == read_description(whole.best)["parent"]


@pytest.mark.parametrize("average", [{}, {"training.ema": 0.5}], ids=["weights", "their average"])
def test_a_share_of_the_parent_is_in_what_is_scored_and_saved(average: dict[str, Any], parent_file: Path, tmp_path: Path) -> None:
    """Against the formula in float64; what the parent has not is nobody's to share."""
    settings = {"training.parent_share": 0.25, "training.learning_rate": 1e-2, "decoder.layers": 3, **average}
    summary = finetuned(tmp_path, parent_file, **settings)
    state, parent, written = saved(tmp_path), load_file(parent_file), load_file(summary.checkpoint)
    own = {name: state.update["average"][f"module.{name}"] for name in written} if average else state.update["network"]
    assert any(name.startswith("decoder.layers.2.") for name in written.keys() - parent.keys())
    assert not torch.equal(own["decoder.query_content"], parent["decoder.query_content"])
    for name, tensor in written.items():
        if name in parent and tensor.is_floating_point():
            expected = (0.75 * own[name].double() + 0.25 * parent[name].double()).float()
            torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")
        else:
            assert torch.equal(tensor, own[name]), name
    data = load_data(planned(parent_file, **settings).config, [registry().get("task", "defocus")]).parts["defocus"]
    assert data.validation
    found = score(load(summary.best), data.validation, data.task.metrics)
    assert dict(summary.validation) == pytest.approx({name: value for name, value in found.items() if name in summary.validation})


def test_a_run_from_a_parent_can_be_rehearsed(parent_file: Path) -> None:
    resolved = planned(parent_file)
    assert resolved.config.training.parent_share > 0  # of the preset
    found = rehearse(resolved, registry().find_task("defocus"))
    assert found and found.parameters > 0


WRONG = {
    "no such file": ("nowhere.safetensors", "does not exist"),
    "truncated": ("cut.safetensors", "may be truncated"),
    "of something else": ("else.safetensors", "holds weights of something else"),
}


@pytest.mark.parametrize(("name", "reason"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_a_start_gets_one_line(
    parent_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, reason: str
) -> None:
    (tmp_path / "cut.safetensors").write_bytes(parent_file.read_bytes()[:5000])
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "else.safetensors")
    monkeypatch.chdir(tmp_path)
    assert call("--task-plugin", "shadow", "--init", name) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert reason in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_two_beginnings_are_refused(parent_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="brings weights of backbone vit; leave out --backbone-weights"):
        planned(parent_file, **{"backbone.weights": "pretrained"})
    (tmp_path / "config.toml").write_text('task = "shadow"\n')
    with pytest.raises(ConfigError, match="leave out --init"):
        plan(None, options={"init": "x"}, resume=tmp_path)


def test_a_parent_of_half_precision_is_trained_in_full(parent_file: Path) -> None:
    parent = open_parent(str(parent_file))

    class Half(Parent):
        def tensors(self) -> dict[str, torch.Tensor]:
            return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in super().tensors().items()}

    network = build_network(planned(parent_file).config)
    inherit(network, Half(**vars(parent)))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_a_norm_of_a_single_value_uses_its_running_statistics() -> None:
    layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    one, two = torch.randn(1, 4, 5, 5), torch.randn(2, 4, 5, 5)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layers(one)
    usual = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    spare_single_values(layers)
    norm = layers[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert torch.allclose(layers(one), one.mean((2, 3), keepdim=True) / (1 + norm.eps) ** 0.5)
    assert norm.training
    assert torch.equal(norm.running_mean, torch.zeros(4))
    assert torch.equal(layers(two), usual(two))


def test_a_batch_of_one_trains() -> None:
    """skresnet normalises what it has pooled to one place; with one image that is one value."""
    settings = {key: value for key, value in TINY.items() if not key.startswith("backbone.options.")}
    settings |= {"training.batch_size": 1, "backbone.name": "skresnet18", "backbone.weights": "none", "enhancer.name": "none"}
    found = rehearse(*plan("shadow", options=settings))
    assert found
    assert found.parameters > 1_000_000
