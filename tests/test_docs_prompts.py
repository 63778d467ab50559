"""The page docs/prompts.md: its commands run, with random weights and a small model; its files are what it says they are."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from focus_framework.cli import main
from focus_framework.config.layers import resolve
from focus_framework.config.prompts import read_pairs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "prompts.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMAND_LINES = [line for language, block in BLOCKS if not language for line in block.splitlines() if line.startswith("focus ")]
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", PAGE, re.DOTALL))


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder as the page has it; the value is the small model that stands in for CLIP."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "examples" / folder).mkdir(parents=True)
    for i in range(4):
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(f"examples/images/{i}.png")
        Image.fromarray(np.repeat(np.arange(32) > 9, 32).reshape(32, 32)).save(f"examples/masks/{i}.png")
    for name, text in FILES.items():
        if not name.startswith("examples/"):
            Path(name).write_text(text)
    vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    (tmp_path / "clip").mkdir()
    config = {"model_cfg": {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}}
    (tmp_path / "clip" / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{tmp_path / 'clip'}"


@pytest.mark.parametrize("line", [line for line in COMMAND_LINES if "siglip" not in line])  # that one needs SigLIP's weights
def test_commands_of_the_page_run(line: str, reader: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, *arguments = shlex.split(line)
    if "--clip-weights" in arguments:
        arguments[arguments.index("--clip-weights") + 1] = "random"
        arguments += ["--clip-model", reader]
    if arguments[0] == "train":
        arguments += ["--data", "examples", "--image-size", "64", "--batch-size", "2"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0, capsys.readouterr().err


def test_the_page_has_commands_of_each_kind() -> None:
    assert {" ".join(line.split()[1:3]) for line in COMMAND_LINES} >= {"prompts show", "prompts try"}
    assert len(COMMAND_LINES) >= 6


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("examples/")])
def test_the_page_shows_the_example_as_it_is(name: str) -> None:
    assert FILES[name] == (ROOT / name).read_text("utf-8")


def test_files_of_the_page_are_read(reader: str) -> None:
    assert len(read_pairs(Path("pairs.csv"))) == 2
    prompts = resolve("shadow", file=Path("prompts.toml")).config.prompts
    assert len(prompts.pairs) == 2 and prompts.templates == ["{}", "a photograph: {}"]


def test_options_of_the_page_reach_the_refiner_named_beside_them() -> None:
    assignments = re.findall(r"`--set (\S+)`", PAGE)
    assert len(assignments) >= 5
    for preset in ("quick", "paper-large"):
        config = resolve("shadow", preset=preset, assignments=assignments, options={"refiner.name": "somebodys"}).config
        assert config.refiner.options == {"fill": "mean", "temperature": 0.07, "precision": "auto", "checkpointing": True}


def test_options_written_for_another_refiner_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('[refiner]\nname = "clip"\noptions = {fill = "blur"}\n')
    same = resolve("shadow", file=tmp_path / "run.toml", options={"refiner.name": "clip"})
    other = resolve("shadow", file=tmp_path / "run.toml", options={"refiner.name": "somebodys"})
    assert same.config.refiner.options == {"fill": "blur"}
    assert other.config.refiner.options == {} and "refiner.options.fill" not in other.sources
