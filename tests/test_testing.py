"""What plugins promise, tried: by everything registered, by the examples, and by plugins that break one promise each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clip import write_model

from focus_framework import PluginError
from focus_framework.cli import main
from focus_framework.plugin.registry import KINDS, registry
from focus_framework.testing import Broken, Subject, Trial, check, each_promise, promises, subjects

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "plugins.md").read_text("utf-8")
GLASS = ROOT / "examples" / "focus-task-glass" / "focus_task_glass.py"
TRANSFORMER = {"embed_dim": 32, "depth": 4, "num_heads": 2, "img_size": 64}
SMALL: dict[str, dict[str, Any]] = {
    "vit": TRANSFORMER,
    **{f"vit_{size}_patch14_dinov2": TRANSFORMER for size in ("small", "base", "large", "giant")},
    **{f"vit_{size}_patch16_dinov3": TRANSFORMER for size in ("small", "base", "large", "7b")},
    "resnet50": {"layers": (1, 1, 1, 1)},
    "convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (16, 32, 64, 128)},
    "swinv2_tiny_window8_256": {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8), "img_size": 64},
    "edge": {"trunk": "resnet10t"},
    "edge-release": {"trunk": "resnet10t"},
}
"""Options that make a registered plugin small."""
TWO_PROCESSES = "two processes learn the same"
ELSEWHERE = (TWO_PROCESSES, "another process gives the same loss")
"""Promises that start processes which import torch: once for each kind."""


def registered() -> Iterator[Any]:
    """Every promise of everything registered. What shares its ``build`` with another is tried for what others hang on."""
    builds, started = [], set()
    for entry in (entry for kind in KINDS for entry in registry().of_kind(kind) if entry.distribution == "focus-framework"):
        build = getattr(entry.get(), "build", entry.name)
        for promise in promises(entry.kind):
            if (promise.first or build not in builds) and not (promise.name in ELSEWHERE and entry.kind in started):
                yield pytest.param(entry, promise, id=f"{entry.kind} {entry.name}: {promise.name}")
        builds.append(build)
        started.add(entry.kind)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options of a refiner that make its encoder small."""
    return {"model": write_model(tmp_path_factory.mktemp("clip")), "weights": "random"}


@pytest.mark.parametrize(("entry", "promise"), list(registered()))
def test_what_is_built_in_keeps(entry: Any, promise: Any, clip: dict[str, Any]) -> None:
    Trial(promise, Subject(entry, clip if entry.kind == "refiner" else SMALL.get(entry.name, {}))).keep()


@each_promise(str(GLASS))
def test_the_example_keeps(promise: Trial) -> None:
    promise.keep()


def shown(kind: str) -> str:
    """The plugin of a kind on the page "Write a plugin"."""
    (source,) = re.findall(rf"<!-- plugin: {kind} -->\n```python\n(.*?)```\n", PAGE, re.DOTALL)
    return str(source)


SOURCES = {"task": GLASS.read_text("utf-8"), **{kind: shown(kind) for kind in ("backbone", "enhancer", "refiner", "conditioner")}}


def broken(folder: Path, kind: str, old: str, new: str, without: tuple[str, ...] = ELSEWHERE) -> dict[str, str]:
    """The promises that a plugin breaks after a change to its source, and what is said of each."""
    assert old in SOURCES[kind]
    file = folder / "mine.py"
    file.write_text(SOURCES[kind].replace(old, new))
    (subject,) = subjects(str(file))
    return {outcome.promise: outcome.detail for outcome in check(subject, without=without) if outcome.state == "broken"}


@pytest.mark.parametrize("kind", ["backbone", "enhancer", "refiner", "conditioner"])
def test_what_the_page_shows_keeps_all(kind: str, tmp_path: Path) -> None:
    assert broken(tmp_path, kind, "yield", "yield", without=ELSEWHERE[:1]) == {}


