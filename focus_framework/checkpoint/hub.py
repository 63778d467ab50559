"""Checkpoints from the Hugging Face hub: ``hf://owner/name``, optionally ``@revision``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ConfigError, WeightsError
from ..files.atomic import replacing
from ..plugin.interfaces import HUB
from .download import OnBytes, download
from .home import home, writing_home

PREFIX = "hf://"
TIMEOUT = 20.0  # seconds
SUFFIXES = (".safetensors", ".pth")
REVISION = "main"
LONGEST = 255
"""Characters of a name that the hub tells."""
logger = logging.getLogger(__name__)


class UnreachableError(WeightsError):
    """The hub did not give what was asked for, and it is not here."""

    def __init__(self, reference: str, why: str, hint: str) -> None:
        super().__init__(f"{reference} cannot be fetched ({why}). {hint}")
        self.why = why


def parse(reference: str) -> tuple[str, str]:
    """Repository and revision of ``hf://owner/name@revision``. Raises `ConfigError`."""
    match = HUB.fullmatch(reference)
    if not match:
        raise ConfigError(f"{reference!r} is not a name on the hub; write hf://owner/name, e.g. hf://geshang/focus_large_sd")
    return match[1], match[2] or REVISION


def fetch(reference: str, on_bytes: OnBytes | None = None) -> Path:
    """The only checkpoint in a repository, fetched once and gone on with where an earlier fetch stopped. Offline, what is here already
    is taken; raises `WeightsError` that says which file to fetch and how to give it."""
    repository, revision = parse(reference)
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        info = HfApi().model_info(repository, revision=revision, timeout=TIMEOUT)
        name = _inside(only_checkpoint((file.rfilename for file in info.siblings or []), reference), reference)
        commit = _inside(info.sha or revision, reference)
        cached = try_to_load_from_cache(repository, name, revision=commit)
        if isinstance(cached, str):
            return Path(cached)
        target = _folder(repository) / commit / name
        if not target.is_file():
            with writing_home(reference), patiently():
                download(repository, name, commit, target, on_bytes)
    except WeightsError:
        raise
    except Exception as error:  # the hub's client has errors of its own, its HTTP library others
        here = fetched(reference)
        if here is None:
            hint = (
                f"On a machine with a connection, fetch the one .pth or .safetensors file of {page(repository, revision)} "
                f"and give its path instead of {reference}"
            )
            raise UnreachableError(reference, reason(error), hint) from error
        return here
    _remember(repository, revision, commit)
    return target


def fetched(reference: str) -> Path | None:
    """What is here already of a repository, in our folder or in the hub's cache; nobody is asked."""
    repository, revision = parse(reference)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    note = _folder(repository) / "refs" / revision.replace("/", "--")
    commit = note.read_text("utf-8").strip() if note.is_file() else revision
    folders = [_folder(repository) / commit]
    with suppress(LocalEntryNotFoundError):
        folders.append(Path(snapshot_download(repository, revision=revision, local_files_only=True)))
    for folder in folders:
        found = [path for path in folder.rglob("*") if path.suffix in SUFFIXES and not path.name.startswith(".")]
        if len(found) == 1:
            return found[0]
    return None


def only_checkpoint(names: Iterable[str], reference: str) -> str:
    """The one file that can be a checkpoint. Raises `WeightsError`."""
    found = [name for name in names if isinstance(name, str) and name.endswith(SUFFIXES)]
    if len(found) != 1:
        what = f"several checkpoints ({', '.join(found)})" if found else "no .pth or .safetensors file"
        raise WeightsError(f"{reference} holds {what}, one was expected; fetch the right file and give its path")
    return found[0]


def _inside(name: str, reference: str) -> str:
    """A name that the hub tells, which becomes a place below a folder of ours. Raises `WeightsError` where it would lead out of it."""
    known = isinstance(name, str) and name.isprintable() and "\\" not in name and len(name) <= LONGEST
    if not known or any(part in ("", ".", "..") for part in name.split("/")):
        raise WeightsError(f"{reference} holds {name!r:.80}, which is no name in a repository; nothing was fetched")
    return name


@contextmanager
def patiently() -> Iterator[None]:
    """One line of ours where the client tries again, in place of the many that it writes of each time."""
    told = False

    def instead(record: logging.LogRecord) -> bool:
        nonlocal told
        if not told:
            logger.warning("the hub does not answer as it should; trying again for a while")
        told = True
        return False

    loggers = [logging.getLogger(f"huggingface_hub.{module}") for module in ("file_download", "utils._http")]
    for theirs in loggers:
        theirs.addFilter(instead)
    try:
        yield
    finally:
        for theirs in loggers:
            theirs.removeFilter(instead)


def page(repository: str, revision: str = REVISION) -> str:
    """Where a person finds the files."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repository}/tree/{revision}"


def reason(error: Exception) -> str:
    """Why the hub did not give what was asked for, in a few words. The client's own messages are whole paragraphs."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

    if type(error) is RuntimeError and isinstance(error.__cause__, Exception):
        return reason(error.__cause__)  # the client wraps what breaks an upload
    kinds = {
        GatedRepoError: "its owner lets only some in, ask for access on its page and run: hf auth login",
        RevisionNotFoundError: "there is no such revision",
        RepositoryNotFoundError: "there is no such repository, or it is private: hf auth login, or set HF_TOKEN",
        OfflineModeIsEnabled: "HF_HUB_OFFLINE forbids asking the hub",
    }
    told = next((text for kind, text in kinds.items() if isinstance(error, kind)), "")
    if not told and isinstance(error, HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        told = "the token is not accepted (401): hf auth login, or set HF_TOKEN" if status == 401 else f"the hub answers {status}"
    lines = str(error).strip().splitlines()
    return told or (lines[0] if lines else type(error).__name__)


def _folder(repository: str) -> Path:
    return home() / "hub" / repository.replace("/", "--")


def _remember(repository: str, revision: str, commit: str) -> None:
    """Which commit a revision was, for when nobody can be asked."""
    note = _folder(repository) / "refs" / revision.replace("/", "--")
    if not note.is_file() or note.read_text("utf-8") != commit:
        with replacing(note) as beside:
            beside.write_text(commit, encoding="utf-8")
