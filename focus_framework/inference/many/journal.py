"""What is done in a folder of predictions: a small SQLite file beside them, so that a call given again does only what is missing.

SQLite, because a process that is killed in the middle leaves a file that opens as it last was, and because a million images do
not have to be in memory. One process writes at a time.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ...errors import ConfigError, DataError
from . import places
from .listing import Found

NAME = ".focus-journal"
VERSION = 2
INTERVAL = 0.5
"""Seconds between writes to the disk. What a kill forgets is predicted again, to the same files."""
PAGE = 1000  # rows that are read at once
WAITING, DONE, FAILED = range(3)
RLE_TABLE = "rle.parquet"
UPLOAD_INTERVAL = 30.0
"""Seconds between copies of a journal to the address whose predictions it lists."""
LEFT_BY = (f"{NAME}-journal", f"{NAME}-wal", f"{NAME}-shm")  # SQLite's own, beside it

SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE stems (folded BLOB PRIMARY KEY, last INTEGER);
CREATE TABLE images (
    id INTEGER PRIMARY KEY, key BLOB UNIQUE, path BLOB, name BLOB, folded BLOB UNIQUE,
    state INTEGER DEFAULT 0, size INTEGER, changed INTEGER, error TEXT, coco TEXT, files INTEGER,
    call INTEGER, position INTEGER, written INTEGER DEFAULT 0, seconds REAL
);
CREATE INDEX of_call ON images (call, position);
"""


@dataclass(frozen=True)
class Entry:
    """An image of a call, and the name of its predictions below the output, without suffix."""

    id: int
    path: Path
    name: str
    error: str = ""
    written: bool = True
    """By this call, not by one before."""
    key: str = ""
    """Its path without links, or its address."""

    @property
    def given(self) -> Path | str:
        """Its path as it was given, or its address."""
        return self.path if self.source == str(self.path) else self.source

    @property
    def source(self) -> str:
        """Where it is read, and what it is called in an error."""
        return self.key if places.is_address(self.key) or places.MEMBER.fullmatch(self.key) else str(self.path)