RETURN = "return photograph(random, mix(scene, through_glass(random, scene, glass), glass)), glass > 0.5"
BEFORE = "    shapes = ("
BREAKS = {
    "a title of two lines": ("task", 'title="Transparent', 'title="Two\\nTransparent', "the description is whole", "one line"),
    "a library at its head": ("task", "from focus_framework import D", "import cv2\nfrom focus_framework import D", "listing imports no torch", "cv2"),
    "a function that is not there": ("task", "practice=practice", "practice='os:practise'", "what makes things can be imported", "practise"),
    "a prompt of a page": ("task", 'foreground="an', f'foreground="{"very " * 90}', "prompts are read to their end", "at most 77"),
    "a setting that is none": ("task", "practice=practice", "practice=practice, defaults={'loss.clap': 1.0}", "its defaults are settings", "loss.clap"),
    "two sets of one name": ("task", 'name="gdd-test"', 'name="gdd-train"', "data sets say where they lie", "gdd-train"),
    "a mask of one size": ("task", RETURN, f"{RETURN.replace('glass > ', '(glass > ')})[:64]", "practice images are well formed", "97"),
    "chance of its own": ("task", BEFORE, f"    scene = scene + __import__('numpy').random.rand() / 4\n{BEFORE}", "one seed gives one image", "generator"),
    "a hash": ("task", BEFORE, f"    scene = scene + hash('x') % 100003 / 2e5\n{BEFORE}", "one seed gives one image in another process", "hash()"),
    "the same image again": ("task", "    def somewhere", "    random = __import__('numpy').random.default_rng(3)\n\n    def somewhere", "every number gives another image", "1 different"),
    "masks of next to nothing": ("task", RETURN, f"{RETURN.replace('glass > 0.5', '(glass > 0.5) & (glass.cumsum(0) < 3)')}", "masks take a fair share", "fair"),
    "a cue that tells all": ("task", RETURN, RETURN.replace("mix(scene, through_glass(random, scene, glass)", "mix(scene * 0.02, scene * 0 + 1"), "no single cue gives the mask away", "otsu"),
    "no keyword weights": ("backbone", '*, weights="none", ', "*, ", "build takes what it is called with", "weights"),
    "no attribute heads": ("backbone", "heads = 4", "hats = 4", "it builds without weights", "heads"),
    "strides that it does not say": ("backbone", "pyramid = True", "pyramid = False", "four stages at any size", "no pyramid"),
    "tokens of its own": ("backbone", "        return tokens\n", "        return self.enter(state, stage)[0]\n", "a stage uses the tokens that it is given", "run(state, 0"),
    "layers that are detached": ("backbone", "image = stage(image)", "image = stage(image).detach()", "gradients reach what must learn", "detached"),
    "a mean over the batch": ("backbone", "image = stage(image)", "image = stage(image) + image.mean()", "images of a batch do not mix", "another image"),
    "a layer told twice": ("backbone", "return list(self.stages)", "return [*self.stages, self.stages[0]]", "its layers are told in order", "shares"),
    "weights passed over": ("backbone", 'if weights != "none"', 'if weights == "pretrained"', "weights that are not there are refused", "silence"),
    "maps of one size": ("enhancer", "F.avg_pool2d(steepness, stride)", "F.interpolate(steepness, 64 // stride)", "four maps of any width and size", "stride"),
    "a dropout that never ends": ("enhancer", "(steepness, stride)", "(F.dropout(steepness), stride)", "the same images give the same features", "dropout"),
    "a number kept elsewhere": ("enhancer", "torch.hypot(x, y)", "torch.hypot(x, y) * self.__dict__.setdefault('scale', torch.rand(1))", "its state can be saved and loaded", "state_dict"),
    "a loss for each image": ("refiner", ".exp().mean()", ".exp().mean(0)", "the loss is one number", "scalar"),
    "nothing by nothing": ("refiner", "share.sum((-2, -1))[..., None].clamp(min=1)", "(share.clamp(min=1e-9) - 1e-9).sum((-2, -1))[..., None]", "empty and full masks give a number", "nothing"),
    "masks that are cut off": ("refiner", "mask_logits.sigmoid()", "mask_logits.detach().sigmoid()", "the loss pulls at the masks", "no gradient"),
    "chance in a loss": ("refiner", ".exp().mean()", ".exp().mean() + __import__('torch').rand(())", "the same masks give the same loss", "then"),
    "vectors of one task": ("conditioner", "torch.zeros(len(tasks)", "torch.zeros(1", "it has two vectors for each task", "[3, 2, D]"),
    "a shift from the start": ("conditioner", "return vectors", "return vectors + 0.1", "a network starts from what it was", "0.1"),
    "vectors that are detached": ("conditioner", "return vectors", "return vectors.detach() * 1", "gradients reach what must learn", "gradient"),
    "a sum": ("refiner", ".exp().mean()", ".exp().sum()", "the loss is a mean", "twice"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "old", "new", "promise", "word"), BREAKS.values(), ids=BREAKS)
