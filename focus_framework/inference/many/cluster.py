"""Predicting on a cluster: the actors of Ray Data read, predict and write; this process keeps the journal.

Only names go to the actors, and only what became of them comes back: no image passes through Ray's object stores, so that these may be
small. A machine that goes away takes its actor with it; Ray gives what that one had begun to another, which writes the same files.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, DataError, FocusError
from .journal import Entry
from .pipeline import Idle, batched
from .places import is_address, needed
from .predicting import Engine, Outcome, Settle, predict_here

if TYPE_CHECKING:
    from ..model import Model

WAVE = 200_000
"""Images that are handed to Ray at once; their names are in memory."""
BLOCK = 32
"""Images that an actor gets at once, or a batch if that is more: what is done again when a machine goes away."""
logger = logging.getLogger(__name__)


def _as_it_is(model: Model) -> Model:
    return model


@dataclass(frozen=True)
class Cluster:
    """Ray, and how many actors of which size predict."""

    address: str | None = None
    """``ray://host:10001``, ``host:6379`` or ``auto``; None: Ray on this machine alone, unless the variable RAY_ADDRESS says another."""
    actors: int | None = None
    """As many as there are devices, if not given: GPUs by `gpus`, else processors by `cpus`."""
    cpus: float = 1.0
    """Processors of an actor; a network on the CPU uses as many threads."""
    gpus: float | None = None
    """GPUs of an actor, 0.5 for two actors on each; one if there are any, if not given."""
    checkpoint: str = ""
    """What each actor loads: a file that every machine has, or a name."""
    device: str = "auto"
    prediction: Mapping[str, Any] = field(default_factory=dict)
    """Settings for `load`, as the command line has them."""
    choose: Callable[[Model], Model] = _as_it_is
    """What is done to a loaded model: say, choosing its task."""


class Predictor:
    """An actor: one loaded model, and blocks of names."""

    def __init__(self, cluster: Cluster, weights: str, out: str, forms: list[str], tasks: Sequence[str], batch_size: int) -> None:
        from ... import runtime
        from ..model import load
        from .fingerprint import fingerprint

        runtime.prepare()
        self.model = cluster.choose(load(cluster.checkpoint, device=cluster.device, **cluster.prediction))
        if fingerprint(self.model)["weights"] != weights:
            raise ConfigError(
                f"{cluster.checkpoint} is another model on {os.uname().nodename} than here; give a file that every machine has"
            )
        self.out = out if is_address(out) else Path(out)
        self.options: dict[str, Any] = {"forms": forms, "tasks": tasks, "batch_size": batch_size}

    def __call__(self, block: Any) -> Any:
        """A table of entries to the same with what became of each."""
        arrow = needed("pyarrow")
        import json

        rows: list[dict[str, Any]] = []

        def settle(entry: Entry, outcome: Outcome) -> None:
            error = outcome.error
            if error is not None and not isinstance(error, DataError | OSError | MemoryError):
                raise error
            told = None if error is None else (str(error) or type(error).__name__).encode("utf-8", "backslashreplace").decode()
            if isinstance(error, OSError) or isinstance(getattr(error, "__cause__", None), OSError):
                system = error if isinstance(error, OSError) else error.__cause__  # type: ignore[union-attr]
                number = getattr(system, "errno", None)
            else:
                number = None
            size, changed = outcome.stamped or (None, None)
            rows.append({"id": entry.id, "error": told, "errno": number, "size": size, "changed": changed,
                         "coco": None if outcome.coco is None else json.dumps(outcome.coco), "seconds": outcome.seconds})  # fmt: skip

        entries = [_entry(row) for row in block.to_pylist()]
        predict_here(iter(entries), settle, model=self.model, out=self.out, **self.options)
        return arrow.Table.from_pylist(rows, schema=_outcomes(arrow))


