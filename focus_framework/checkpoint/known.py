"""Checkpoints that have a name: those that task plugins list, and those that a distribution of its own brings."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..errors import WeightsError, did_you_mean
from ..files.reading import problem
from ..plugin.checkpoints import KnownCheckpoint, checkpoints_of, known_checkpoints
from ..plugin.interfaces import Checkpoint
from ..plugin.registry import Entry, registry
from .download import OnBytes, in_words, sha256_of
from .format import read_description, write_checkpoint
from .home import home, writing_home
from .hub import PREFIX, UnreachableError, fetch, fetched, page, parse

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a known checkpoint is, if it is here."""

    path: Path | None
    """A file that `focus.load` opens, or one that is still to be imported."""
    ready: bool
    """Whether nothing has to be fetched or imported."""


def find_known(name: str, known: Iterable[KnownCheckpoint] | None = None) -> KnownCheckpoint:
    """The checkpoint of that name, or the first one of the task of that name. Raises `WeightsError` with the nearest names."""
    rows = list(known_checkpoints() if known is None else known)
    found = next((row for row in rows if row.checkpoint.name == name), None) or next((row for row in rows if row.task == name), None)
    if found is None:
        if task := next((entry for entry in registry().of_kind("task") if entry.name == name), None):
            return first_of(task)
        names = {row.checkpoint.name for row in rows} | {row.task for row in rows}
        raise WeightsError(
            f"{name} is neither a file nor a known checkpoint; {did_you_mean(name, names)} (focus checkpoint list shows all)"
        )
    return found


def first_of(task: Entry) -> KnownCheckpoint:
    """The checkpoint that a task takes where none is given. Raises `WeightsError` where it knows none."""
    rows = checkpoints_of(task)
    if not rows:
        raise WeightsError(f"no checkpoint of task {task.name} is known; give one: --checkpoint FILE, or train one with focus train")
    return rows[0]


def place_of(checkpoint: Checkpoint) -> Place:
    """Where it is; nobody is asked and nothing is fetched."""
    if not checkpoint.reference.startswith(PREFIX):
        path = None if problem(checkpoint.reference) else Path(checkpoint.reference)
        return Place(path, path is not None)
    imported = _imported(checkpoint)
    if imported.is_file():
        return Place(imported, True)
    put_there = home() / f"{checkpoint.name}.pth"
    return Place(put_there if put_there.is_file() else fetched(checkpoint.reference), False)


def obtain(known: KnownCheckpoint, on_bytes: OnBytes | None = None) -> Path:
    """The file of a known checkpoint as one of ours: fetched, verified and imported once. Raises `WeightsError`; a file of another
    SHA-256 than the known one is refused."""
    checkpoint = known.checkpoint
    place = place_of(checkpoint)
    if place.ready and place.path:
        _verify(place.path, checkpoint)
        return place.path
    if not checkpoint.reference.startswith(PREFIX):
        raise WeightsError(
            f"{checkpoint.name}: its file {checkpoint.reference} is missing from distribution {known.distribution}; install that again"
        )
    with writing_home(checkpoint.name):
        home().mkdir(parents=True, exist_ok=True)
        with FileLock(home() / f".{checkpoint.name}.lock"):
            place = place_of(checkpoint)  # another process may have been quicker
            raw = place.path or _fetch(known, on_bytes)
            _verify(raw, checkpoint)
            return raw if place.ready else _import(raw, known)


def row_of(known: KnownCheckpoint) -> dict[str, Any]:
    """What ``focus checkpoint list --json`` prints of one."""
    checkpoint, place = known.checkpoint, place_of(known.checkpoint)
    return {
        "name": checkpoint.name,
        "task": known.task,
        "title": checkpoint.title,
        "reference": checkpoint.reference,
        "bytes": checkpoint.size or None,
        "sha256": checkpoint.sha256 or None,
        "licence": {"code": checkpoint.licence, "weights": checkpoint.weights_licence, "data": checkpoint.data_licence},
        "figures": [{"data": f.data, "protocol": f.protocol, "source": f.source, "metrics": dict(f.metrics)} for f in checkpoint.figures],
        "distribution": known.distribution,
        "file": str(place.path) if place.path else None,
        "ready": place.ready,
    }


def size_in_words(checkpoint: Checkpoint) -> str:
    """Its size as people say it."""
    return in_words(checkpoint.size) if checkpoint.size else "of a size that is not stated"


def _fetch(known: KnownCheckpoint, on_bytes: OnBytes | None) -> Path:
    checkpoint = known.checkpoint
    logger.warning("fetching %s, %s, from %s", checkpoint.name, size_in_words(checkpoint), checkpoint.reference)
    try:
        return fetch(checkpoint.reference, on_bytes)
    except UnreachableError as error:
        repository, revision = parse(checkpoint.reference)
        hint = (
            f"On a machine with a connection, fetch the one .pth or .safetensors file of {page(repository, revision)} and put it into "
            f"{home()} as {checkpoint.name}.pth or {checkpoint.name}.safetensors"
        )
        raise UnreachableError(checkpoint.name, error.why, hint) from error


def _import(raw: Path, known: KnownCheckpoint) -> Path:
    """A released file as one of ours, once; one of ours stays as it is. What was fetched only for that is removed."""
    from .importing import is_released, read_release  # imports torch

    checkpoint = known.checkpoint
    if not is_released(raw):
        read_description(raw)
        return raw
    target = _imported(checkpoint)
    released = read_release(raw, task=known.task, name=checkpoint.reference)
    known_as: dict[str, Any] = {"name": checkpoint.name, "reference": checkpoint.reference, "sha256": sha256_of(raw)}
    write_checkpoint(target, released.state, {**released.description, "known": known_as})
    del released  # the file is mapped
    if (home() / "hub") in raw.parents:
        raw.unlink()
    logger.info("imported as %s", target)
    return target


def _verify(path: Path, checkpoint: Checkpoint) -> None:
    """Raise `WeightsError` for a file of another checksum than the known one. An imported file remembers that of its origin."""
    if not checkpoint.sha256:
        return
    found = _origin_of(path) or sha256_of(path)
    if found != checkpoint.sha256:
        raise WeightsError(
            f"{path} is not {checkpoint.name}: its sha256 is {found}, known is {checkpoint.sha256}; remove it and fetch it again"
        )


def _origin_of(path: Path) -> str:
    """The checksum of the file that an imported one was made of."""
    try:
        return read_description(path).get("known", {}).get("sha256", "")
    except WeightsError:  # no file of ours
        return ""


def _imported(checkpoint: Checkpoint) -> Path:
    return home() / f"{checkpoint.name}.safetensors"
