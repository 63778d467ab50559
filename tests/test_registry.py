"""The registry, shown on distributions made on the spot: real ``.dist-info`` folders on the path, good ones and broken ones."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from focus_framework import PluginError, Prompts, Task
from focus_framework.plugin import hookspecs
from focus_framework.plugin.registry import Entry, Registry

GOOD = """
from focus_framework import Prompts, Task, hookimpl

@hookimpl
def focus_tasks():
    yield Task(
        name="{name}",
        title="Something",
        prompts=Prompts("a photograph of something", "a photograph of nothing"),
        metrics=("mae", "iou"),
        primary_metric="iou",
    )
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with one entry point on the path: ``install("dist-name", "entry", module="m", source="...")``."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(distribution: str, entry: str, *, module: str, source: str | None, version: str = "1.0") -> None:
        folder = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (folder / "entry_points.txt").write_text(f"[focus_framework]\n{entry} = {module}\n")
        if source is not None:
            (tmp_path / f"{module.split(':')[0]}.py").write_text(source)

    yield put  # type: ignore[misc]
    for name in [name for name in sys.modules if name.startswith("third_party_")]:
        del sys.modules[name]


def load() -> Registry:
    registry = Registry()
    registry.load()
    return registry


def entry(registry: Registry, distribution: str) -> Entry:
    (found,) = [entry for entry in registry.entries if entry.distribution == distribution]
    return found


def test_a_good_distribution_is_listed_with_its_origin(install: Install) -> None:
    install("focus-task-good", "good", module="third_party_good", source=GOOD.format(name="good"), version="2.3")
    registry = load()
    assert entry(registry, "focus-task-good").as_json() == {
        "name": "good",
        "title": "Something",
        "distribution": "focus-task-good",
        "version": "2.3",
        "status": "ok",
        "error": None,
    }
    task = registry.get("task", "good")
    assert isinstance(task, Task)
    assert task.pairs() == (Prompts("a photograph of something", "a photograph of nothing"),)


