"""A run: what it writes, that it goes on exactly where it was, that its checkpoint predicts, and what goes wrong clearly."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.training import StopError, lines, run, saved, tiny

import focus_framework as focus
from focus_framework import ConfigError, DeviceError, WeightsError
from focus_framework.config.layers import resolve
from focus_framework.config.schema import TrainingConfig
from focus_framework.model.build import build_network
from focus_framework.plugin.registry import registry
from focus_framework.training.health import DivergedError
from focus_framework.training.loop import Progress
from focus_framework.training.optimizer import build_optimizer, rate_factor
from focus_framework.training.randomness import Draws
from focus_framework.training.record.folder import new_folder
from focus_framework.training.record.summary import Summary
from focus_framework.training.run import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return run(tmp_path_factory.mktemp("finished"))


def test_a_run_leaves_everything_that_was_promised(finished: Summary) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    assert {
        "config.toml",
        "metrics.jsonl",
        "checkpoint.safetensors",
        "best.safetensors",
        "training-state",
        "samples",
        "report.html",
    } <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not [name for name in names if name.startswith(".focus-") and name != ".focus-framework"]  # which says whose folder it is
    log = lines(finished.folder)
    assert [line["step"] for line in log] == [1, 2, 3, 4]
    for line in log:
        terms = sum(line[f"loss_{term}"] for term in ("clip", "label", "mask", "box"))
        assert line["loss"] == pytest.approx(terms, rel=1e-5)
        assert {"learning_rate", "images_per_second"} <= line.keys()
    assert "validation_ber" in log[1]
    assert set(finished.validation) == set(finished.test) == {"ber"}
    assert {"otsu darkness", "mean mask"} <= set(finished.baselines)


def test_the_configuration_it_leaves_gives_the_same_run(finished: Summary, tmp_path: Path) -> None:
    again = resolve("shadow", file=finished.folder / "config.toml")
    assert again.config == tiny().config


def test_the_checkpoint_predicts(finished: Summary) -> None:
    model = focus.load(finished.best, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    result = model.predict(image)
    assert result.probability.shape == result.mask.shape == (50, 70)
    assert result.probability.dtype == np.float32
    assert 0 <= result.probability.min() <= result.probability.max() <= 1
    assert result.cutout().size == (70, 50)
    assert model.task == "shadow"
    assert model.description["prompts"][0]["foreground"]


def test_every_kind_of_image_gives_the_same_mask(finished: Summary, tmp_path: Path) -> None:
    from PIL import Image

    model = focus.load(finished.best, device="cpu")
    array = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "picture.png")
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    kinds = [
        array,
        Image.fromarray(array),
        tensor,
        tensor.float() / 255,
        array / 255,
        tmp_path / "picture.png",
        str(tmp_path / "picture.png"),
    ]
    results = model.predict(kinds)
    assert len(results) == len(kinds)
    for result in results:
        np.testing.assert_allclose(result.probability, results[0].probability, atol=1e-6)
    with pytest.raises(focus.DataError, match="not an array of complex128"):
        model.predict(array * 1j)


def test_a_stopped_run_ends_as_one_that_was_never_stopped(finished: Summary, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise StopError

    with pytest.raises(StopError):
        train(tiny(), registry().find_task("shadow"), tmp_path, on_progress=stop)
    assert saved(tmp_path).step == 2
    resumed = run(tmp_path, resume=True)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]
    network = saved(resumed.folder).update["network"]
    for name, tensor in saved(finished.folder).update["network"].items():
        assert torch.equal(tensor, network[name]), name
    assert dict(resumed.validation) == dict(finished.validation)


def test_another_seed_is_another_run(finished: Summary, tmp_path: Path) -> None:
    other = run(tmp_path, **{"training.seed": 1})
    assert lines(other.folder)[0]["loss"] != lines(finished.folder)[0]["loss"]


def test_a_refiner_is_trained_with_and_left_behind(tmp_path: Path) -> None:
    small = {"refiner.name": "clip", "refiner.options.weights": "random", "refiner.options.model": "ViT-B-32"}
    summary = run(tmp_path, **small, **{"training.steps": 1, "prompts.foreground": "the shade under a tree"})
    assert lines(tmp_path)[0]["loss_clip"] > 0
    model = focus.load(summary.checkpoint, device="cpu")
    assert model.description["prompts"][0]["foreground"] == "the shade under a tree"
    assert not [name for name in model.state_dict() if "clip" in name or "refiner" in name]


def test_a_time_budget_ends_the_run_and_the_schedule_follows_it(tmp_path: Path) -> None:
    """On a clock that shows a second more at every look: the loop looks once a step, and once more where it logs or saves."""
    seconds = itertools.count()
    settings = {"training.steps": None, "training.minutes": 0.5, "training.checkpoint_every": 100}
    summary = run(tmp_path, clock=lambda: float(next(seconds)), **settings)
    assert 30 <= summary.seconds <= 33
    assert 10 <= summary.steps <= 20
    rates = [line["learning_rate"] for line in lines(tmp_path)]
    assert max(rates) == pytest.approx(tiny().config.training.learning_rate, rel=0.05)
    assert rates[-1] < 0.05 * max(rates)


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from focus_framework.training import update

    original = update.losses

    def broken(*arguments: Any) -> Any:
        terms, heads = original(*arguments)
        return terms._replace(mask=terms.mask * float("nan")), heads

    monkeypatch.setattr(update, "losses", broken)
    with pytest.raises(DivergedError, match=r"loss is nan .* at step 3, after 3 .*shadow-train-.*--learning-rate"):
        run(tmp_path)


def test_what_cannot_work_fails_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        run(tmp_path / "a", **{"training.precision": "fp16"})
    with pytest.raises(DeviceError, match=r"cuda:7.*--device cpu"):
        run(tmp_path / "b", **{"training.device": "cuda:7"})
    with pytest.raises(WeightsError, match="is not the folder of a run"):
        run(tmp_path / "c", resume=True)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_bf16_trains_and_its_losses_are_finite(tmp_path: Path) -> None:
    run(tmp_path, **{"training.precision": "bf16"})
    assert all(np.isfinite(line["loss"]) for line in lines(tmp_path))


def test_new_folders_do_not_collide(tmp_path: Path) -> None:
    first = new_folder(["shadow"], tmp_path)
    first.mkdir()
    assert [first.name, new_folder(["shadow"], tmp_path).name] == ["shadow", "shadow-2"]


class TestOptimizer:
    def test_what_decays_and_at_which_rate(self) -> None:
        rates = {"training.learning_rate": 1e-3, "training.backbone_rate": 0.1, "training.enhancer_rate": 0.3}
        config = tiny(**rates, **{"training.weight_decay": 0.05}).config
        network = build_network(config)
        optimizer = build_optimizer(network, [], config)
        group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        facts = {name: group_of[id(p)] for name, p in network.named_parameters()}
        decays = {name: group["weight_decay"] for name, group in facts.items()}
        assert decays["encoder.backbone.vit.pos_embed"] == 0.05
        assert decays["encoder.backbone.vit.blocks.0.norm1.weight"] == 0
        assert decays["encoder.backbone.vit.blocks.0.attn.qkv.bias"] == 0.05
        assert decays["encoder.norms.0.weight"] == 0
        assert decays["decoder.query_content"] == 0
        assert facts["encoder.backbone.vit.blocks.0.attn.qkv.weight"]["lr"] == pytest.approx(1e-4)
        assert facts["encoder.prior.project.0.weight"]["lr"] == pytest.approx(3e-4)
        assert facts["decoder.class_head.weight"]["lr"] == pytest.approx(1e-3)
        assert len(group_of) == len(list(network.parameters()))

    @pytest.mark.parametrize(("weights", "asked", "rate"), [("none", None, 1.0), ("file.pth", None, 0.1), ("file.pth", 1.0, 1.0)])
    def test_a_backbone_that_starts_from_weights_learns_slowly(self, weights: str, asked: float | None, rate: float) -> None:
        network = build_network(tiny().config)
        config = tiny(**{"backbone.weights": weights, "training.learning_rate": 1.0, "training.backbone_rate": asked}).config
        group_of = {id(p): group for group in build_optimizer(network, [], config).param_groups for p in group["params"]}
        found = {name: group_of[id(p)]["lr"] for name, p in network.named_parameters()}
        assert found["encoder.backbone.vit.pos_embed"] == pytest.approx(rate)
        assert found["encoder.prior.project.0.weight"] == found["decoder.class_head.weight"] == pytest.approx(1.0)

    def test_frozen_parameters_are_left_out(self) -> None:
        config = tiny(**{"backbone.frozen": True}).config
        network = build_network(config)
        optimizer = build_optimizer(network, [], config)
        trained = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
        assert trained == sum(p.numel() for p in network.parameters() if p.requires_grad)

    @pytest.mark.parametrize("schedule", ["polynomial", "cosine", "constant"])
    def test_the_rate_rises_then_falls(self, schedule: Any) -> None:
        config = TrainingConfig(schedule=schedule, warmup=0.1)
        factors = [rate_factor(progress, config) for progress in np.linspace(0, 1, 21)]
        assert factors[0] < 0.02
        assert max(factors) == pytest.approx(1)
        assert all(a >= b for a, b in itertools.pairwise(factors[2:]))
        assert factors[-1] == pytest.approx(1 if schedule == "constant" else 0, abs=1e-6)


def test_draws_follow_from_seed_and_sample() -> None:
    device = torch.device("cpu")
    both = Draws(1, [5, 6], device)(3, 2, 4)
    assert both.shape == (3, 2, 4)
    assert torch.equal(both[:, :1], Draws(1, [5], device)(3, 1, 4))
    assert torch.equal(both[:, 1:], Draws(1, [6], device)(3, 1, 4))
    assert not torch.equal(both[:, 0], both[:, 1])
    assert not torch.equal(both, Draws(2, [5, 6], device)(3, 2, 4))
