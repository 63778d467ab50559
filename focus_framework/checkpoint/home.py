"""Where checkpoints that are fetched are kept."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "FOCUS_HOME"


def home() -> Path:
    """The folder that the variable FOCUS_HOME names, else one in the hub's cache."""
    from huggingface_hub import constants

    given = os.environ.get(VARIABLE, "")
    return Path(given).expanduser() if given else Path(constants.HF_HUB_CACHE) / "focus-framework"
