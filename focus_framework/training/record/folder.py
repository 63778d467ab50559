"""The folder of a run: one run at a time writes there, and a run that goes on is the run that was begun."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from ...config.layers import flatten, to_toml
from ...config.schema import RunConfig
from ...errors import ConfigError, FocusError
from ...files.atomic import remove_leftovers, replacing
from ...files.ownership import MARK, remove_empty

CONFIG, LOCK, METRICS = "config.toml", ".lock", "metrics.jsonl"
LOCK_PATIENCE = 6.0
"""Seconds. The loader processes of a run that was killed notice after five, and may hold its lock until then."""
MAY_CHANGE = frozenset(
    {
        "preset",
        "data.workers",
        "data.root",
        "data.unreadable",
        *(
            f"training.{name}"
            for name in (
                "steps", "minutes", "device", "log_every", "checkpoint_every", "accumulate", "auto_batch",
                "checkpoint_activations", "compile", "shard", "patience", "bad_steps", "trackers",
            )
        ),
    }
)  # fmt: skip
"""Settings that a run may go on without or with: none of them decides what a step computes."""


class SaveError(FocusError):
    """The run's folder cannot be written to."""


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, though nothing marks it: one of an earlier version."""
    return (folder / CONFIG).is_file() and ((folder / LOCK).exists() or (folder / METRICS).exists())


@contextmanager
def held(folder: Path, *, keep: bool = False) -> Iterator[None]:
    """The folder, made where it is missing, for this run alone. What a killed run left half written is removed, and so is, unless it
    is to be kept, what a run wrote that failed before its first step was done. Raises `ConfigError` where another run writes there."""
    lock = FileLock(folder / LOCK)
    with saving(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=LOCK_PATIENCE)
        except Timeout as error:
            raise ConfigError(f"another run is writing to {folder}; wait for its end, or choose another --out") from error
    try:
        remove_leftovers(folder)
        found = {path.name for path in folder.iterdir()}
        try:
            yield
        except BaseException:
            if not keep and folder.is_dir() and not _has_begun(folder):
                _remove(folder, keep=found - {LOCK, MARK})
            raise
    finally:
        lock.release()
        if folder.is_dir() and {path.name for path in folder.iterdir()} <= {LOCK, MARK}:
            (folder / LOCK).unlink(missing_ok=True)
            remove_empty([folder])


def _has_begun(folder: Path) -> bool:
    """Whether there is anything that a later start, or a person, may want: a saved state, numbers, names of bad batches."""
    metrics = folder / METRICS
    return any(folder.glob("*.safetensors")) or any(folder.glob("*.json")) or (metrics.is_file() and metrics.stat().st_size > 0)


def _remove(folder: Path, *, keep: set[str]) -> None:
    """Remove what a run has put into its folder, not what was there before."""
    for path in folder.iterdir():
        if path.name in keep | {LOCK, MARK}:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Whatever goes wrong with the disk in this block as a `SaveError`. torch and safetensors have their own errors for it."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if type(error) is RuntimeError and "inline_container" not in str(error):
            raise  # nothing to do with the file that torch writes
        raise SaveError(
            f"cannot write to {folder}: {_reason(error)}. What was saved before is whole: make room there, "
            f"and if a checkpoint exists, focus train --resume {folder} resumes from it"
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if "inline_container" in str(error):  # torch's writer tells no more than that bytes are missing
        return "the disk took only a part of the training state"
    return str(error).splitlines()[0]


def write_config(folder: Path, config: RunConfig) -> None:
    """Keep the run's settings where ``--resume`` and ``--config`` read them."""
    with saving(folder), replacing(folder / CONFIG) as beside:
        beside.write_text(to_toml(config), encoding="utf-8", errors="surrogateescape")


def identity(config: RunConfig, pictures: int) -> dict[str, Any]:
    """What must stay as it was for a run to go on, by setting; `pictures` is how many it trains on."""
    settings = flatten(config.model_dump(mode="json"))
    return {key: value for key, value in settings.items() if key not in MAY_CHANGE} | {"number of training images": pictures}


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Raise `ConfigError` that names every setting of a run that differs from what it was begun with. What an earlier version did not
    know is as by default."""
    before = {**_defaults(now), **before}
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if names:
        told = "; ".join(f"{name} = {now.get(name)!r}, was {before.get(name)!r}" for name in names)
        raise ConfigError(
            f"the run in {folder} cannot be resumed with other settings ({told}); leave them as they were, or start a new run"
        )


def _defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of every setting that a run has."""
    usual = flatten(RunConfig(task="any").model_dump(mode="json"))
    return {key: usual[key] for key in settings if key in usual and key != "task"}


def new_folder(tasks: Sequence[str], root: Path = Path("runs")) -> Path:
    """A folder for a new run that does not exist yet: ``runs/shadow``, ``runs/shadow-2``, ... or ``runs/salient+shadow``."""
    name = "+".join(tasks) if len(tasks) < 4 else f"{len(tasks)}-tasks"
    names: Iterator[str] = (name if number == 1 else f"{name}-{number}" for number in range(1, 10_000))
    return next(path for name in names if not (path := root / name).exists())
