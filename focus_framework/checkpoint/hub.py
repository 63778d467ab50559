"""Checkpoints from the Hugging Face hub: ``hf://owner/name``, optionally ``@revision``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import ConfigError, WeightsError

PREFIX = "hf://"
TIMEOUT = 20.0  # seconds
SUFFIXES = (".safetensors", ".pth")


def fetch(reference: str) -> Path:
    """The only checkpoint in a repository, fetched once and then taken from the hub's cache. Offline the cache alone is asked; raises
    `WeightsError` that says which file to fetch and how to give it."""
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?", reference)
    if not match:
        raise ConfigError(f"{reference!r} is not a name on the hub; write hf://owner/name, e.g. hf://geshang/focus_large_sd")
    repository, revision = match.groups()
    from huggingface_hub import HfApi, hf_hub_download

    try:
        files = HfApi().model_info(repository, revision=revision, timeout=TIMEOUT).siblings or []
        name = _only((file.rfilename for file in files), reference)
        return Path(hf_hub_download(repository, name, revision=revision))
    except WeightsError:
        raise
    except Exception as error:  # the hub's client has errors of its own, its HTTP library others
        cached = _cached(repository, revision)
        if cached is None:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise WeightsError(
                f"{reference} cannot be fetched ({reason}). On a machine with a connection, fetch the one .pth or .safetensors file of "
                f"https://huggingface.co/{repository}/tree/{revision or 'main'} and give its path instead of {reference}"
            ) from error
        return cached


def _only(names: Iterable[str], reference: str) -> str:
    found = [name for name in names if name.endswith(SUFFIXES)]
    if len(found) != 1:
        what = f"several checkpoints ({', '.join(found)})" if found else "no .pth or .safetensors file"
        raise WeightsError(f"{reference} holds {what}, one was expected; fetch the right file and give its path")
    return found[0]


def _cached(repository: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    found = [path for path in folder.rglob("*") if path.suffix in SUFFIXES]
    return found[0] if len(found) == 1 else None
