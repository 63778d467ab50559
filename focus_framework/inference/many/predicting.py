"""Predicting whatever a listing names into a folder: what its journal says is missing, and no more."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, DataError
from ...files.atomic import remove_leftovers
from ...files.ownership import claimed
from ..outputs import RLE_FILE, annotated, parse_forms, render, write_all, write_coco
from . import places
from .journal import DONE, FAILED, RLE_TABLE, Entry, Journal, journal_folder, output_files, stamp
from .listing import Listing
from .pipeline import Ahead, Behind, Idle, threads

if TYPE_CHECKING:
    from ..model import Model
    from ..result import Result
    from .cluster import Cluster

CATCHABLE = (DataError, OSError, MemoryError)
"""What is wrong with one image or its file, and lets the others go on."""


@dataclass
class Report:
    """What a call has done. The images are read from the journal, until another call writes to the same folder."""

    journal: Journal
    out: Path | str
    """A folder, or an address."""
    forms: list[str]
    total: int
    """Images that the call named."""
    before: int = 0
    """Those that were done by a call before."""
    seconds: float = 0.0
    tables: bool = False
    """Whether run lengths and the list of inputs are Parquet files."""
    idle: float = 0.0
    """Share of these seconds in which the network waited for reading or writing."""

    @property
    def done(self) -> int:
        """Images that have predictions now."""
        return self.journal.count(DONE)

    @property
    def failed(self) -> int:
        return self.journal.count(FAILED)

    def failures(self) -> Iterator[tuple[Path | str, str]]:
        """The images that failed, and why."""
        for entry in self.journal.failed():
            yield entry.given, entry.error

    def files(self, *, written: bool = False) -> Iterator[tuple[Path | str, list[Path | str]]]:
        """The images that have predictions and their files; those `written` by this call alone, or all."""
        lengths = [Path(RLE_TABLE if self.tables else RLE_FILE)] if "rle" in self.forms else []
        for entry in self.journal.done():
            if entry.written or not written:
                files = [*output_files(Path(), entry.name, self.forms), *lengths]
                yield entry.given, [self.out / file if isinstance(self.out, Path) else places.join(self.out, file) for file in files]


def predict_many(
    images: str | Path | Iterable[str | Path] | Listing,
    model: Model | str | Path,
    out: str | Path,
    *,
    name: str = "",
    tasks: Sequence[str] = (),
    forms: Sequence[str] = ("mask",),
    recursive: bool = False,
    batch_size: int = 8,
    again: bool = False,
    overwrite: bool = False,
    cluster: Cluster | None = None,
    on_done: Callable[[Entry, int, int], None] = lambda entry, done, total: None,
) -> Report:
    """``focus predict``: masks of any number of images, in files; a call given again does only what is missing or failed.

    `images` are files, folders (with `recursive`, what is in their folders too, whose places are kept) and patterns such as
    ``"photos/**/*.jpg"``. `model` is a loaded one, or what `load` takes; errors call it by its `name`. With `tasks` it predicts several
    that it knows in one pass, each into OUT/TASK/FORM. `forms` are those of ``--save``. A journal in `out` knows what is done, and by which
    model and settings: others are refused, `again` starts over. `overwrite` takes a folder that holds other files. `on_done` is told each
    image (its ``path``, and its ``error`` or nothing), how many are settled and how many there are to do.

    Images and `out` may lie at addresses such as ``s3://bucket/photos``. With a `cluster` the actors of Ray predict, each with a
    model of its own, which it loads from `model`: a file or a name then, that every machine finds.

    Raises `ConfigError` and `DataError` for what is wrong with the call; what is wrong with one image is in the report.
    """
    if not isinstance(images, Listing):
        images = Listing([images] if isinstance(images, str | Path) else images, recursive=recursive)
    if "rle" in parse_forms(forms) and tasks:
        raise ConfigError("rle is one file for one task; leave it out, or predict each task by itself")
    if isinstance(model, str | Path):
        from ..model import load

        name = name or str(model)
        if cluster is not None and not cluster.checkpoint:
            cluster = replace(cluster, checkpoint=str(model))
        model = load(model)
    elif cluster is not None and not cluster.checkpoint:
        raise ConfigError("a cluster needs the name or the file of a checkpoint, which each of its actors loads; give that as the model")
    from .fingerprint import fingerprint

    facts = fingerprint(model, name)
    engine = None
    if cluster is not None:
        from .cluster import on_cluster

        engine = on_cluster(cluster, facts["weights"], out, chosen_forms(tasks, forms), tasks, batch_size)
    if not places.is_address(out):
        out = Path(out)
    with claimed(out, "predictions", inputs=images.roots, overwrite=overwrite) if isinstance(out, Path) else nullcontext():
        return write_predictions(
            model,
            images,
            out,
            tasks=tasks,
            forms=forms,
            category=model.task,
            batch_size=batch_size,
            fingerprint=facts,
            again=again,
            engine=engine,
            on_done=on_done,
        )


def write_predictions(
    model: Model,
    listing: Listing,
    out: Path | str,
    *,
    tasks: Sequence[str] = (),
    forms: Sequence[str] = ("mask",),
    category: str = "foreground",
    batch_size: int = 8,
    fingerprint: Mapping[str, Any] | None = None,
    again: bool = False,
    engine: Engine | None = None,
    on_done: Callable[[Entry, int, int], None] = lambda entry, done, total: None,
) -> Report:
    """Predict images, `batch_size` at a time, and write each in every form: into `out`, or into a folder a form where there are
    several; of several `tasks` into a folder a form of each, TASK/FORM.

    The journal in `out` says which of them were done before, by the same `fingerprint` of model and settings; those are left alone.
    `again` removes what it lists and starts over. All forms of an image are written or none; an image that cannot be read or written
    is reported and the others go on. `rle` is one COCO file for all in the journal, `out`/rle.json, whose category is named
    `category`. `on_done` is told each image, how many are settled and how many there are to do. Another `engine` than this process, and
    an `out` at an address, write tables instead: `out`/inputs.parquet, and run lengths as `out`/rle.parquet.

    Raises `ConfigError` for an unknown form, for a folder of another model, and before anything is written where a prediction would
    replace one of the images.
    """
    begin = time.perf_counter()
    chosen = chosen_forms(tasks, forms)
    tables = engine is not None or not isinstance(out, Path)
    facts = {**(fingerprint or {}), "forms": chosen}
    with journal_folder(out) as kept, Journal(kept.folder, facts, again=again, here=isinstance(out, Path)) as journal:
        journal.add(listing, chosen)
        _refuse_to_replace(journal, listing, out, chosen)
        if journal.unfinished and isinstance(out, Path):
            remove_leftovers(out)
        before = journal.count(DONE)
        report = Report(journal, out, chosen, len(listing), before, tables=tables)
        here = partial(predict_here, model=model, out=out, forms=chosen, batch_size=batch_size, tasks=tasks)
        try:
            idle = _predict_all(journal, engine or here, chosen, len(listing) - before, on_done, partial(kept.save_at_times, journal))
        except sqlite3.OperationalError as error:  # the disk is full
            raise DataError(f"cannot write the journal of {out}: {error}; the same command resumes") from error
        if tables:
            from .tables import write_tables

            write_tables(out, journal, lengths="rle" in chosen)
        elif isinstance(out, Path) and "rle" in chosen and journal.count(DONE, of_call=False):
            write_coco(out / RLE_FILE, category, journal.coco)
        report.seconds = time.perf_counter() - begin
        report.idle = (idle.reading + idle.writing) / max(report.seconds, 1e-9)
        journal.finish()
    return report


Streamed: TypeAlias = "Callable[[Iterable[NDArray[np.uint8]]], Iterator[dict[str, Result]]]"
"""Images to their results by task; by an empty name where there is but one."""


def _streaming(model: Model, tasks: Sequence[str], batch_size: int) -> Streamed:
    if tasks:
        return lambda images: model.stream_tasks(images, tasks, batch_size=batch_size)
    return lambda images: ({"": result} for result in model.stream(images, batch_size=batch_size))


def chosen_forms(tasks: Sequence[str], forms: Sequence[str]) -> list[str]:
    """Each form, of each task where there are several. Raises `ConfigError` for one that is none."""
    parsed = parse_forms(forms)
    return [f"{task}/{form}" for task in tasks for form in parsed] or parsed


@dataclass(frozen=True)
class Outcome:
    """What became of one image."""

    error: BaseException | None = None
    stamped: tuple[int, int] | None = None
    """Its `stamp` when it was read."""
    coco: dict[str, Any] | None = None
    """What a COCO file says of it, where that was asked for."""
    seconds: float = 0.0
    """From the beginning of reading to the end of writing, waiting included."""


Settle: TypeAlias = Callable[[Entry, Outcome], None]
Engine: TypeAlias = Callable[[Iterator[Entry], Settle], Idle]


def _predict_all(
    journal: Journal, engine: Engine, forms: list[str], total: int, on_done: Callable[[Entry, int, int], None], saved: Callable[[], None]
) -> Idle:
    settled = 0

    def settle(entry: Entry, outcome: Outcome) -> None:
        nonlocal settled
        error = outcome.error
        if error is None:
            journal.mark_done(entry, len(forms), outcome.stamped, outcome.coco, outcome.seconds)
        elif isinstance(error, CATCHABLE) and not _takes_no_more(error):
            entry = replace(entry, error=str(error) or type(error).__name__)
            journal.mark_failed(entry, outcome.seconds)
        else:  # a full disk is nobody's image: nor would it take any of the others
            raise error
        settled += 1
        saved()
        on_done(entry, settled, total)

    return engine(journal.waiting(), settle)


def predict_here(
    entries: Iterator[Entry], settle: Settle, *, model: Model, out: str | Path, forms: list[str], batch_size: int, tasks: Sequence[str] = ()
) -> Idle:
    """Read, predict and write images in this process; `settle` is told of each, in order."""
    notes: dict[int, tuple[float, tuple[int, int] | None, dict[str, Any] | None]] = {}

    def told(entry: Entry, error: BaseException | None) -> None:
        begin, stamped, coco = notes.pop(entry.id)
        settle(entry, Outcome(error, stamped, coco, time.perf_counter() - begin))

    def write(entry: Entry, found: dict[str, Result]) -> None:
        pictures = [form.rpartition("/") for form in forms if form != "rle"]
        write_predictions_of(out, entry.name, forms, [render(form, found[task]) for task, _, form in pictures])
        if "rle" in forms:
            notes[entry.id] = (*notes[entry.id][:2], annotated(found[""]))

    waiting: deque[tuple[Entry, Exception | None]] = deque()
    with ThreadPoolExecutor(threads(), "reader") as readers, ThreadPoolExecutor(threads(), "writer") as writers:
        ahead = Ahead(entries, _read, readers, count=2 * batch_size + threads(), size=_bytes_read)
        behind = Behind(writers, told)

        def readable() -> Iterator[NDArray[np.uint8]]:
            for entry, (picture, stamped, begin) in ahead:
                notes[entry.id] = begin, stamped, None
                if isinstance(picture, Exception):
                    waiting.append((entry, picture))
                else:
                    waiting.append((entry, None))
                    yield picture

        def tell_unreadable() -> None:
            while waiting and waiting[0][1] is not None:
                entry, error = waiting.popleft()
                behind.tell(entry, error)  # type: ignore[arg-type]  # it is there: the line above looked

        try:
            for found in _streaming(model, tasks, batch_size)(readable()):
                tell_unreadable()
                entry, _ = waiting.popleft()
                size = 7 * sum(result.probability.size for result in found.values())
                behind.give(entry, lambda entry=entry, found=found: write(entry, found), size)  # type: ignore[misc]
            tell_unreadable()
        except BaseException:
            readers.shutdown(wait=False, cancel_futures=True)
            with suppress(BaseException):  # what was predicted is kept; the first error is the one to tell
                behind.finish()
            raise
        behind.finish()
    return Idle(ahead.waited, behind.waited)


def write_predictions_of(out: str | Path, name: str, forms: list[str], arrays: list[NDArray[np.uint8]]) -> None:
    """All image files of one image, or none."""
    if isinstance(out, Path):
        write_all(dict(zip(output_files(out, name, forms), arrays, strict=True)))
        return
    for file, array in zip(output_files(Path(), name, forms), arrays, strict=True):
        places.write_place(places.join(out, file), array)


def _takes_no_more(error: BaseException) -> bool:
    """Whether the disk is full or may only be read."""
    system = error if isinstance(error, OSError) else error.__cause__
    return isinstance(system, OSError) and system.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _read(entry: Entry) -> tuple[NDArray[np.uint8] | Exception, tuple[int, int] | None, float]:
    begin, stamped = time.perf_counter(), stamp(entry.path)
    try:
        return places.read_place(entry.source), stamped, begin
    except CATCHABLE as error:
        return error, stamped, begin


def _bytes_read(read: tuple[NDArray[np.uint8] | Exception, tuple[int, int] | None, float]) -> int:
    return read[0].nbytes if isinstance(read[0], np.ndarray) else 0


def _refuse_to_replace(journal: Journal, listing: Listing, out: Path | str, forms: list[str]) -> None:
    real: dict[Path, str] = {}
    for entry in journal.names():
        if not isinstance(out, Path):
            if any(os.fsencode(places.join(out, file)) in listing for file in output_files(Path(), entry.name, forms)):
                raise ConfigError(f"the prediction of {entry.source} would replace an image at {out}; choose another address")
            continue
        for file in output_files(out, entry.name, forms):
            if file.parent not in real:
                if len(real) > 1000:  # folders of the output; no more of them in memory
                    real.clear()
                real[file.parent] = os.path.realpath(file.parent)
            if os.fsencode(f"{real[file.parent]}/{file.name}") in listing:
                raise ConfigError(f"the prediction of {entry.path} would replace an image in {file.parent}; choose another folder")
