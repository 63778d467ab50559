"""The plan of the house: who may import whom, what is public, and that every package is shipped."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOREIGN = sorted([*(ROOT / "plugins").rglob("*.py"), *(ROOT / "examples").glob("*/*.py")])


def imported(path: Path) -> list[str]:
    """Modules that a file names in absolute imports."""
    tree = ast.parse(path.read_text("utf-8"))
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return names + [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]


@pytest.mark.parametrize("path", FOREIGN, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_and_examples_import_public_names_and_the_kit_alone(path: Path) -> None:
    for name in imported(path):
        if name.split(".")[0] == "focus_framework":
            assert name in ("focus_framework", "focus_framework.testing") or name.startswith("focus_framework.plugin.kit"), name


def test_every_package_is_listed_for_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "focus_framework").rglob("*.py")}
    assert there == {name for name in listed if not name.startswith("focus_plugins")}


def test_every_room_is_a_layer_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = " ".join(next(contract["layers"] for contract in contracts if contract["type"] == "layers"))
    rooms = {path.name for path in (ROOT / "focus_framework").iterdir() if (path / "__init__.py").is_file()}
    assert {name for name in rooms if f"focus_framework.{name}" not in layers} == set()


def test_importing_the_framework_imports_no_torch() -> None:
    code = "import sys, focus_framework, focus_framework.cli, focus_framework.plugin.kit; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
