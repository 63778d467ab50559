"""Where checkpoints that are fetched are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import WeightsError

VARIABLE = "FOCUS_HOME"


def home() -> Path:
    """The folder that the variable FOCUS_HOME names, else one in the hub's cache."""
    from huggingface_hub import constants

    given = os.environ.get(VARIABLE, "")
    return Path(given).expanduser() if given else Path(constants.HF_HUB_CACHE) / "focus-framework"


@contextmanager
def writing_home(what: str) -> Iterator[None]:
    """Raise `WeightsError` where the disk refuses `what`, a full one among others."""
    try:
        yield
    except OSError as error:
        if not error.errno or isinstance(error, ConnectionError):  # not the disk's
            raise
        told = f"{what} cannot be written to {home()}: {error.strerror}; make room, or set {VARIABLE} to another folder"
        raise WeightsError(told) from error
