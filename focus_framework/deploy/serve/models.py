"""The models of a service: each loaded once, called by a name, with a card that says what it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...checkpoint.card import facts
from ...checkpoint.known import place_of, row_of
from ...errors import WeightsError
from ...inference.model import Model, load
from ...plugin.checkpoints import KnownCheckpoint, known_checkpoints
from ...plugin.interfaces import resolve
from ...plugin.registry import registry
from .refusals import RefusedError

ORDINARY = ("best", "checkpoint", "model", "last")
"""What so many checkpoints are called that their folder says more."""

EXAMPLE_SEED, EXAMPLE_SIDE = 4243, 384
"""Of practice images that no run draws for training."""


@dataclass(frozen=True)
class Served:
    """A model that is loaded, and what is told of it."""

    name: str
    model: Model
    card: dict[str, Any]


def installed() -> list[str]:
    """The names of known checkpoints that are here already, the first one of each task. Raises `WeightsError` where there is none."""
    first: dict[str, str] = {}
    for known in known_checkpoints():
        if place_of(known.checkpoint).ready:
            first.setdefault(known.task, known.checkpoint.name)
    if not first:
        raise WeightsError("no checkpoint is installed; give one: focus serve FILE, or run: pip install focus-framework-starter")
    return list(first.values())


def names_of(references: Sequence[str]) -> list[str]:
    """What to call them: a known name as it is, a file after itself or its folder, numbered where two are alike."""
    names: list[str] = []
    for reference in references:
        path = PurePath(reference.partition("@")[0] if reference.startswith("hf://") else reference)
        stem = path.stem if path.suffix in (".safetensors", ".pth") else path.name
        if stem in ORDINARY and path.parent.name not in ("", ".", ".."):
            stem = path.parent.name
        plain = re.sub(r"[^\w.-]+", "-", stem, flags=re.ASCII).strip("-.") or "model"
        name, number = plain, 1
        while name in names:
            number += 1
            name = f"{plain}-{number}"
        names.append(name)
    return names


def load_all(
    references: Sequence[str], *, device: str, prediction: dict[str, Any], told: Callable[[str], None] = lambda text: None
) -> list[Served]:
    """Load each once; of several tasks each is served by itself, as NAME-TASK, with the weights of all. Raises as `load`."""
    known = {row.checkpoint.name: row for row in known_checkpoints()}
    served = []
    for name, reference in zip(names_of(references), references, strict=True):
        model = load(reference, device=device, **prediction)
        for task in model.tasks:
            own, called = model.for_task(task), name if len(model.tasks) == 1 else f"{name}-{task}"
            told(f"model {called}: task {task}, {reference}, on {model.device}")
            served.append(Served(called, own, card(called, own, known.get(reference))))
    return served


def card(name: str, model: Model, known: KnownCheckpoint | None = None) -> dict[str, Any]:
    """What people should know of a model before they believe it."""
    description = model.description
    return {
        "name": name,
        "task": model.task,
        "title": description["task"]["title"],
        "prompts": description["prompts"],
        "threshold": model.config.prediction.threshold,
        "facts": facts(description),
        "primary_metric": description["task"]["primary_metric"],
        "scores": {part: description[part] for part in ("validation", "test") if description.get(part)},
        "baselines": description.get("baselines") or {},
        "known": _known(known) if known else None,
        "example": _practice(model.task) is not None,
    }


def practice_image(served: Served, number: int) -> NDArray[np.uint8]:
    """The image `[H, W, 3]` of that number that its task draws. Raises `RefusedError` where it draws none."""
    practice = _practice(served.model.task)
    if practice is None:
        raise RefusedError(404, f"the task of {served.name} draws no images for practice")
    image, _ = resolve(practice)(np.random.default_rng((EXAMPLE_SEED, number)), EXAMPLE_SIDE)
    return image


def _practice(task: str) -> Any:
    entry = next((entry for entry in registry().of_kind("task") if entry.name == task and entry.description), None)
    return entry.get().practice if entry else None


def _known(known: KnownCheckpoint) -> dict[str, Any]:
    """What is known of a checkpoint beside its file."""
    row = row_of(known)
    return {key: row[key] for key in ("title", "licence", "figures", "distribution", "reference") if not _local(key, row[key])}


def _local(key: str, value: object) -> bool:
    return key == "reference" and not str(value).startswith("hf://")


def find(models: Iterable[Served], name: str) -> Served | None:
    """The model of that name; without a name the first."""
    return next((served for served in models if not name or served.name == name), None)
