"""The commands of docs/training.md, run one after the other on a small folder with a small network. Those that start several processes
are run by test_distributed.py."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from support.training import TINY

from focus_framework import cli as frame
from focus_framework.config.layers import known_settings
from focus_framework.files.images import write_image

PAGE = Path(__file__).parents[1] / "docs" / "training.md"


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.startswith("focus ")]


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for index in range(10):
        write_image(tmp_path / f"my-folder/images/{index}.png", random.integers(0, 255, (80, 80, 3), dtype=np.uint8))
        write_image(tmp_path / f"my-folder/masks/{index}.png", (np.indices((80, 80))[0] > 40).astype(np.uint8) * 255)
    small = [word for name, value in TINY.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    found = commands()
    assert len(found) == 3
    for words in found:
        with pytest.raises(SystemExit) as ended:
            frame.main([*words[1:], *([] if "--resume" in words else small)])
        assert ended.value.code == 0, (words, capsys.readouterr().err)
    left = {path.name for path in (tmp_path / "runs/mine").iterdir()}
    assert {"report.html", "best.safetensors", "metrics.jsonl", "training-state"} <= left


def test_the_settings_that_it_names_exist() -> None:
    named = set(re.findall(r"\b((?:training|data|backbone)\.[a-z_]+)(?==|` )", PAGE.read_text("utf-8")))
    assert len(named) > 8
    assert named <= set(known_settings())