def test_the_promise_that_is_broken_is_named(kind: str, old: str, new: str, promise: str, word: str, tmp_path: Path) -> None:
    found = broken(tmp_path, kind, old, new)
    assert next(iter(found)) == promise, found
    assert word in found[promise]


def test_nothing_is_tried_after_what_all_else_hangs_on(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOURCES["backbone"].replace("heads = 4", "hats = 4"))
    outcomes = list(check(subjects(str(tmp_path / "mine.py"))[0]))
    states = [outcome.state for outcome in outcomes]
    assert states.count("broken") == 1
    assert all(state == "not tried" for state in states[states.index("broken") + 1 :])
    assert "'it builds without weights' is broken" in outcomes[-1].detail


def test_a_family_is_tried_by_its_networks() -> None:
    family, member = subjects("timm-pyramid")[0], subjects("resnet10t")[0]
    builds = next(promise for promise in promises("backbone") if promise.name == "it builds without weights")
    assert Trial(builds, member).keep().endswith("M weights")
    with pytest.raises(pytest.skip.Exception, match="name one of its networks"):
        Trial(builds, family).keep()


def test_a_test_of_each_promise_fails_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOURCES["refiner"].replace(".exp().mean()", ".exp().sum()"))

    @each_promise(str(tmp_path / "mine.py"), without=ELSEWHERE)
    def made(promise: Trial) -> None:
        promise.keep()

    (mark,) = made.pytestmark  # type: ignore[attr-defined]
    trials = {trial.id: trial.values[0] for trial in mark.args[1]}
    assert "contrast: the loss is a mean" in trials
    with pytest.raises(Broken, match="take the mean"):
        trials["contrast: the loss is a mean"].keep()
    with pytest.raises(PluginError, match="no-such"):
        each_promise("no-such-plugin")


def called(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["plugins", "check", *arguments])
    return int(ended.value.code or 0)


def test_the_command_tells_each_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SOURCES["task"].replace('title="Transparent', 'title="Two\\nTransparent'))
    assert called(str(file)) == 1
    out = capsys.readouterr().out
    assert "  BROKEN     the description is whole: the title is" in out
    assert out.splitlines()[-1].startswith("0 kept, 1 broken, ")
    file.write_text(SOURCES["task"])
    assert called(str(file), "--json", "--sheet", str(tmp_path / "sheet.png")) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["broken"], told["plugins"][0]["kept"]) == (0, told["kept"])
    assert {"promise", "state", "detail", "seconds"} == set(told["plugins"][0]["promises"][0])
    assert (tmp_path / "sheet.png").is_file()


def test_wrong_calls_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(SOURCES["enhancer"])
    for arguments, word in (
        (("no-such",), "no-such"),
        ((str(tmp_path / "none.py"),), "does not exist"),
        ((str(tmp_path / "mine.py"), "--kind", "task"), "offers no task"),
        ((str(tmp_path / "mine.py"), "--sheet", str(tmp_path / "a.png")), "makes no practice images"),
        ((str(tmp_path / "mine.py"), "--set", "nonsense"), "--set"),
    ):
        assert called(*arguments) == 2, arguments
        assert word in capsys.readouterr().err


def test_the_page_lists_every_promise() -> None:
    for promise in {one.name: one for kind in KINDS for one in promises(kind)}.values():
        kinds = "all" if len(promise.kinds) == len(KINDS) else ", ".join(promise.kinds)
        assert f"| {promise.name} | {kinds} | {promise.about.replace('``', '`')} |" in PAGE
