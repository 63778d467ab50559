"""Weights of backbones that come with installed distributions, so that ``pretrained`` needs no connection.

An entry point of the group ``focus_framework.weights`` is called as the backbone and leads to a function without arguments that gives
the path of a file of weights in timm's names.
"""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

logger = logging.getLogger(__name__)

GROUP = "focus_framework.weights"


def installed_weights(backbone: str) -> Path | None:
    """The installed file of a backbone's weights, if there is one."""
    offers = sorted(entry_points(group=GROUP, name=backbone), key=lambda point: point.value)
    return next((path for point in offers if (path := _file(point))), None)


def installed_backbone() -> str | None:
    """The backbone whose weights are installed; the first by name where there are several, None where there is none."""
    names = sorted({point.name for point in entry_points(group=GROUP)})
    return next((name for name in names if installed_weights(name)), None)


def _file(point: EntryPoint) -> Path | None:
    """What an entry point leads to. One that fails is passed over with a warning: it never stops the others."""
    try:
        path = Path(point.load()())
    except Exception as error:  # anybody's code
        logger.warning("%s gives no weights of %s: %s: %s", point.value, point.name, type(error).__name__, error)
        return None
    return path if path.is_file() else None