class Journal:
    """The journal of a folder, opened, or made where there is none. `here` says whether the predictions lie in the folder too, and not at
    an address: then it is looked whether they are still there."""

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any], *, again: bool = False, here: bool = True) -> None:
        self.folder, self.here = folder, here
        self._last = time.monotonic()
        try:
            try:
                self._open()
            except sqlite3.DatabaseError as error:
                if not again or isinstance(error, sqlite3.OperationalError):
                    raise
                self._table.close()  # a file that is open cannot be removed on Windows
                self.forget()
                self._open()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise ConfigError(f"another process is writing predictions to {folder}; wait for it, or choose another --out") from error
            raise DataError(f"cannot write the journal {folder / NAME}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise DataError(f"the journal {folder / NAME} is damaged ({error}); --again starts over, or choose another --out") from error
        try:
            self._begin(dict(fingerprint), again)
        except BaseException:
            self._table.close()  # what was begun is undone, and another call may have the folder
            raise

    def _open(self) -> None:
        self._table = sqlite3.connect(self.folder / NAME, timeout=0, isolation_level=None, check_same_thread=False)
        self._table.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._table.execute("PRAGMA synchronous = NORMAL")
        self._table.execute("BEGIN EXCLUSIVE")
        if not self._table.execute("SELECT 1 FROM sqlite_master WHERE name = 'images'").fetchone():
            for statement in SCHEMA.split(";"):
                self._table.execute(statement)
            self._set("version", VERSION)

    def _begin(self, fingerprint: dict[str, Any], again: bool) -> None:
        before = self._get("fingerprint")
        if self._get("version") != VERSION and not again:
            raise ConfigError(f"{self.folder} has a journal of another version; --again starts over, or choose another --out")
        if before is not None and not again:
            _refuse_other(self.folder, before, fingerprint)
        if again:
            self._start_over()
        self.unfinished = bool(self._get("running"))
        """Whether the call before was ended in the middle."""
        self.call = int(self._get("call") or 0) + 1
        for name, value in {"version": VERSION, "fingerprint": fingerprint, "call": self.call, "running": True}.items():
            self._set(name, value)
        self.commit()

    def _get(self, name: str) -> Any:
        row = self._table.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def _set(self, name: str, value: Any) -> None:
        self._table.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def _start_over(self) -> None:
        """Forget all images; what was written for them goes."""
        forms = (self._get("fingerprint") or {}).get("forms", ["mask"])
        for (name,) in self._table.execute("SELECT name FROM images WHERE files > 0") if self.here else ():
            for file in output_files(self.folder, os.fsdecode(name), forms):
                with suppress(OSError):  # a folder goes when its last file does
                    file.unlink()
                    for place in file.relative_to(self.folder).parents[:-1]:
                        (self.folder / place).rmdir()
        self._table.execute("DELETE FROM images")
        self._table.execute("DELETE FROM stems")

    def add(self, found: Iterable[Found], forms: list[str]) -> None:
        """The images of this call. Those that were done before, have not changed since and whose files are there stay done."""
        for position, one in enumerate(found):
            row = self._table.execute("SELECT id, state, size, changed, name FROM images WHERE key = ?", (one.key,)).fetchone()
            if row is None:
                name = os.fsencode(self._free_name(one))
                self._table.execute(
                    "INSERT INTO images (key, path, name, folded, call, position) VALUES (?, ?, ?, ?, ?, ?)",
                    (one.key, os.fsencode(one.path), name, _folded(os.fsdecode(name)), self.call, position),
                )
                continue
            number, state, size, changed, name = row
            same = (size, changed) == (stamp(one.path) or (None, None))
            if state == DONE and not (same and (not self.here or _all_there(self.folder, os.fsdecode(name), forms))):
                state = WAITING
            self._table.execute(
                "UPDATE images SET path = ?, state = ?, written = 0, call = ?, position = ? WHERE id = ?",
                (os.fsencode(one.path), DONE if state == DONE else WAITING, self.call, position, number),
            )
        self.commit()

    def _free_name(self, found: Found) -> str:
        """Its stem in its place, numbered where another image has the same name; file systems may not tell Cat from cat."""
        name = f"{found.place}/{found.path.stem}".lstrip("/")
        row = self._table.execute("SELECT last FROM stems WHERE folded = ?", (_folded(name),)).fetchone()
        number = 1 if row is None else row[0] + 1
        while self._taken(candidate := name if number == 1 else f"{name}-{number}"):
            number += 1
        self._table.execute("INSERT OR REPLACE INTO stems VALUES (?, ?)", (_folded(name), number))
        return candidate

    def _taken(self, name: str) -> bool:
        return self._table.execute("SELECT 1 FROM images WHERE folded = ?", (_folded(name),)).fetchone() is not None

    def waiting(self) -> Iterator[Entry]:
        """What this call has to do, in order; read in pages, so that it may be marked meanwhile."""
        yield from self._entries("state = ?", WAITING)

    def failed(self) -> Iterator[Entry]:
        """What could not be done in this call."""
        yield from self._entries("state = ?", FAILED)

    def done(self) -> Iterator[Entry]:
        """The images of this call that have predictions, by this call or one before."""
        yield from self._entries("state = ?", DONE)

    def names(self) -> Iterator[Entry]:
        """All images of this call."""
        yield from self._entries("state >= ?", WAITING)

    def _entries(self, condition: str, state: int) -> Iterator[Entry]:
        position = -1
        while True:
            rows = self._table.execute(
                "SELECT position, id, path, name, error, written, key FROM images "
                f"WHERE call = ? AND position > ? AND {condition} ORDER BY position LIMIT {PAGE}",
                (self.call, position, state),
            ).fetchall()
            if not rows:
                return
            for _, number, path, name, error, written, key in rows:
                yield Entry(number, Path(os.fsdecode(path)), os.fsdecode(name), error or "", bool(written), os.fsdecode(key))
            position = rows[-1][0]

    def count(self, state: int, *, of_call: bool = True) -> int:
        """Images of this call, or of all, in a state."""
        query = "SELECT count(*) FROM images WHERE state = ?" + (" AND call = ?" if of_call else "")
        return int(self._table.execute(query, (state, self.call) if of_call else (state,)).fetchone()[0])

    def mark_done(
        self, entry: Entry, files: int, stamped: tuple[int, int] | None, coco: Mapping[str, Any] | None, seconds: float = 0.0
    ) -> None:
        """The image has its predictions. `stamped` is its `stamp` when it was read, `coco` what a COCO file says of it."""
        size, changed = stamped or (None, None)
        self._table.execute(
            "UPDATE images SET state = ?, written = 1, error = NULL, files = ?, size = ?, changed = ?, coco = ?, seconds = ? WHERE id = ?",
            (DONE, files, size, changed, None if coco is None else json.dumps(coco), seconds, entry.id),
        )
        self._commit_at_times()

    def mark_failed(self, entry: Entry, seconds: float = 0.0) -> None:
        """The image has none, for the error that the entry tells."""
        self._table.execute(
            "UPDATE images SET state = ?, written = 0, error = ?, coco = NULL, seconds = ? WHERE id = ?",
            (FAILED, entry.error.encode("utf-8", "backslashreplace").decode(), seconds, entry.id),
        )
        self._commit_at_times()

    def coco(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """What a COCO file says of every image that is done, of this call and of those before, in the order they were first named."""
        last = 0
        while rows := self._table.execute(
            f"SELECT id, path, coco FROM images WHERE state = ? AND coco IS NOT NULL AND id > ? ORDER BY id LIMIT {PAGE}", (DONE, last)
        ).fetchall():
            for number, path, text in rows:
                yield Path(os.fsdecode(path)), json.loads(text)
                last = number

    def rows(self) -> Iterator[tuple[str, bool, str, float, str, dict[str, Any] | None]]:
        """Of every image that is settled, of this call and of those before: where it was read, whether it has predictions, its error,
        seconds, the name of its predictions, and what a COCO file says of it."""
        last = 0
        query = "SELECT id, path, state, error, seconds, name, key, coco FROM images WHERE state > ? AND id > ? ORDER BY id LIMIT ?"
        while found := self._table.execute(query, (WAITING, last, PAGE)).fetchall():
            for number, path, state, error, seconds, name, key, coco in found:
                entry = Entry(number, Path(os.fsdecode(path)), os.fsdecode(name), key=os.fsdecode(key))
                about = json.loads(coco) if coco else None
                yield entry.source, state == DONE, error or "", seconds or 0.0, entry.name, about
                last = number

    def _commit_at_times(self) -> None:
        if time.monotonic() - self._last >= INTERVAL:
            self.commit()

    def commit(self) -> None:
        """Write what was marked to the disk."""
        self._table.execute("COMMIT")
        self._table.execute("BEGIN EXCLUSIVE")
        self._last = time.monotonic()

    def finish(self) -> None:
        """The call has come to its end, whatever failed. What it found can still be asked; others may write from now on."""
        self._set("running", False)
        self.release()

    def release(self) -> None:
        """Write all to the disk and let others write. A journal without a single prediction goes away."""
        self._table.execute("COMMIT")
        self._table.execute("PRAGMA locking_mode = NORMAL")
        if not self.count(DONE, of_call=False):
            self.forget()

    def forget(self) -> None:
        """Remove the file; what is open can still be read."""
        for name in (NAME, *LEFT_BY):
            with suppress(OSError):
                (self.folder / name).unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._table.in_transaction:
            try:
                self.release()
            except sqlite3.Error:  # the disk is full; the error before it, or what is missing when called again, tells
                self._table.close()


class Kept:
    """Where a journal lies while it is written, and how it gets to an address."""

    def __init__(self, folder: Path, address: str = "") -> None:
        self.folder, self.address = folder, address
        self._last = time.monotonic()

    def save_at_times(self, journal: Journal) -> None:
        """Copy it to its address, if that was not done lately."""
        if self.address and time.monotonic() - self._last >= UPLOAD_INTERVAL:
            journal.commit()  # between transactions the file is whole
            self.save()

    def save(self) -> None:
        if self.address and (self.folder / NAME).exists():
            places.put(places.join(self.address, NAME), (self.folder / NAME).read_bytes())
        self._last = time.monotonic()


@contextmanager
def journal_folder(out: Path | str) -> Iterator[Kept]:
    """The folder of a journal: `out` itself, or, for an address, a temporary one with a copy of what lies there."""
    if isinstance(out, Path):
        out.mkdir(parents=True, exist_ok=True)
        yield Kept(out)
        return
    with tempfile.TemporaryDirectory(prefix="focus-") as folder:
        kept = Kept(Path(folder), out)
        if before := places.get(places.join(out, NAME)):
            (kept.folder / NAME).write_bytes(before)
        try:
            yield kept
        finally:
            kept.save()


def stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of change of a file; None where it is not there."""
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return None
    return facts.st_size, facts.st_mtime_ns


def output_files(folder: Path, name: str, forms: Iterable[str]) -> list[Path]:
    """The image files of a prediction, in the order of the forms: in the folder, or in a folder a form where there are several."""
    pictures = [form for form in forms if form != "rle"]
    return [(folder / form if len(pictures) > 1 else folder) / f"{name}.png" for form in pictures]


def _all_there(folder: Path, name: str, forms: list[str]) -> bool:
    return all(file.is_file() for file in output_files(folder, name, forms))


def _folded(name: str) -> bytes:
    return os.fsencode(name.casefold())


def _refuse_other(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `ConfigError` where predictions of another model or other settings lie there, which names what is different."""
    mend = "choose another --out, or start over with --again"
    if before.get("weights") != now.get("weights"):
        names = [f"{facts.get('model')} ({str(facts.get('weights'))[:12]})" for facts in (before, now)]
        raise ConfigError(f"{folder} holds predictions of the model {names[0]}, not of {names[1]}; {mend}")
    different = [key for key in sorted({*before, *now} - {"model"}) if before.get(key) != now.get(key)]
    if different:
        told = ", ".join(f"{key} was {_said(before.get(key))} and is {_said(now.get(key))}" for key in different)
        raise ConfigError(f"{folder} holds predictions with other settings: {told}; {mend}")


def _said(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
