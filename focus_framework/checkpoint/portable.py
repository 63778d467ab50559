"""A checkpoint's description for other machines: without the folders of the one that trained, and without the names of its data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from ..plugin.interfaces import Dataset
from ..plugin.registry import registry
from .format import Description

PRACTICE = "practice"
OWN = "own-images"
"""What data are called that have no public name."""
SENTENCES = frozenset({"prompts", "title", "licence"})
"""Parts that are written for people, and hold no paths."""


def portable(description: Description) -> Description:
    """The same in which every absolute path is its last name alone, and data that only their owner knows are called `OWN`."""
    told: Description = _without_folders(description)
    if parent := told.get("parent"):
        told["parent"] = {**parent, "reference": reference_name(str(parent["reference"]))}
    if "data" in told:
        told["data"] = _data_name(str(description["data"]))
    if config := told.get("config"):
        data = dict(config.get("data") or {})
        kept = {key: _data_name(str(description["config"]["data"][key])) for key in ("train", "validation") if data.get(key)}
        told["config"] = {**config, "data": {**data, **kept, "root": ""}}
    return told


def dataset_of(name: str) -> Dataset | None:
    """The published data set of that name, of any task."""
    tasks = [entry.get() for entry in registry().of_kind("task") if entry.description]
    return next((data for task in tasks for data in task.datasets if data.name == name), None)


def is_public(data: str) -> bool:
    """Whether data have a name that others know: a folder's stays at home."""
    return data.startswith("hf://") or dataset_of(data) is not None


def reference_name(reference: str) -> str:
    """A checkpoint's reference; a path in it says nothing to others, and something of its author."""
    return reference if reference.startswith("hf://") or "/" not in reference.replace("\\", "/") else _last(reference)


def _data_name(data: str) -> str:
    return data if data in ("", PRACTICE, OWN) or is_public(data) else OWN


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: inner if key in SENTENCES else _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    return _last(value) if isinstance(value, str) and _is_absolute(value) else value


def _is_absolute(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute() or text.startswith("~/")


def _last(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]