BROKEN = {
    "fails at import": ("raise RuntimeError('no licence\\nfound')", "RuntimeError: no licence found"),
    "exits at import": ("import sys; sys.exit('needs a GPU')", "SystemExit: needs a GPU"),
    "syntax error": ("def focus_tasks(:", "SyntaxError"),
    "module does not exist": (None, "No module named 'third_party_bad'"),
    "no hook": ("x = 1", "no function marked @hookimpl; a plugin has one of focus_tasks"),
    "misspelt hook": (
        GOOD.format(name="bad").replace("focus_tasks", "focus_task"),
        "there is no hook 'focus_task'; did you mean focus_tasks",
    ),
    "hook raises": (
        "from focus_framework import hookimpl\n@hookimpl\ndef focus_tasks():\n    yield 1 / 0",
        "ZeroDivisionError: division by zero",
    ),
    "hook returns nothing": ("from focus_framework import hookimpl\n@hookimpl\ndef focus_tasks(): pass", "returned None"),
    "hook wants an argument": ("from focus_framework import hookimpl\n@hookimpl\ndef focus_tasks(config): pass", "config"),
    "wrong kind": (
        "from focus_framework import hookimpl\n@hookimpl\ndef focus_tasks():\n    yield {'name': 'bad'}",
        "focus_tasks() must yield Task(...) descriptions, it gave dict",
    ),
    "name is no text": (GOOD.format(name="bad").replace('"bad"', "7"), "7 is no name for a task"),
    "name that a path could be": (GOOD.format(name="a:b"), "'a:b' is no name for a task"),
    "name that means no plugin": (GOOD.format(name="none"), "'none' is no name for a task"),
    "unknown metric": (GOOD.format(name="bad").replace('"mae"', '"psnr"'), "unknown metric 'psnr'; known: s_measure"),
    "empty prompt": (GOOD.format(name="bad").replace("a photograph of nothing", " "), "the background prompt is empty"),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason_and_stops_nobody(install: Install, source: str | None, reason: str) -> None:
    install("focus-task-bad", "bad", module="third_party_bad", source=source)
    install("focus-task-good", "good", module="third_party_good", source=GOOD.format(name="good"))
    registry = load()
    broken = entry(registry, "focus-task-bad")
    assert broken.as_json()["status"] == "broken"
    assert reason in broken.error
    assert "\n" not in broken.error
    with pytest.raises(PluginError) as caught:
        registry.get("task", broken.name)
    assert reason in str(caught.value)
    assert "focus-task-bad" in str(caught.value)
    assert registry.get("task", "good").name == "good"
    assert registry.get("task", "shadow").name == "shadow"


def test_a_module_that_fails_is_listed_under_the_kinds_that_its_source_names(install: Install) -> None:
    source = "raise RuntimeError('x')\ndef focus_enhancers(): ...\ndef focus_refiners(): ..."
    install("focus-two", "two", module="third_party_two", source=source)
    found = {entry.kind for entry in load().entries if entry.distribution == "focus-two"}
    assert found == {"enhancer", "refiner"}


def test_a_misspelt_hook_is_listed_under_the_kind_it_means(install: Install) -> None:
    source = "from focus_framework import hookimpl\n@hookimpl\ndef focus_refiner(): return []"
    install("focus-refiner-odd", "odd", module="third_party_odd", source=source)
    assert entry(load(), "focus-refiner-odd").kind == "refiner"


def test_a_clash_names_both_distributions_and_the_first_stays_in_use(install: Install) -> None:
    install("zz-late", "mine", module="third_party_late", source=GOOD.format(name="contested"))
    install("aa-early", "mine", module="third_party_early", source=GOOD.format(name="contested"))
    registry = load()
    assert registry.find("task", "contested").distribution == "aa-early"
    loser = entry(registry, "zz-late")
    assert loser.description is None
    assert "aa-early" in loser.error
    assert "zz-late" in loser.error


def test_a_name_of_the_framework_cannot_be_taken_over(install: Install) -> None:
    install("aaa-first-in-the-alphabet", "shadow", module="third_party_shadow", source=GOOD.format(name="shadow"))
    registry = load()
    assert registry.find("task", "shadow").distribution == "focus-framework"
    assert "focus-framework" in entry(registry, "aaa-first-in-the-alphabet").error


def test_of_a_distribution_found_twice_the_first_on_the_path_counts(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("focus-task-twice", "old", module="third_party_old", source=GOOD.format(name="old"), version="1.0")
    newer = tmp_path / "newer"
    folder = newer / "focus_task_twice-2.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: Focus_Task-twice\nVersion: 2.0\n")
    (folder / "entry_points.txt").write_text("[focus_framework]\nnew = third_party_new\n")
    (newer / "third_party_new.py").write_text(GOOD.format(name="new"))
    monkeypatch.syspath_prepend(newer)
    versions = [e.version for e in load().entries if e.distribution.lower().replace("_", "-") == "focus-task-twice"]
    assert versions == ["2.0"]


def test_unreadable_metadata_stops_nobody(install: Install, tmp_path: Path) -> None:
    (tmp_path / "half_removed-1.0.dist-info").mkdir()  # what an interrupted uninstallation leaves
    install("focus-task-odd", "odd", module="third_party_odd", source=None)
    (tmp_path / "focus_task_odd-1.0.dist-info" / "entry_points.txt").write_text("[focus_framework]\nno equals sign here\n")
    assert load().get("task", "shadow").name == "shadow"


def test_an_unknown_name_answers_with_the_nearest() -> None:
    with pytest.raises(PluginError, match="there is no task 'shadwo'; did you mean shadow"):
        load().get("task", "shadwo")


def test_a_family_of_backbones_that_cannot_answer_does_not_stop_the_others(install: Install) -> None:
    source = """
from focus_framework import Backbone, hookimpl

def claims(name):
    if name == "mine_large":
        return True
    raise ValueError("cannot say")

@hookimpl
def focus_backbones():
    return [
        Backbone(name="unsure", title="Unsure", build="nowhere:build", claims="nowhere:claims"),
        Backbone(name="mine", title="Mine", build="nowhere:build", claims=claims),
    ]
"""
    install("aaa-family", "family", module="third_party_family", source=source)
    registry = load()
    assert registry.get("backbone", "mine_large").name == "mine"
    with pytest.raises(PluginError, match="there is no backbone 'no such thing'"):
        registry.get("backbone", "no such thing")


def test_a_task_from_a_file_a_module_and_an_attribute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "third_party_file.py"
    file.write_text(GOOD.format(name="filed") + "\nspare = list(focus_tasks())[0]\nnumber = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = load()
    for reference in (str(file), f"{file}:spare", "third_party_file:spare", "third_party_file:focus_tasks"):
        found = registry.find_task(reference)
        assert found.get().name == "filed"
        assert found.origin == reference
    with pytest.raises(PluginError, match="no attribute 'spore'; did you mean spare"):
        registry.find_task(f"{file}:spore")
    with pytest.raises(PluginError, match="gives int, one Task is needed"):
        registry.find_task(f"{file}:number")
    with pytest.raises(PluginError, match=r"cannot import 'third_party_nowhere'.*PYTHONPATH"):
        registry.find_task("third_party_nowhere:task")
    (tmp_path / "third_party_typo.py").write_text("task = (")
    with pytest.raises(PluginError, match="cannot import 'third_party_typo' of task plugin 'third_party_typo:task': SyntaxError"):
        registry.find_task("third_party_typo:task")


def test_a_reference_finds_the_task_again_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(GOOD.format(name="filed") + "\nspare = list(focus_tasks())[0]\n")
    monkeypatch.chdir(tmp_path)
    registry = load()
    references = [registry.find_task(given).reference for given in ("mine.py", "mine.py:spare", "shadow")]
    assert references == [str(tmp_path / "mine.py"), f"{tmp_path / 'mine.py'}:spare", "shadow"]
    monkeypatch.chdir("/")
    assert [registry.find_task(reference).get().name for reference in references] == ["filed", "filed", "shadow"]


def test_a_file_may_name_its_task_as_an_installed_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(GOOD.format(name="shadow"))
    assert load().find_task(str(file)).get().title == "Something"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "does not exist"),
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1", "no function marked @hookimpl"),
        (GOOD.format(name="a") + GOOD.format(name="b").replace("focus_tasks", "more").replace("@hookimpl", ""), None),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, source: str | None, reason: str | None) -> None:
    file = tmp_path / "mine.py"
    if source is not None:
        file.write_text(source)
    if reason is None:
        assert load().find_task(str(file)).get().name == "a"
        return
    with pytest.raises(PluginError) as caught:
        load().find_task(str(file))
    assert "mine.py" in str(caught.value)
    assert reason in str(caught.value)


def test_the_kinds_and_the_hooks_are_the_same_five() -> None:
    specified = {name for name in vars(hookspecs) if name.startswith("focus_")}
    assert specified == {"focus_tasks", "focus_backbones", "focus_enhancers", "focus_refiners", "focus_conditioners"}


HEAVY = ("torch", "timm", "kornia", "open_clip", "cv2", "matplotlib", "scipy", "pydantic")


def test_listing_imports_nothing_heavy() -> None:
    """In a fresh interpreter, since this one has them already."""
    script = (
        "import sys, json\n"
        "from focus_framework.plugin.registry import registry\n"
        "names = [entry.name for entry in registry().of_kind('task') if entry.description]\n"
        f"print(json.dumps([names, [name for name in {HEAVY!r} if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    names, heavy = json.loads(done.stdout)
    assert {"salient", "camouflage", "shadow", "defocus", "forgery"} <= set(names)
    assert heavy == []
