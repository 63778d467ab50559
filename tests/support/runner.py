"""The runner without torch as its distribution has it: its own modules and those that it shares with the framework."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def shared() -> list[str]:
    """The list in the runner's setup.py."""
    tree = ast.parse((ROOT / "runtime" / "setup.py").read_text("utf-8"))
    value = next(node.value for node in tree.body if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "SHARED")
    return list(eval(compile(ast.Expression(value), "setup.py", "eval")))


def lay_out(folder: Path) -> None:
    """The package `focus_runtime` in a folder, as its wheel lays it out."""
    package = folder / "focus_runtime"
    shutil.copytree(ROOT / "runtime" / "focus_runtime", package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in shared():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "focus_framework" / name, package / name)
