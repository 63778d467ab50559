"""Files from the hub that may be large: gone on with where an earlier download stopped, and checked before they have their name."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from ..errors import WeightsError

logger = logging.getLogger(__name__)

OnBytes = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes of the whole file."""
INTERVAL = 10.0  # seconds between lines where nobody else shows the progress
BAR = "huggingface_hub.http_get"
ANEW = 5
"""How often a hub that cannot go on with a file may begin it anew in one call."""
SPARE = 64 * 2**20  # bytes that are left on the disk


class _Counted:
    """A file that tells how much was written to it, and takes no more than it should hold."""

    def __init__(self, file: BinaryIO, name: str, total: int, on_bytes: OnBytes) -> None:
        self._file, self._name, self._total, self._on_bytes = file, name, total, on_bytes
        self._begun = 0

    def write(self, chunk: bytes) -> int:
        if self._file.tell() + len(chunk) > self._total:
            raise WeightsError(f"{self._name} did not come as it is on the hub: more came than its {self._total} bytes; fetch it again")
        written = self._file.write(chunk)
        self._on_bytes(self._file.tell(), self._total)
        return written

    def seek(self, place: int) -> int:
        return self._file.seek(place)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self) -> int:
        self._begun += 1
        if self._begun > ANEW:  # the client itself would go on as long as something comes
            raise WeightsError(f"{self._name} broke off {ANEW} times, and the hub begins it anew each time; fetch it again later")
        return self._file.truncate()


def download(repository: str, name: str, commit: str, target: Path, on_bytes: OnBytes | None = None) -> None:
    """Fetch one file of a repository, as it was at a commit, to `target`.

    What an interrupted call has fetched is kept beside `target` and gone on with. The hub's own client begins anew in every process,
    so that the bytes are written here; request, redirects, retries and errors are the client's. Raises `WeightsError` where what came
    is not what the hub says it has, or the disk is too small, and the client's errors.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, though only lazily exported

    url = hf_hub_url(repository, name, revision=commit)
    facts = get_hf_file_metadata(url)
    total, etag = facts.size or 0, re.sub(r"\W", "", facts.etag or "")
    whole_name = f"{name} of {repository}"
    if total <= 0:
        raise WeightsError(f"the hub does not say how large {whole_name} is; nothing was fetched")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{etag[:16]}.partial")
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.is_file():
            return  # another process was quicker
        here = partial.stat().st_size if partial.is_file() else 0
        if here > total:
            partial.unlink()
            here = 0
        _check_room(target.parent, total - here, whole_name)
        with partial.open("ab") as file:
            file.seek(0, 2)
            counted = _Counted(file, whole_name, total, on_bytes or _telling(name))
            with _own_progress_alone():
                http_get(url, counted, resume_size=here, headers=build_hf_headers(), expected_size=total)  # type: ignore[arg-type]
        _check_whole(partial, total, etag, whole_name)
        partial.replace(target)


@contextmanager
def _own_progress_alone() -> Iterator[None]:
    """Without the client's bar."""
    from huggingface_hub import utils

    bars: Any = utils  # which leaves these three out of its declared names
    before = bars.are_progress_bars_disabled(BAR)
    bars.disable_progress_bars(BAR)
    try:
        yield
    finally:
        if not before:
            bars.enable_progress_bars(BAR)


def sha256_of(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_words(size: int) -> str:
    """A number of bytes as people say it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _check_whole(partial: Path, total: int, etag: str, name: str) -> None:
    """The hub's tag of a large file is its SHA-256, of a small one git's own."""
    size = partial.stat().st_size
    found = sha256_of(partial) if re.fullmatch(r"[0-9a-f]{64}", etag) else etag
    if size != total or found != etag:
        partial.unlink()
        what = f"{size} bytes came instead of {total}" if size != total else f"its sha256 is {found}, the hub says {etag}"
        raise WeightsError(f"{name} did not come as it is on the hub: {what}; what came was removed, fetch it again")


def _check_room(folder: Path, needed: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE:
        raise WeightsError(
            f"{name} needs {in_words(needed)} in {folder}, where {in_words(free)} are free; make room, or set FOCUS_HOME to another folder"
        )


def _telling(name: str) -> OnBytes:
    """Lines at intervals."""
    last = time.monotonic()

    def tell(here: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= INTERVAL:
            last = time.monotonic()
            logger.info("%s: %s of %s", name, in_words(here), in_words(total))

    return tell
