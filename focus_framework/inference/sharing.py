"""A model to the hub: one commit of its weights, its card and four images to look at."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint.card import CARD_NAME, IMAGES_NAME, WEIGHTS_NAME, card
from ..checkpoint.format import Description, read_checkpoint, read_description, write_checkpoint
from ..checkpoint.hub import PREFIX, parse, patiently, reason
from ..checkpoint.importing import is_released
from ..checkpoint.portable import portable
from ..errors import ConfigError, FocusError, WeightsError
from ..files.images import write_image
from ..files.sheets import contact_sheet
from ..plugin.interfaces import resolve
from ..plugin.registry import registry

if TYPE_CHECKING:
    from torch import Tensor

    from .model import Model

SAMPLES = 4
PRACTICE_SEED = 4242  # of images that no run draws for training
SILENCE = 20.0
"""Seconds that the hub may take to answer one request of a push, which the client tries some six times."""


def push_file(path: str | Path, repository: str, *, private: bool = False, images: bool = True) -> str:
    """Share one of our checkpoints as ``owner/name`` and return its page. Raises `WeightsError` and `ConfigError`."""
    from .model import load

    path = Path(path)
    if is_released(path):
        raise WeightsError(
            f"{path} is one of the authors' released files, which are on the hub already; only checkpoints of ours are pushed"
        )
    read_description(path)  # what is no checkpoint is told before the name of the repository
    checked = _checked(repository)
    with tempfile.TemporaryDirectory() as folder:
        model = load(path)  # refuses weights that are damaged
        sheet = _sheet(model, Path(folder)) if images else None
        description, state = read_checkpoint(path)
        return _commit(state, description, checked, Path(folder), sheet, private=private)


def push_model(model: Model, repository: str, *, private: bool = False, images: bool = True) -> str:
    """As `push_file`, of a loaded model with the settings that it has."""
    if not model.description:
        raise ConfigError("this model was not loaded from a checkpoint and knows nothing of its training; push a checkpoint's file")
    checked = _checked(repository)
    with tempfile.TemporaryDirectory() as folder:
        sheet = _sheet(model, Path(folder)) if images else None
        description = {**model.description, "config": model.config.model_dump(mode="json")}
        return _commit(model.network.state_dict(), description, checked, Path(folder), sheet, private=private)


def _checked(repository: str) -> str:
    name, revision = parse(repository if repository.startswith(PREFIX) else PREFIX + repository)
    if revision != "main":
        raise ConfigError(f"{repository}: what is pushed goes to the main revision; write owner/name")
    return name


def _commit(
    state: Mapping[str, Tensor], description: Description, repository: str, folder: Path, sheet: Path | None, *, private: bool
) -> str:
    """All files or none. The weights are written to `folder` first, whole where they share a file with others, and with a description
    that tells nothing of this machine."""
    from huggingface_hub import CommitOperationAdd, HfApi

    told = portable(description)
    write_checkpoint(folder / WEIGHTS_NAME, state, told)
    operations = [
        CommitOperationAdd(WEIGHTS_NAME, str(folder / WEIGHTS_NAME)),
        CommitOperationAdd(CARD_NAME, card(told, repository, images=sheet is not None).encode()),
        *([CommitOperationAdd(IMAGES_NAME, str(sheet))] if sheet else []),
    ]
    hub = HfApi()
    try:
        with patiently(), _bounded(), _bar_on_a_terminal():
            hub.create_repo(repository, private=private, exist_ok=True)
            hub.create_commit(repository, operations, commit_message=f"Add a model of the task {description['task']['name']}")
    except FocusError:
        raise
    except Exception as error:  # the hub's client has errors of its own, its HTTP library others
        raise WeightsError(f"{repository} cannot be pushed ({reason(error)}); none of its files is there") from error
    return f"{hub.endpoint}/{repository}"


@contextmanager
def _bounded() -> Iterator[None]:
    """The client waits for ever for the answer to what it sends; within it, for `SILENCE` a try. Before version 1.0 it cannot be told."""
    from huggingface_hub import get_session

    session: Any = get_session()
    before = getattr(session, "timeout", None)
    session.timeout = SILENCE
    try:
        yield
    finally:
        session.timeout = before


@contextmanager
def _bar_on_a_terminal() -> Iterator[None]:
    """The client's progress bar where somebody watches it, and a line of its own for what is said after one that broke off."""
    from huggingface_hub import utils

    bars: Any = utils  # which leaves these three out of its declared names
    shown = sys.stderr.isatty()
    muted = not shown and not bars.are_progress_bars_disabled()
    if muted:
        bars.disable_progress_bars()
    try:
        yield
    except Exception:
        if shown:
            sys.stderr.write("\n")
        raise
    finally:
        if muted:
            bars.enable_progress_bars()


def _sheet(model: Model, folder: Path) -> Path | None:
    """Practice images of the task, their truth and what the model makes of them; None where the task draws none. Nobody's photographs
    leave the house."""
    entry = next((entry for entry in registry().of_kind("task") if entry.name == model.task and entry.description), None)
    practice: Any = entry.get().practice if entry else None
    if practice is None:
        return None
    draw = resolve(practice)
    drawn = [draw(np.random.default_rng((PRACTICE_SEED, number)), 192) for number in range(SAMPLES)]
    found = model.predict([image for image, _ in drawn])
    rows = [
        [image, mask.astype(np.uint8) * 255, np.rint(result.probability * 255).astype(np.uint8)]
        for (image, mask), result in zip(drawn, found, strict=True)
    ]
    path = folder / IMAGES_NAME
    write_image(path, contact_sheet(rows, ("image", "truth", "prediction"), cell=192))
    return path
