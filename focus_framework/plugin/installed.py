"""Weights of backbones that come with installed distributions, so that ``pretrained`` needs no connection.

An entry point of the group ``focus_framework.weights`` is called as the backbone and leads to a function without arguments that gives
the path of a file of weights in timm's names.
"""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint
from pathlib import Path

from ..errors import FocusError
from ..files.reading import problem
from .calls import calling, reason
from .registry import entry_points_of

logger = logging.getLogger(__name__)

GROUP = "focus_framework.weights"


def installed_weights(backbone: str) -> Path | None:
    """The installed file of a backbone's weights, if there is one."""
    offers = sorted((point for point in _offers() if point.name == backbone), key=lambda point: point.value)
    return next((path for point in offers if (path := _file(point))), None)


def installed_backbone() -> str | None:
    """The backbone whose weights are installed; the first by name where there are several, None where there is none."""
    names = sorted({point.name for point in _offers()})
    return next((name for name in names if installed_weights(name)), None)


def _offers() -> list[EntryPoint]:
    return [point for _, _, point in entry_points_of(GROUP)]


def _file(point: EntryPoint) -> Path | None:
    """What an entry point leads to. One that fails is passed over with a warning: it never stops the others."""
    try:
        with calling(f"weights of {point.name}", point.value):
            path = Path(point.load()())
        wrong = f"{path} {found}" if (found := problem(path)) else ""
    except FocusError as error:
        wrong = reason(error.__cause__ or error)
    if wrong:
        logger.warning("%s gives no weights of %s: %s", point.value, point.name, wrong)
    return None if wrong else path
