"""What an exported file says of itself, looked at before any of it is used: files come from anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from .errors import WeightsError

KEY = "focus"
"""Under which the facts, as JSON, stand in the file."""

Right: TypeAlias = Callable[[Any], bool]


def _whole(least: int, most: int) -> Right:
    return lambda value: type(value) is int and least <= value <= most


def _number(least: float, most: float) -> Right:
    return lambda value: type(value) in (int, float) and least <= value <= most  # NaN is in no range


def _list(right: Right, *lengths: int) -> Right:
    return lambda value: isinstance(value, list) and (len(value) in lengths if lengths else bool(value)) and all(map(right, value))


_pixels = _whole(1, 1 << 16)
_size = _list(_pixels, 2)

WANTED: Mapping[str, tuple[Right, str]] = {
    "version": (_whole(1, 1), "1; a newer focus-framework-runtime may read it"),
    "task.name": (lambda value: isinstance(value, str) and bool(value), "a word"),
    "input.image": (lambda value: isinstance(value, str) and value.startswith(("uint8", "float32")), "uint8 or float32 and a shape"),
    "input.size": (lambda value: value is None or _size(value), "null, or height and width in pixels"),
    "input.multiple": (_whole(1, 1024), "a whole number in 1..1024"),
    "preprocessing.size": (_pixels, "a number of pixels"),
    "preprocessing.resize": (lambda value: value in ("square", "short-side"), "square or short-side"),
    "preprocessing.longest": (_pixels, "a number of pixels"),
    "preprocessing.mean": (_list(_number(-1000, 1000), 3), "three numbers"),
    "preprocessing.std": (_list(_number(1e-6, 1000), 3), "three numbers above 0"),
    "prediction.threshold": (_number(0, 1), "a number in 0..1"),
    "prediction.flip": (lambda value: isinstance(value, bool), "true or false"),
    "prediction.scales": (_list(_number(0.25, 4)), "numbers in 0.25..4"),
    "prediction.tile": (lambda value: value == 0 or _whole(64, 1 << 16)(value), "0 or at least 64"),
    "prediction.overlap": (_number(0, 0.75), "a number in 0..0.75"),
}
"""What is used, by the names in docs/export.md, and what it must be."""


def read_facts(path: Path, told: str) -> dict[str, Any]:
    """The facts of a file. Raises `WeightsError`, which names the first that is missing or wrong."""
    try:
        facts = json.loads(told)
    except (ValueError, RecursionError):
        raise WeightsError(f"{path} says nothing of itself that can be read (no JSON under {KEY!r}); export it again") from None
    for name, (right, wanted) in WANTED.items():
        value = facts
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not right(value):
            raise WeightsError(f"{path} says of itself {name} = {value!r:.60}; it must be {wanted}")
    return facts


def check_names(path: Path, takes: list[str], gives: list[str]) -> None:
    """Raise `WeightsError` unless a network takes and gives what exported ones do."""
    if sorted(takes) != ["image", "inner", "size"] or "probability" not in gives:
        raise WeightsError(
            f"{path} takes {', '.join(takes)[:80] or 'nothing'} and gives {', '.join(gives)[:80] or 'nothing'}; "
            "a file of focus export takes image, inner, size and gives probability"
        )