def on_cluster(cluster: Cluster, weights: str, out: str | Path, forms: list[str], tasks: Sequence[str], batch_size: int) -> Engine:
    """The engine of a cluster. Raises `ConfigError` where Ray is not installed or not reached."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # of this process: it warns of how Ray Data itself starts actors
    ray = needed("ray")
    needed("ray.data")
    target = str(out) if is_address(out) else str(Path(out).absolute())

    def run(entries: Iterator[Entry], settle: Settle) -> Idle:
        import json

        with _connected(ray, cluster):
            options = _options(ray, cluster)
            _be_quiet(ray)
            for wave in batched(entries, WAVE):
                by_id = {entry.id: entry for entry in wave}
                data = ray.data.from_arrow(_blocks(wave, max(batch_size, BLOCK)))
                given = (cluster, weights, target, forms, tuple(tasks), batch_size)
                data = data.map_batches(Predictor, fn_constructor_args=given, batch_size=None, batch_format="pyarrow", **options)
                try:
                    for block in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                        for row in block.to_pylist():
                            settle(by_id.pop(row["id"]), _outcome(row, json))
                except FocusError:
                    raise
                except ray.exceptions.RayError as error:
                    raise _plain(error) from error
        return Idle()

    return run


def _plain(error: BaseException) -> FocusError:
    """The error of an actor as it was raised there, or what Ray says."""
    cause = getattr(error, "cause", None)
    while cause is not None and not isinstance(cause, FocusError):
        cause = getattr(cause, "cause", None) or cause.__cause__
    if isinstance(cause, FocusError):
        return cause
    lines = [line for line in str(error).splitlines() if line.strip()]
    return DataError(f"the cluster cannot go on: {lines[-1] if lines else type(error).__name__}; the same command resumes")


class _connected:  # noqa: N801 - it is used as a function
    """Ray, connected by us or by whoever calls; what we connected we leave again."""

    def __init__(self, ray: Any, cluster: Cluster) -> None:
        self.ray, self.cluster = ray, cluster

    def __enter__(self) -> None:
        self.ours = not self.ray.is_initialized()
        if self.ours:
            _refuse_silence(self.cluster.address)
            self.on_sigterm = signal.getsignal(signal.SIGTERM)  # Ray puts its own in its place, and leaves it there
            local = {} if self.cluster.address or os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
            try:
                self.ray.init(address=self.cluster.address, log_to_driver=False, logging_level="ERROR", **local)
            except Exception as error:  # ConnectionError, ValueError, RuntimeError, by the way that it fails
                raise ConfigError(
                    f"Ray cannot be reached at {self.cluster.address or 'this machine'}: {str(error).splitlines()[0]}"
                ) from None

    def __exit__(self, *error: object) -> None:
        if self.ours:
            self.ray.shutdown()
            if self.on_sigterm is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, self.on_sigterm)


def _refuse_silence(address: str | None) -> None:
    """Raise `ConfigError` where nobody listens: Ray itself would wait for minutes."""
    if match := re.fullmatch(r"(?:ray://)?(.+):(\d{1,5})", address or ""):
        try:
            socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise ConfigError(f"Ray cannot be reached at {address}: {getattr(error, 'strerror', None) or error}") from None


def _be_quiet(ray: Any) -> None:
    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _options(ray: Any, cluster: Cluster) -> dict[str, Any]:
    """Actors by the devices that there are."""
    there = ray.cluster_resources()
    gpus = cluster.gpus if cluster.gpus is not None else min(1.0, there.get("GPU", 0.0))
    devices = there.get("GPU", 0.0) / gpus if gpus else there.get("CPU", 1.0) / cluster.cpus
    if cluster.actors is None and devices < 1:
        wanted = f"{gpus:g} GPUs" if gpus else f"{cluster.cpus:g} processors"
        raise ConfigError(f"an actor of {wanted} does not fit this cluster, which has {there.get('CPU', 0):g} processors and "
                          f"{there.get('GPU', 0):g} GPUs")  # fmt: skip
    actors = cluster.actors or int(devices)
    logger.info("predicting by %d actors, each with %g processors and %g GPUs", actors, cluster.cpus, gpus)
    return {
        "compute": ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
        "num_cpus": cluster.cpus,
        "num_gpus": gpus or None,
    }


def _blocks(entries: list[Entry], rows: int) -> list[Any]:
    arrow = needed("pyarrow")
    schema = arrow.schema({"id": "int64", "path": "binary", "name": "binary", "key": "binary"})
    return [
        arrow.Table.from_pylist(
            [
                {"id": one.id, "path": os.fsencode(one.path.absolute()), "name": os.fsencode(one.name), "key": os.fsencode(one.key)}
                for one in block
            ],
            schema=schema,
        )
        for block in batched(entries, rows)
    ]


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(row["id"], Path(os.fsdecode(row["path"])), os.fsdecode(row["name"]), key=os.fsdecode(row["key"]))


def _outcomes(arrow: Any) -> Any:
    return arrow.schema({"id": "int64", "error": "string", "errno": "int32", "size": "int64", "changed": "int64", "coco": "string",
                         "seconds": "float64"})  # fmt: skip


def _outcome(row: dict[str, Any], json: Any) -> Outcome:
    error: BaseException | None = None
    if row["error"] is not None:
        error = DataError(row["error"])
        if row["errno"] is not None:
            error.__cause__ = OSError(row["errno"], row["error"])  # a full disk ends the call, as it does here
    stamped = None if row["size"] is None else (row["size"], row["changed"])
    return Outcome(error, stamped, json.loads(row["coco"]) if row["coco"] else None, row["seconds"])
