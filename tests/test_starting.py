"""``focus plugins new``: what it writes installs, lists, trains and keeps its promises as it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from focus_framework import ConfigError
from focus_framework.cli import main
from focus_framework.plugin.registry import KINDS
from focus_framework.plugin.starting import source, write_package
from focus_framework.testing import check, subjects

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "plugins.md").read_text("utf-8")
NAMES = {"task": "puddles", "backbone": "Small.2", "enhancer": "steep_er", "refiner": "3d", "conditioner": "shift.er"}
STARTS_TORCH = ("two processes learn the same", "another process gives the same loss")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each kind, by the command."""
    root = tmp_path_factory.mktemp("packages")
    for kind, name in NAMES.items():
        with pytest.raises(SystemExit) as ended:
            main(["plugins", "new", kind, name, "--out", str(root / kind)])
        assert not ended.value.code
    return {kind: root / kind for kind in NAMES}


@pytest.fixture(scope="module")
def installed(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which all of them are installed; the shared one stays as it is."""
    target, sources = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("sources")
    for kind, folder in packages.items():
        shutil.copytree(folder, sources / kind)  # building leaves folders behind
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-build-isolation", "--no-deps"]
    places = [str(sources / kind) for kind in packages]
    subprocess.run([*pip, "--target", str(target), *places], check=True, capture_output=True, timeout=300)
    return os.environ | {"PYTHONPATH": str(target)}


def run(*command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=300, env=environment)


def test_all_are_listed_with_their_distributions(installed: dict[str, str]) -> None:
    listed = json.loads(run("focus_framework", "plugins", "list", "--json", environment=installed).stdout)
    for kind, name in NAMES.items():
        (row,) = [row for row in listed[f"{kind}s"] if row["name"] == name]
        assert row["status"] == "ok", row
        assert row["distribution"] == f"focus-{kind}-{name.lower().replace('.', '-').replace('_', '-')}"


def test_all_four_train_ten_steps_together(installed: dict[str, str], tmp_path: Path) -> None:
    given = ["--task-plugin", NAMES["task"], "--backbone", NAMES["backbone"], "--backbone-weights", "none", "--out", str(tmp_path)]
    given += ["--enhancer", NAMES["enhancer"], "--refiner", NAMES["refiner"], "--steps", "10", "--image-size", "64", "--batch-size", "2"]
    given += ["--set", "data.practice_count=20", "--set", "data.workers=0", "--set", "loss.points=256"]
    done = run("focus_framework", "train", *given, "--json", environment=installed)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 10


@pytest.mark.parametrize("kind", KINDS)
def test_all_keep_their_promises(kind: str, packages: dict[str, Path]) -> None:
    (file,) = packages[kind].glob("*.py")
    (subject,) = subjects(str(file))
    assert [outcome for outcome in check(subject, without=STARTS_TORCH) if outcome.state == "broken"] == []


def test_the_test_that_comes_along_runs(packages: dict[str, Path], installed: dict[str, str]) -> None:
    test = next((packages["task"] / "tests").glob("*.py"))
    done = run("pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(packages["task"]), str(test), environment=installed)
    assert done.returncode == 0, done.stdout
    assert "12 passed, 2 skipped" in done.stdout


@pytest.mark.parametrize("name", ["", "a b", "none", "-a", "a-", "../x", "ä", "x" * 61, "a/b"])
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no name for a task"):
        write_package("task", name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is a backbone 'vit' already, from distribution focus-framework"):
        write_package("backbone", "vit", tmp_path / "out")


def test_nothing_is_written_where_something_is(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for place in (tmp_path, tmp_path / "mine"):
        with pytest.raises(ConfigError, match="is there already"):
            write_package("task", "puddles", place)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(("kind", "name"), [("backbone", "small"), ("enhancer", "gradient"), ("refiner", "contrast")])
def test_the_page_shows_what_is_written(kind: str, name: str) -> None:
    (shown,) = re.findall(rf"<!-- plugin: {kind} -->\n```python\n(.*?)```\n", PAGE, re.DOTALL)
    assert shown == source(kind, name)  # type: ignore[arg-type]
