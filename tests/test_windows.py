"""What was written on Windows is read as if it had been written here, as far as a machine without Windows can tell."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from focus_framework.config.layers import resolve
from focus_framework.config.prompts import read_pairs
from focus_framework.data.pairs import find_pairs
from focus_framework.files import atomic
from focus_framework.inference.many.listing import Listing
from focus_framework.plugin.registry import registry, split_reference

PROMPTS = {
    "pairs.csv": "foreground,background\na cat,no cat\n",
    "pairs.json": '[{"foreground": "a cat",\n"background": "no cat"}]\n',
    "pairs.toml": '[[prompts.pairs]]\nforeground = "a cat"\nbackground = "no cat"\n',
}
COCO = {
    "images": [{"id": 1, "file_name": r"images\a.png", "width": 8, "height": 8}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 6, 1, 6, 6]]}],
}
LISTS = {
    "list.csv": "image,mask\nimages\\a.png,masks\\a.png\n",
    "list.tsv": "image\tmask\nimages\\a.png\tmasks\\a.png\n",
    "list.jsonl": json.dumps({"image": r"images\a.png", "mask": r"masks\a.png"}) + "\n",
    "list.json": json.dumps(COCO, indent=1),
}
MARKED = [pytest.param(b"", id="plain"), pytest.param(codecs.BOM_UTF8, id="marked")]


def put(path: Path, text: str, mark: bytes) -> Path:
    path.write_bytes(mark + text.replace("\n", "\r\n").encode())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / name / "a.png")
    return tmp_path


@pytest.mark.parametrize("mark", MARKED)
@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(folder: Path, name: str, mark: bytes) -> None:
    [pair] = read_pairs(put(folder / name, PROMPTS[name], mark))
    assert (pair.foreground, pair.background) == ("a cat", "no cat")


@pytest.mark.parametrize("mark", MARKED)
def test_a_configuration(folder: Path, mark: bytes) -> None:
    path = put(folder / "config.toml", '# "\u00fc"\n[training]\nsteps = 7\n', mark)
    assert resolve("shadow", file=path).config.training.steps == 7


@pytest.mark.parametrize("mark", MARKED)
@pytest.mark.parametrize("name", LISTS)
def test_lists_of_pairs_with_backslashes(folder: Path, name: str, mark: bytes) -> None:
    [pair] = find_pairs(str(put(folder / name, LISTS[name], mark)))
    assert (pair.name, pair.image) == ("images/a", folder / "images" / "a.png")
    assert pair.read()[0].shape == (8, 8, 3)


@pytest.mark.parametrize("mark", MARKED)
def test_a_list_of_images(folder: Path, mark: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    found = list(Listing([], lists=[put(folder / "list.txt", "images\\a.png\n\nmasks/a.png\n", mark)]))
    assert [entry.path.as_posix() for entry in found] == ["images/a.png", "masks/a.png"]


def test_a_name_with_a_backslash_is_itself_where_such_a_file_is(folder: Path) -> None:
    (folder / r"images\a.png").write_bytes((folder / "images" / "a.png").read_bytes())
    [pair] = find_pairs(str(put(folder / "list.csv", LISTS["list.csv"], b"")))
    assert pair.image == folder / r"images\a.png"


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("shadow", ("shadow", "")), ("module:task", ("module", "task")), ("m:task", ("m", "task")), ("file.py:a:b", ("file.py", "a:b")),
        (r"C:\plugins\mine.py", (r"C:\plugins\mine.py", "")), ("D:/plugins/mine.py:task", ("D:/plugins/mine.py", "task")), ("", ("", "")),
    ],
)  # fmt: skip
def test_a_drive_is_no_module(reference: str, parts: tuple[str, str]) -> None:
    assert split_reference(reference) == parts


def test_a_plugin_that_begins_with_a_mark(tmp_path: Path) -> None:
    rest = "prompts=Prompts('a cat', 'no cat'), metrics=['mae'], primary_metric='mae'"
    text = f"from focus_framework import Prompts, Task\ntask = Task(name='cat', title='Cat', {rest})\n"
    assert registry().find_task(f"{put(tmp_path / 'cat.py', text, codecs.BOM_UTF8)}:task").name == "cat"


@pytest.mark.parametrize("way", [atomic.replacing, atomic.replacing_alone])
def test_nothing_is_renamed_while_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Any) -> None:
    monkeypatch.setattr(atomic, "fcntl", None)
    usual = Path.replace

    def as_there(self: Path, target: Path) -> Path:
        if any(link.resolve() == self for link in Path("/proc/self/fd").iterdir()):
            raise PermissionError(13, "the process cannot access the file because it is being used by another process", str(self))
        return usual(self, target)

    monkeypatch.setattr(Path, "replace", as_there)
    with way(tmp_path / "a.txt") as beside:
        beside.write_text("all of it")
    assert (tmp_path / "a.txt").read_text() == "all of it"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
