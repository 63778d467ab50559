"""One network for several tasks: what it starts from, what each sample brings, that a run goes on exactly, and what each task gets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.clip import write_model
from support.training import TINY, StopError, lines, saved

import focus_framework as focus
from focus_framework import ConfigError, DataError, Prompts, Task, WeightsError
from focus_framework.checkpoint import read_checkpoint, read_description
from focus_framework.cli import main
from focus_framework.data.augment import Augmentation
from focus_framework.data.dataset import JointSamples, PracticeImages, TrainingSamples, batches
from focus_framework.model.build import build_network
from focus_framework.model.condition import Condition, Examples
from focus_framework.model.network import Network
from focus_framework.training.best import Best
from focus_framework.training.data import by_task
from focus_framework.training.loop import Progress
from focus_framework.training.plan import plan
from focus_framework.training.record.summary import Summary
from focus_framework.training.run import train

TASKS = "shadow,salient"
JOINT = {**TINY, "refiner.name": "none", "data.validation_limit": 2, "conditioner.options.weights": "none"}
"""Two tasks and a learned table."""
EXAMPLES = {**TINY, "refiner.name": "none", "data.validation_limit": 2, "conditioner.name": "example", "conditioner.examples": 3}


def joint(
    folder: Path, settings: dict[str, Any], tasks: str | None = TASKS, *, on_progress: Callable[[Progress], None] = lambda progress: None
) -> Summary:
    summary = train(*plan(tasks, options=settings), folder, on_progress=on_progress)
    assert summary
    return summary


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return joint(tmp_path_factory.mktemp("table"), JOINT)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return joint(tmp_path_factory.mktemp("examples"), EXAMPLES)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


def network(tasks: str, **settings: Any) -> Network:
    torch.manual_seed(0)
    return build_network(plan(tasks, options={**TINY, **settings})[0].config).eval()


CONDITIONERS: dict[str, dict[str, Any]] = {
    "table": {"conditioner.options.weights": "none"},
    "sentences": {"conditioner.options.weights": "random", "conditioner.options.features": 512},
    "examples": {"conditioner.name": "example"},
}


class TestNetwork:
    @pytest.mark.parametrize("settings", CONDITIONERS.values(), ids=CONDITIONERS)
    def test_it_starts_from_the_network_of_one_task_bit_for_bit(self, settings: dict[str, Any]) -> None:
        alone, several = network("shadow"), network(TASKS, **settings)
        images = torch.rand(2, 3, 64, 64)
        masks = torch.randint(0, 2, (2, 3, 64, 64))
        conditions = [
            None,
            Condition(tasks=torch.tensor([1, 0])),
            Condition(vectors=torch.randn(2, *several.vectors.shape[1:])),
            *([Condition(examples=Examples(torch.rand(2, 3, 3, 64, 64), masks))] if "conditioner.name" in settings else []),
        ]
        with torch.no_grad():
            expected = alone(images, all_heads=True)
            for condition in conditions:
                for ours, theirs in zip(several(images, all_heads=True, condition=condition), expected, strict=True):
                    assert torch.equal(ours, theirs)

    @pytest.mark.parametrize("settings", CONDITIONERS.values(), ids=CONDITIONERS)
    def test_it_adds_less_than_two_percent_to_the_preset_quick(self, settings: dict[str, Any]) -> None:
        config = plan("all", options=settings)[0].config
        with torch.device("meta"):
            several = build_network(config, weights="none")
        own = sum(parameter.numel() for parameter in several.conditioner.parameters())  # type: ignore[union-attr]
        assert 0 < own < 0.02 * (sum(parameter.numel() for parameter in several.parameters()) - own)

    def test_each_image_gets_the_masks_of_its_own_task(self) -> None:
        several = network(TASKS, **CONDITIONERS["table"])
        torch.nn.init.normal_(several.conditioner.out.weight)  # type: ignore[union-attr]
        image = torch.rand(1, 3, 64, 64).expand(2, -1, -1, -1)
        with torch.no_grad():
            first, second = several(image, condition=Condition(tasks=torch.tensor([0, 1]))).mask_logits[-1]
            alone = [several.for_vectors(several.vectors[task])(image[:1]).mask_logits[-1, 0] for task in (0, 1)]
        assert not torch.allclose(first, second, atol=1e-3)
        torch.testing.assert_close(torch.stack([first, second]), torch.stack(alone), atol=1e-4, rtol=1e-4)

    def test_the_network_of_one_task_has_the_weights_and_names_of_one_that_never_had_others(self) -> None:
        several = network(TASKS, **CONDITIONERS["table"])
        view = several.for_vectors(several.vectors[1])
        assert view.state_dict().keys() == network("shadow").state_dict().keys()
        assert view.encoder is several.encoder and several.conditioner is not None and view.conditioner is None
        assert several.decoder.query_content is not view.decoder.query_content

    def test_examples_are_averaged_inside_and_outside(self) -> None:
        from focus_plugins.conditioners.example_vectors import build

        features = torch.zeros(2, 4, 2, 2)  # two examples; the first channel marks the one place that is inside
        inside = torch.zeros(2, 2, 2)
        inside[0, 0, 0] = features[0, 0, 0, 0] = 1
        features[1, 1] = 3
        vectors = build(["a"], width=4).example_vectors(features, inside, 1 - inside)
        assert vectors[0].tolist() == [1, 0, 0, 0]
        assert vectors[1].tolist() == pytest.approx([0, 12 / 7, 0, 0])

    def test_an_example_leaves_the_modes_and_norms_of_training_alone(self) -> None:
        several = network(TASKS, **CONDITIONERS["examples"]).train()
        before = {name: buffer.clone() for name, buffer in several.named_buffers()}
        several.read_examples(Examples(torch.rand(1, 2, 3, 64, 64), torch.ones(1, 2, 64, 64)))
        assert all(module.training for module in several.modules())
        assert all(torch.equal(buffer, before[name]) for name, buffer in several.named_buffers())


def practice(random: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((size, size), bool)
    mask[: size // 2] = True
    return random.integers(0, 256, (size, size, 3), dtype=np.uint8), mask


def part(name: str, count: int = 7) -> TrainingSamples:
    task = Task(name=name, title=name, prompts=Prompts("a", "b"), metrics=("mae",), primary_metric="mae", practice=practice)
    return TrainingSamples(PracticeImages(task, count, size=32), Augmentation.of_task("plain", 32, task), seed=3)


class TestSamples:
    @pytest.mark.parametrize(("shares", "counts"), [((), [50, 50, 50]), ((2, 1, 1), [75, 38, 37]), ((0.5, 0.2, 0.3), [75, 30, 45])])
    def test_tasks_are_mixed_by_their_shares(self, shares: tuple[float, ...], counts: list[int]) -> None:
        samples = JointSamples([part(name) for name in "abc"], shares)
        places = [samples.place(number) for number in range(150)]
        found = Counter(task for task, _ in places)
        assert all(abs(found[task] - count) <= 1 for task, count in enumerate(counts))
        for task in range(3):  # each draws its own samples one after the other
            assert [own for one, own in places if one == task] == list(range(found[task]))

    def test_one_task_sees_what_it_always_saw(self) -> None:
        alone, mixed = part("a"), JointSamples([part("a")])
        for number in range(20):
            one, other = alone[number], mixed[number]
            assert torch.equal(one["image"], other["image"]) and torch.equal(one["mask"], other["mask"]) and one["name"] == other["name"]

    def test_neither_workers_nor_processes_nor_a_restart_change_a_step(self) -> None:
        def mixed() -> JointSamples:
            return JointSamples([part("a"), part("b")], (2, 1), shots=2)

        whole = list(islice(batches(mixed(), batch_size=4), 5))
        variants = {
            "workers": list(islice(batches(mixed(), batch_size=4, workers=2), 5)),
            "later": whole[:2] + list(islice(batches(mixed(), batch_size=4, first_step=2), 3)),
        }
        shares = [list(islice(batches(mixed(), batch_size=2, rank=rank, processes=2), 5)) for rank in (0, 1)]
        for name in ("image", "mask", "task", "example_images", "example_masks"):
            for batch in variants.values():
                assert all(torch.equal(one[name], other[name]) for one, other in zip(whole, batch, strict=True))
            assert all(torch.equal(one[name], torch.cat([a[name], b[name]])) for one, a, b in zip(whole, *shares, strict=True))
        assert whole[0]["example_images"].shape == (4, 2, 3, 32, 32)

    def test_examples_are_other_images_of_the_task_where_there_are_others(self) -> None:
        from unittest.mock import patch

        samples = part("a", count=3)
        drawn: list[int] = []
        with patch.object(TrainingSamples, "_drawn", lambda self, index, random: drawn.append(index) or (torch.zeros(1), torch.zeros(1))):
            for number in range(30):
                drawn.clear()
                samples.examples(number, 2)
                assert samples.index(number) not in drawn and len(set(drawn)) == 2
        assert part("a", count=1).examples(0, 2)[0].shape == (2, 3, 32, 32)

    def test_each_task_is_changed_as_it_allows(self) -> None:
        parts = plan("shadow,forgery", options=JOINT)
        from focus_framework.training.data import load_data

        data = load_data(parts[0].config, [entry.get() for entry in parts[1]])
        assert [one.samples.augmentation.colour for one in data.parts.values()] == [True, False]


class TestData:
    def test_each_task_has_the_data_that_are_said_of_it(self) -> None:
        assert by_task("practice", ["a", "b"], "data") == {"a": "practice", "b": "practice"}
        assert by_task("b=x/,split=test,a=practice", ["a", "b"], "data") == {"a": "practice", "b": "x/,split=test"}
        assert by_task("images=X,masks=Y", ["a", "b"], "data") == {"a": "images=X,masks=Y", "b": "images=X,masks=Y"}
        assert by_task("a=images=X,masks=Y,b=z", ["a", "b"], "data") == {"a": "images=X,masks=Y", "b": "z"}

    @pytest.mark.parametrize(("reference", "said"), [("a=x", "nothing of task b"), ("a=x,a=y,b=z", "twice what task a has")])
    def test_what_is_missing_or_said_twice_is_named(self, reference: str, said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            by_task(reference, ["a", "b"], "data.train")


class TestBest:
    def test_of_one_task_the_better_score_wins(self) -> None:
        best = Best({"ber": "ber"})
        assert [best.note({"ber": value}) for value in (9.0, 9.0, 8.0, 8.5)] == [True, False, True, False]
        assert best.scores == {"ber": 8.0} and best.stale == 1

    def test_of_several_the_mean_rank_decides(self) -> None:
        best = Best({"a.mae": "mae", "b.iou": "iou", "c.iou": "iou"})
        assert best.note({"a.mae": 0.5, "b.iou": 0.5, "c.iou": 0.5})
        assert not best.note({"a.mae": 0.1, "b.iou": 0.4, "c.iou": 0.4})  # better in one task, worse in two
        assert best.mean_ranks() == pytest.approx([4 / 3, 5 / 3])
        assert best.note({"a.mae": 0.4, "b.iou": 0.6, "c.iou": 0.45})  # ranks 2, 1, 2 beside 3, 2, 1
        assert best.stale == 0

    def test_without_scores_the_latest_is_the_best(self) -> None:
        best = Best({"a.mae": "mae", "b.iou": "iou"})
        assert best.note({}) and best.note({}) and best.note({"a.mae": 0.5}) and not best.note({})


class TestRun:
    def test_what_it_leaves_is_by_task(self, table: Summary) -> None:
        assert set(table.validation) >= {"shadow.ber", "salient.s_measure", "salient.mae"}
        assert set(table.test) == set(table.validation)
        assert "shadow.otsu darkness" in table.baselines and "salient.mean mask" in table.baselines
        assert {"validation_shadow.ber", "validation_salient.s_measure"} <= lines(table.folder)[-1].keys()
        description = read_description(table.best)
        assert [task["name"] for task in description["tasks"]] == ["shadow", "salient"]
        assert all(task["prompts"][0]["foreground"] for task in description["tasks"])
        report = table.report.read_text("utf-8")
        assert "mean rank" in report and "Task salient" in report

    @pytest.mark.parametrize("settings", [JOINT, EXAMPLES], ids=["table", "examples"])
    def test_it_goes_on_exactly_where_it_was(self, settings: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest) -> None:
        whole = request.getfixturevalue("table" if settings is JOINT else "shown")

        def stop(progress: Progress) -> None:
            if progress.step == 3:
                raise StopError

        with pytest.raises(StopError):
            joint(tmp_path / "run", settings, on_progress=stop)
        resolved, entries = plan(None, resume=tmp_path / "run")
        again = train(resolved, entries, tmp_path / "run", resume=True)
        assert again and again.validation == whole.validation
        for name in ("checkpoint.safetensors", "best.safetensors"):
            ours, theirs = (read_checkpoint(folder / name)[1] for folder in (tmp_path / "run", whole.folder))
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        assert saved(tmp_path / "run").history == saved(whole.folder).history

    def test_parts_of_a_batch_give_the_same_step(self, table: Summary, tmp_path: Path) -> None:
        halves = joint(
            tmp_path / "halves", {**JOINT, "training.accumulate": 2, "training.steps": 1, "backbone.options.drop_path_rate": 0.0}
        )
        whole = joint(tmp_path / "whole", {**JOINT, "training.steps": 1, "backbone.options.drop_path_rate": 0.0})
        for name in ("loss_mask", "loss_box", "loss_label"):
            assert lines(halves.folder)[0][name] == pytest.approx(lines(whole.folder)[0][name], rel=0.05)  # norms see halves

    def test_every_task_has_a_refiner_with_its_own_prompts(self, tmp_path: Path) -> None:
        model = write_model(tmp_path / "clip")
        settings = {**JOINT, "refiner.name": "clip-release", "refiner.options.model": model, "refiner.options.weights": "random"}
        joint(tmp_path / "run", {**settings, "training.steps": 2})
        state = saved(tmp_path / "run").update["refiner"]
        assert {key.split(".")[1] for key in state} == {"0", "1"}
        before = state["refiners.0.text_embed.fc.weight"], state["refiners.1.text_embed.fc.weight"]
        assert not torch.equal(*before)

    def test_sentences_become_vectors(self, tmp_path: Path) -> None:
        model = write_model(tmp_path / "clip")
        settings = {**JOINT, "conditioner.options.model": model, "conditioner.options.weights": "random", "training.steps": 1}
        found = focus.load(joint(tmp_path / "run", settings).best)
        vectors = found.network.vectors
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2, 2))
        assert not torch.allclose(vectors[0], vectors[1])
        task = focus.plugin.registry.registry().get("task", "salient")  # type: ignore[attr-defined]
        pair = task.pairs()[0]
        said = found.with_prompts(pair.foreground, pair.background)
        known = found.for_task("salient")
        assert torch.equal(said.network.decoder.query_content, known.network.decoder.query_content)
        with pytest.raises(ConfigError, match=r"reads no examples.*--conditioner example"):
            found.with_examples([])

    def test_a_calibrated_run_has_a_temperature_for_each_task(self, tmp_path: Path) -> None:
        run = joint(tmp_path / "run", {**JOINT, "training.calibrate": True, "training.steps": 2})
        told = {task["name"]: task["temperature"] for task in read_description(run.best)["tasks"]}
        model = focus.load(run.best)
        assert {name: model.for_task(name).config.prediction.temperature for name in told} == told

    @pytest.mark.parametrize(
        ("tasks", "settings", "said"),
        [
            ("shadow,shadow", {}, "shadow is named twice"),
            ("shadow,", {}, "a name is missing"),
            ("shadow,glas", {}, "there is no task 'glas'"),
            (TASKS, {"conditioner.name": "none"}, "without anything that tells them apart"),
            (TASKS, {"prompts.foreground": "x"}, "prompts.foreground says it for one task"),
            (TASKS, {"data.shares": [1.0]}, "1 numbers for 2 task"),
            (TASKS, {"conditioner.name": "examples"}, "did you mean example"),
            (TASKS, {"conditioner.options.weights": "no-such-tag"}, "no-such-tag"),
            (TASKS, {"conditioner.kept": ["glass"]}, "task glass, which the checkpoint of --init does not know"),
        ],
    )
    def test_what_does_not_go_together_is_said(self, tasks: str, settings: dict[str, Any], said: str, tmp_path: Path) -> None:
        with pytest.raises(focus.FocusError, match=said):
            train(*plan(tasks, options={**JOINT, **settings}), tmp_path / "run")


class TestUse:
    def test_each_task_has_its_own_mask(self, table: Summary, image: np.ndarray) -> None:
        model = focus.load(table.best)
        assert model.tasks == ("shadow", "salient") and model.task == "shadow"
        found = model.predict_tasks(image)
        assert isinstance(found, dict) and list(found) == ["shadow", "salient"]
        for name, result in found.items():
            own = model.for_task(name)
            assert own.task == name and own.tasks == (name,)
            np.testing.assert_allclose(result.probability, own.predict(image).probability, atol=1e-5)
        assert np.array_equal(model.predict(image).probability, model.for_task("shadow").predict(image).probability) or np.allclose(
            model.predict(image).probability, found["shadow"].probability, atol=1e-5
        )
        several = model.predict_tasks([image, image[:40]], ["salient"])
        assert isinstance(several, list) and [one["salient"].probability.shape for one in several] == [(70, 90), (40, 90)]
        with pytest.raises(ConfigError, match=r"knows the tasks shadow, salient, not 'glass'"):
            model.for_task("glass")

    def test_the_encoder_works_once_for_all_tasks(self, table: Summary, image: np.ndarray) -> None:
        model, calls = focus.load(table.best), Counter[str]()
        model.network.encoder.register_forward_hook(lambda *_: calls.update(["encoder"]))
        model.predict_tasks(image)
        assert calls["encoder"] == 1

    def test_a_task_is_made_once_and_anew_where_weights_have_changed(self, table: Summary, image: np.ndarray) -> None:
        model = focus.load(table.best)
        before = model.for_task("salient")
        assert model.for_task("salient") is before
        with torch.no_grad():
            model.network.conditioner.out.bias += 1  # type: ignore[union-attr,operator]
        after = model.for_task("salient")
        assert not torch.equal(after.network.decoder.query_content, before.network.decoder.query_content)

    def test_what_is_made_of_one_task_is_a_model_of_one_task(self, table: Summary, image: np.ndarray, tmp_path: Path) -> None:
        from focus_framework.checkpoint import write_checkpoint

        one = focus.load(table.best).for_task("salient")
        write_checkpoint(tmp_path / "one.safetensors", one.network.state_dict(), one.description)
        again = focus.load(tmp_path / "one.safetensors")
        assert again.tasks == ("salient",) and again.network.conditioner is None
        assert np.array_equal(again.predict(image).probability, one.predict(image).probability)
        assert set(again.description["validation"]) == {name.removeprefix("salient.") for name in table.validation if "salient" in name}

    def test_examples_say_what_is_meant(self, shown: Summary, image: np.ndarray, tmp_path: Path) -> None:
        model = focus.load(shown.best)
        mask = np.zeros(image.shape[:2], bool)
        mask[10:40, 20:60] = True
        one, other = model.with_examples([(image, mask)]), model.with_examples([(image, ~mask)])
        assert one.task == "examples"
        torch.testing.assert_close(model.example_vectors([(image, mask)]), model.example_vectors([(image, ~mask)]).flip(0))
        assert one.predict(image).mask.shape == other.predict(image).mask.shape
        with pytest.raises(DataError, match="no examples"):
            model.with_examples([])
        with pytest.raises(DataError, match=r"none of the masks.*foreground"):
            model.with_examples([(image, mask & False)])
        with pytest.raises(DataError, match="90x70 and its mask 90x60"):
            model.with_examples([(image, mask[:60])])
        with pytest.raises(ConfigError, match="reads no sentences"):
            model.with_prompts("a", "b")

    def test_the_vectors_in_a_checkpoint_are_those_of_its_weights(self, shown: Summary) -> None:
        model = focus.load(shown.best)
        images = PracticeImages(focus.plugin.registry.registry().get("task", "salient"), 8, size=64)  # type: ignore[attr-defined]
        chosen = [images[index] for index in (0, 4, 7)]
        torch.testing.assert_close(model.network.vectors[1], model.example_vectors(chosen))

    def test_so_they_are_where_a_share_is_the_parent_s(self, shown: Summary, tmp_path: Path) -> None:
        settings = {**EXAMPLES, "init": str(shown.best), "training.parent_share": 0.25, "training.learning_rate": 0.01, "training.steps": 2}
        child = joint(tmp_path, settings)
        network, before = focus.load(child.best).network, read_checkpoint(shown.best)[1]["decoder.query_content"]
        trained = saved(tmp_path).update["network"]["decoder.query_content"]
        torch.testing.assert_close(network.state_dict()["decoder.query_content"], 0.75 * trained + 0.25 * before)
        assert not torch.equal(trained, before)
        self.test_the_vectors_in_a_checkpoint_are_those_of_its_weights(child)


class TestNewTask:
    GLASS = str(Path(__file__).parent.parent / "examples/focus-task-glass/focus_task_glass.py")

    @pytest.mark.parametrize("fixture", ["table", "shown"])
    def test_others_stay_what_they_are(self, fixture: str, image: np.ndarray, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        before = request.getfixturevalue(fixture)
        settings = {key: value for key, value in JOINT.items() if not key.startswith(("backbone.", "pixel_", "decoder.", "conditioner."))}
        options = {**settings, "init": str(before.best), "backbone.frozen": True}
        options |= {"training.learning_rate": 0.01, "training.parent_share": 0.3}
        resolved, entries = plan(self.GLASS, preset="quick", options=options)
        assert resolved.config.known_tasks == ("shadow", "salient", "glass") and resolved.config.trains_vectors_alone
        after = train(resolved, entries, tmp_path / "run")
        assert after
        old, new = focus.load(before.best), focus.load(after.folder / "checkpoint.safetensors")
        assert new.tasks == ("shadow", "salient", "glass")
        for name in old.tasks:
            assert np.array_equal(old.for_task(name).predict(image).probability, new.for_task(name).predict(image).probability)
        ours, theirs = (read_checkpoint(path)[1] for path in (after.folder / "checkpoint.safetensors", before.best))
        changed = [name for name in theirs if ours[name].shape != theirs[name].shape or not torch.equal(ours[name], theirs[name])]
        assert changed == ["conditioner.vectors"]
        assert torch.equal(ours["conditioner.vectors"][:2], theirs["conditioner.vectors"])
        assert ours["conditioner.vectors"][2].numel() < 0.01 * sum(tensor.numel() for tensor in theirs.values())
        told = read_description(after.best)
        assert [task["name"] for task in told["tasks"]] == ["shadow", "salient", "glass"]
        assert told["config"]["conditioner"]["kept"] == ["shadow", "salient"]

    def test_in_a_changed_network_others_would_not(self, table: Summary, tmp_path: Path) -> None:
        settings = {key: value for key, value in JOINT.items() if not key.startswith(("backbone.", "pixel_", "decoder.", "conditioner."))}
        options = {**settings, "init": str(table.best), "backbone.frozen": True, "decoder.layers": 5}
        with pytest.raises(WeightsError, match=r"lacks decoder\..* so that shadow, salient would not stay what they are"):
            train(*plan(self.GLASS, preset="quick", options=options), tmp_path / "run")

    def test_its_vectors_are_trained(self, table: Summary, tmp_path: Path) -> None:
        settings = {key: value for key, value in JOINT.items() if not key.startswith(("backbone.", "pixel_", "decoder.", "conditioner."))}
        options = {**settings, "init": str(table.best), "conditioner.trains": "vectors"}
        found = []
        for steps in (1, 3):
            run = train(*plan(self.GLASS, preset="quick", options={**options, "training.steps": steps}), tmp_path / f"{steps}")
            assert run
            found.append(read_checkpoint(run.checkpoint)[1]["conditioner.vectors"][2])
        assert not torch.equal(*found)

    def test_a_network_of_one_task_may_become_one_of_several(self, tmp_path: Path) -> None:
        alone = {key: value for key, value in JOINT.items() if not key.startswith("conditioner.")}
        first = joint(tmp_path / "alone", {**alone, "training.steps": 1}, "shadow")
        settings = {key: value for key, value in alone.items() if not key.startswith(("backbone.", "pixel_", "decoder."))}
        resolved, _ = plan(TASKS, preset="quick", options={**settings, "init": str(first.best), "conditioner.options.weights": "none"})
        assert resolved.config.conditioner.name == "prompt"
        assert resolved.config.backbone.options["embed_dim"] == 32


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


class TestCommands:
    def test_predict_one_and_several(self, table: Summary, image: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from PIL import Image

        Image.fromarray(image).save(tmp_path / "x.png")
        start = ["predict", str(tmp_path / "x.png"), "--checkpoint", str(table.best), "--device", "cpu", "--json"]
        assert call(*start, "--out", str(tmp_path / "a"), "--task-plugin", "salient") == 0
        assert call(*start, "--out", str(tmp_path / "b"), "--task-plugin", "salient,shadow", "--save", "mask,overlay") == 0
        written = json.loads(capsys.readouterr().out.splitlines()[-1])["written"]
        places = {str(Path(path).relative_to(tmp_path / "b")) for path in written}
        assert places == {f"{task}/{form}/x.png" for task in ("salient", "shadow") for form in ("mask", "overlay")}
        one, several = (np.asarray(Image.open(path)) for path in (tmp_path / "a/x.png", tmp_path / "b/salient/mask/x.png"))
        assert np.abs(one.astype(int) - several).max() <= 1
        assert call(*start, "--out", str(tmp_path / "c")) == 0
        assert "knows the tasks shadow, salient; this is shadow" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--task-plugin", "glass"], "knows the tasks shadow, salient, not 'glass'"),
            (["--task-plugin", "all", "--save", "rle"], "rle is one file for one task"),
            (["--foreground-prompt", "x"], "give --background-prompt too"),
            (["--foreground-prompt", "x", "--background-prompt", "y"], "reads no sentences"),
            (["--examples", "nowhere/at/all"], "reads no examples"),
            (["--examples", "x", "--task-plugin", "shadow"], "--task-plugin and --examples each say"),
        ],
    )
    def test_predict_says_what_is_wrong(
        self, table: Summary, image: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
    ) -> None:
        from PIL import Image

        Image.fromarray(image).save(tmp_path / "x.png")
        assert call("predict", str(tmp_path / "x.png"), "--checkpoint", str(table.best), "--out", str(tmp_path / "o"), *arguments) in (1, 2)
        assert said in capsys.readouterr().err

    def test_inspect_and_evaluate_know_all_tasks(
        self, table: Summary, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert call("checkpoint", "inspect", str(table.best), "--json") == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["conditioner"] == "prompt" and [task["name"] for task in facts["tasks"]] == ["shadow", "salient"]
        assert call("checkpoint", "inspect", str(table.best)) == 0
        assert "salient: " in capsys.readouterr().out
        monkeypatch.setattr("focus_framework.evaluation.samples.PRACTICE_COUNT", 2)
        assert call("evaluate", "--checkpoint", str(table.best), "--device", "cpu", "--json") == 0
        results = json.loads(capsys.readouterr().out)["results"]
        assert [row["data"] for row in results] == ["shadow: practice", "salient: practice"]
        assert call("evaluate", "--checkpoint", str(table.best), "--device", "cpu", "--task-plugin", "salient", "--json") == 0
        (alone,) = json.loads(capsys.readouterr().out)["results"]
        assert alone["data"] == "practice" and alone["metrics"] == pytest.approx(results[1]["metrics"], nan_ok=True)

    def test_the_service_has_a_model_for_each_task(self, table: Summary) -> None:
        pytest.importorskip("fastapi")
        from focus_framework.deploy.serve.models import load_all

        served = load_all([str(table.folder / "checkpoint.safetensors")], device="cpu", prediction={})
        assert [one.name.rpartition("-")[2] for one in served] == ["shadow", "salient"]
        assert [(one.model.task, one.card["task"]) for one in served] == [("shadow", "shadow"), ("salient", "salient")]
        assert served[0].model.network.encoder is served[1].model.network.encoder

    def test_an_export_is_of_the_task_that_is_named(self, table: Summary, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        asked = ("export", str(table.best), "--out", str(tmp_path / "model.pt2"), "--size", "64", "--json", "--task-plugin")
        for named, told in (
            ("glass", "knows the tasks shadow, salient, not 'glass'"),
            ("all", "one task at a time is exported; all names several"),
        ):
            assert call(*asked, named) == 2
            assert told in capsys.readouterr().err
        assert call(*asked, "salient") == 0
        assert json.loads(capsys.readouterr().out)["facts"]["task"]["name"] == "salient"

    def test_the_card_knows_all_tasks(self, table: Summary) -> None:
        from focus_framework.checkpoint.card import card

        text = card(read_description(table.best), "me/all", images=False)
        assert "### shadow" in text and "### salient" in text and "conditioner prompt" in text and "--task-plugin salient" in text
