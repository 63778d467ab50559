"""A package to start a plugin from: ``focus plugins new`` writes it, and it works as it is."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template

from ..errors import ConfigError
from ..files.atomic import replacing
from .registry import Kind, registry

TRAIN: dict[Kind, str] = {
    "task": "focus train --task-plugin {name} --steps 10",
    "backbone": "focus train --task-plugin shadow --backbone {name} --backbone-weights none --steps 10",
    "enhancer": "focus train --task-plugin shadow --enhancer {name} --steps 10",
    "refiner": "focus train --task-plugin shadow --refiner {name} --steps 10",
    "conditioner": "focus train --task-plugin shadow,salient --conditioner {name} --steps 10",
}
"""How each kind of plugin is tried."""
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
"""What is a name for a plugin and, with something before it, for a distribution."""
LONGEST = 60


def source(kind: Kind, name: str) -> str:
    """The plugin's one file."""
    return _filled(f"{kind}.py", name=name)


def write_package(kind: Kind, name: str, folder: Path | None = None) -> list[Path]:
    """Write a package with a plugin of this kind and name, by default to ``focus-KIND-NAME`` here; returns its files.

    Raises `ConfigError` for a name that is none or is taken, and for a folder that is not empty.
    """
    distribution = f"focus-{kind}-{name}".lower().replace(".", "-").replace("_", "-")
    module = distribution.replace("-", "_")
    _check_name(kind, name)
    root = folder or Path(distribution)
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise ConfigError(f"{root} is there already, and is no empty folder; give another one with --out")
    words = {"kind": kind, "name": name, "distribution": distribution, "module": module, "train": TRAIN[kind].format(name=name)}
    files = {
        "pyproject.toml": _filled("pyproject.toml", **words),
        f"{module}.py": source(kind, name),
        f"tests/test_{module}.py": _filled("test.py", **words),
        "README.md": _filled("README.md", **words),
    }
    for path, text in files.items():
        with replacing(root / path) as beside:
            beside.write_text(text, encoding="utf-8")
    return [root / path for path in files]


def _check_name(kind: Kind, name: str) -> None:
    if not NAME.fullmatch(name) or name == "none" or len(name) > LONGEST:
        raise ConfigError(
            f"{name!r:.80} is no name for a {kind}; use at most {LONGEST} letters, digits, '-', '_' and '.', and not the word none"
        )
    taken = next((entry for entry in registry().of_kind(kind) if entry.name == name), None)
    if taken:
        raise ConfigError(f"there is a {kind} {name!r} already, from distribution {taken.distribution}; choose another name")


def _filled(template: str, **words: str) -> str:
    text = (resources.files("focus_framework.plugin") / "templates" / f"{template}.txt").read_text("utf-8")
    return Template(text).substitute(words)
