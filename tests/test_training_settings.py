"""Each setting that makes training smaller, slower, steadier or shorter does what it says."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import TINY, lines, run, saved, tiny
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from focus_framework import cli as frame
from focus_framework.model.build import build_network
from focus_framework.model.losses import Targets, losses
from focus_framework.model.network import Network
from focus_framework.training.memory import checkpoint_activations
from focus_framework.training.optimizer import build_optimizer
from focus_framework.training.randomness import Draws


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at them here, and drawing takes longer than training."""
    monkeypatch.setattr("focus_framework.training.run.write_report", lambda *arguments: None)


def frozen_norms(network: Network) -> Network:
    """Batch norms by their running statistics: the only part in which images of a batch meet."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network


def gradients(network: Network, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad()
    torch.manual_seed(0)
    terms, _ = losses(network(images, all_heads=True), Targets.of(labels), tiny().config.loss, Draws(0, range(len(images)), images.device))
    torch.stack(list(terms)).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters() if parameter.grad is not None}


def test_parts_of_a_batch_give_its_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an image is all foreground, so that parts have different numbers of masks; exact but for batch norm."""
    from focus_framework.training import update

    original = update.Update.__call__
    monkeypatch.setattr(update.Targets, "of", lambda labels, of=Targets.of: of(torch.where(labels[:, :1, :1] > 0, 1, labels)))
    monkeypatch.setattr(
        update.Update, "__call__", lambda self, *arguments: (frozen_norms(self.model.network), original(self, *arguments))[1]
    )
    settings = {"training.batch_size": 4, "training.steps": 3, "backbone.options.drop_path_rate": 0.0}
    whole = run(tmp_path / "whole", **settings)
    parts = run(tmp_path / "parts", **settings, **{"training.accumulate": 4})
    for one, other in zip(lines(whole.folder), lines(parts.folder), strict=True):
        for name in ("loss", "loss_label", "loss_mask", "loss_box", "gradient_norm"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), (one["step"], name)


def test_the_average_follows_its_formula_and_is_what_is_saved(tmp_path: Path) -> None:
    """The first average is the weights after the first step; each later one moves by a quarter."""
    settings = {"training.steps": 3, "training.checkpoint_every": 1, "training.ema": 0.75}
    weights: list[torch.Tensor] = []
    name = "decoder.class_head.weight"
    for steps in (1, 2, 3):
        run(tmp_path, resume=steps > 1, **{**settings, "training.steps": steps, "training.schedule": "constant"})
        weights.append(saved(tmp_path).update["network"][name])
    expected = weights[0]
    for current in weights[1:]:
        expected = 0.75 * expected + 0.25 * current
    from safetensors.torch import load_file

    torch.testing.assert_close(load_file(tmp_path / "checkpoint.safetensors")[name], expected)


def kept_bytes(network: Network, images: torch.Tensor) -> int:
    """Bytes of the tensors that autograd keeps for the way back."""
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        heads = network(images, all_heads=True)
    del heads
    return sum(sizes.values())


def test_checkpointed_activations_take_less_memory_and_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    network = build_network(tiny(**{"enhancer.name": "none", "backbone.options.depth": 8}).config).train()
    images, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 2, (2, 64, 64))
    frozen_norms(network)
    usual, expected = kept_bytes(network, images), gradients(network, images, labels)
    checkpoint_activations(network)
    less, found = kept_bytes(network, images), gradients(network, images, labels)
    print(f"kept for the way back: {usual} bytes, with checkpointing {less}")
    assert less < 0.5 * usual
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(("limit", "parts"), [(0.01, 1), (0.01, 2), (1e6, 1)])
def test_gradients_are_clipped_to_their_common_norm(limit: float, parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the optimizer gets, against the whole batch's gradients in float64: shorter where they are too long, in their direction."""
    from focus_framework.training import update

    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    before: list[torch.Tensor] = []
    original = update.Update.gradients

    def gradient(optimizer: torch.optim.Optimizer) -> torch.Tensor:
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        return torch.cat([parameter.grad.double().flatten() for parameter in parameters])

    def watched(self: update.Update, *arguments: Any) -> dict[str, torch.Tensor]:
        terms = original(self, *arguments)
        before.append(gradient(self.optimizer))
        return terms

    monkeypatch.setattr(update.Update, "gradients", watched)
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: found.append((before.pop(), gradient(optimizer))))
    try:
        done = run(tmp_path, **{"training.gradient_norm": limit, "training.accumulate": parts, "training.steps": 2})
    finally:
        hook.remove()
    assert len(found) == 2
    for (whole, clipped), line in zip(found, lines(done.folder), strict=True):
        norm = float((whole**2).sum().sqrt())
        assert 0.01 < norm < 1e6
        assert line["gradient_norm"] == pytest.approx(norm, rel=1e-5)
        assert float((clipped**2).sum().sqrt()) == pytest.approx(min(norm, limit), rel=1e-5)
        torch.testing.assert_close(clipped, whole * min(1.0, limit / norm), rtol=1e-5, atol=1e-12)


def test_layers_of_the_backbone_have_rates_of_their_own() -> None:
    config = tiny(**{"training.learning_rate": 1.0, "training.backbone_rate": 0.1, "training.layer_decay": 0.5}).config
    network = build_network(config)
    optimizer = build_optimizer(network, [], config)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in network.named_parameters()}
    for block, rate in enumerate([0.0125, 0.025, 0.05, 0.1]):
        assert found[f"encoder.backbone.vit.blocks.{block}.attn.qkv.weight"] == pytest.approx(rate)
    assert found["encoder.backbone.vit.patch_embed.proj.weight"] == pytest.approx(0.00625)
    assert found["encoder.backbone.vit.pos_embed"] == pytest.approx(0.003125)
    assert found["encoder.norms.0.weight"] == pytest.approx(1.0)
    assert found["decoder.class_head.weight"] == pytest.approx(1.0)


def test_a_compiled_network_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced by torch.compile; without its code generator, which takes minutes."""
    calls = itertools.count()

    def compile_quickly(module: nn.Module) -> Any:
        next(calls)
        return torch._dynamo.optimize("eager")(module)

    usual = run(tmp_path / "usual", **{"training.steps": 2})
    monkeypatch.setattr(torch, "compile", compile_quickly)
    compiled = run(tmp_path / "compiled", **{"training.steps": 2, "training.compile": True})
    assert next(calls) == 1
    for one, other in zip(lines(usual.folder), lines(compiled.folder), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_a_run_that_gets_no_better_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from focus_framework.training import loop

    scores = iter([5.0, 4.0, 4.5, 4.0, 9.0, 9.0])
    monkeypatch.setattr(loop, "score", lambda *arguments, **options: {"ber": next(scores)})
    summary = run(tmp_path, **{"training.steps": 20, "training.patience": 2})
    assert summary.steps == 8
    assert summary.validation == {"ber": 4.0}
    assert saved(tmp_path).stale == 2
    assert run(tmp_path, resume=True, **{"training.steps": 20, "training.patience": 2}).steps == 8


def test_a_dry_run_tells_time_and_memory_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [word for name, value in TINY.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    with pytest.raises(SystemExit) as ended:
        frame.main(["train", "--task-plugin", "shadow", *settings, "--dry-run", "--json"])
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seconds"] >= found["seconds_a_step"] * found["steps"] > 0
    assert found["memory_mib"] > 50
    assert found["images"] == 8
    assert list(tmp_path.iterdir()) == []
