"""What the pages show runs: Python blocks, and the commands that need neither the network nor minutes.

Trainings are run by the tests of the pages Prompts, Unattended training and Several devices; what fetches or reads published data is not.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from inspect import cleandoc
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import pytest

from focus_framework.checkpoint.description import describe
from focus_framework.checkpoint.format import write_checkpoint
from focus_framework.cli import focus, main
from focus_framework.config.layers import resolve
from focus_framework.files.images import write_image
from focus_framework.model.build import build_network
from focus_framework.plugin.registry import registry

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", *(f"docs/{name}.md" for name in ("quickstart", "train-your-own", "data", "configuration", "metrics", "licences")))
SMALLER = {"500": "3", "256": "64", "120,80": "40,30"}
"""Counts and sizes of generated images, and a place in one."""


def shown(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)


def runs_here(words: list[str]) -> bool:
    """Whether a command is one of those that this test runs."""
    published = {"istd-test", "nc4k", "--data-root", "/data/segmentation"} & set(words)
    trains = words[1] == "train" and not ("--show-config" in words or "--help" in words)
    fetches = (words[1] == "predict" and "--checkpoint" not in words) or words[1:3] == ["checkpoint", "fetch"]
    return not published and not trains and not fetches


def elsewhere(words: list[str]) -> list[str]:
    """The command with another folder to write to, so that no command reads what one before it wrote."""
    return [f"out-{word}" if before == "--out" else word for before, word in pairwise(["", *words])]


COMMANDS = [
    (page, words)
    for page in PAGES
    for block in shown(page, "")
    for words in map(shlex.split, (line for line in block.splitlines() if line.startswith("focus ")))
    if runs_here(words)
]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages name: images, masks, and checkpoints of a tiny network."""
    root = tmp_path_factory.mktemp("reader")
    random = np.random.default_rng(0)
    for path in ("photo.jpg", "a.jpg", "b.jpg", "holiday/sea.png"):
        write_image(root / path, random.integers(0, 255, (64, 80, 3), dtype=np.uint8))
    (root / "benchmarks").mkdir()
    mask = (np.indices((64, 80))[0] > 40).astype(np.uint8) * 255
    folders = ("my-folder/images", "my-test-folder/images", "photos")
    for folder, masks in zip(folders, ("my-folder/masks", "my-test-folder/masks", "cutouts"), strict=True):
        for index in range(3):
            write_image(root / folder / f"{index}.png", random.integers(0, 255, (64, 80, 3), dtype=np.uint8))
            write_image(root / masks / f"{index}.png", np.roll(mask, index, 0))
    for folder in ("truth", "masks", "maps", "f3net", "dss"):
        for index in range(3):
            write_image(root / folder / f"{index}.png", np.roll(mask, index, 0))
    for task, path in (
        ("shadow", "runs/shadow/best"),
        ("salient", "runs/mine/best"),
        ("shadow", "shadow"),
        ("shadow", "runs/a/best"),
        ("shadow", "runs/b/best"),
    ):
        config = resolve(task, file=ROOT / "tests" / "data" / "toy.toml").config
        network, entry = build_network(config), registry().find_task(task)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(root / f"{path}.safetensors", network.state_dict(), describe(config, network, entry, entry.get().pairs()))
    return root


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else value)
def test_commands_run(
    page: str, words: list[str], reader: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reader)
    with pytest.raises(SystemExit) as ended:
        main(elsewhere([SMALLER.get(word, word) for word in words[1:]]))
    assert ended.value.code in (0, None), (page, capsys.readouterr().err)


def commands(group: click.Group, *path: str) -> Iterator[tuple[list[str], click.Command]]:
    for name in group.list_commands(context := click.Context(group)):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield [*path, name], command


HELP = {" ".join(path): command for path, command in commands(focus)}
UNRUN = {
    "export",
    "serve",
    "train",
    "plugins check",
    "checkpoint fetch",
    "checkpoint import",
    "checkpoint push",
    "prompts try",
    "bench",
    "data find",
    "data generate",
}
"""What takes minutes, a connection, or a file that is not made here: the call is read, and the command not run."""


@pytest.mark.parametrize("name", HELP)
def test_the_example_of_a_command_s_help_runs(
    name: str, reader: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reader)
    *_, last = cleandoc(HELP[name].help or "").split("\n\n")
    start, word, *words = shlex.split(last)
    assert [start, word, *words[: len(name.split())]] == ["Example:", "focus", *name.split()]
    if name in UNRUN:
        HELP[name].make_context(name, words[len(name.split()) :])
        return
    with pytest.raises(SystemExit) as ended:
        main([f"help-{word}" if before == "--out" else SMALLER.get(word, word) for before, word in pairwise(["", *words])])
    assert ended.value.code in (0, None), capsys.readouterr().err


def test_there_are_commands_of_many_kinds() -> None:
    assert {" ".join(words[1:2]) for _, words in COMMANDS} >= {"predict", "evaluate", "data", "plugins", "train", "checkpoint"}


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md", "docs/metrics.md"])
def test_python_runs(page: str, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader)
    (block,) = shown(page, "python")
    exec(compile(block, page, "exec"), {})


def test_python_of_the_operator_runs() -> None:
    import torch

    (block,) = shown("docs/deformable-attention.md", "python")
    given = {
        "value": torch.rand(1, 64 * 64 + 32 * 32, 2, 4),
        "locations": torch.rand(1, 3, 2, 2, 4, 2),
        "weights": torch.rand(1, 3, 2, 2, 4),
        "reference_points": torch.rand(1, 3, 2, 2),
        "offsets": torch.rand(1, 3, 2, 2, 4, 2),
        "logits": torch.rand(1, 3, 2, 2, 4),
    }
    exec(compile(block, "docs/deformable-attention.md", "exec"), given)
    assert given["output"].shape == (1, 3, 8)
