"""The mask of an image, and the forms that people want it in. Knows no torch."""

from __future__ import annotations

import io
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..files.coco import run_lengths
from ..files.sheets import contact_sheet, overlay
from .outputs import save

SHEET = 24
"""Results that a notebook shows."""


@dataclass(frozen=True)
class Result:
    """The mask of interest of one image, at its own size."""

    probability: NDArray[np.float32]
    """`[H, W]`, 0..1"""
    image: NDArray[np.uint8]
    """The image `[H, W, 3]`, RGB."""
    threshold: float = 0.5

    @property
    def mask(self) -> NDArray[np.bool_]:
        """`[H, W]`, true inside."""
        return self.probability > self.threshold

    def cutout(self) -> Image.Image:
        """The image with the probability as its transparency, RGBA."""
        alpha = np.round(self.probability * 255).astype(np.uint8)
        return Image.fromarray(np.dstack([self.image, alpha]), "RGBA")

    def overlay(self) -> Image.Image:
        """The image with its mask tinted and outlined, RGB."""
        return Image.fromarray(overlay(self.image, self.mask))

    def rle(self) -> dict[str, Any]:
        """The mask as COCO writes run lengths: ``size`` (height, width) and ``counts``, column by column, background first."""
        return {"size": list(self.mask.shape), "counts": run_lengths(self.mask)}

    def save(self, path: str | PathLike[str], form: str = "mask") -> None:
        """Write one of the forms of ``focus predict --save``: mask, binary, cutout, overlay as an image, rle as JSON. Raises
        `ConfigError` for another form and `DataError` where it cannot be written."""
        save(self, Path(path), form)

    def _repr_png_(self) -> bytes:
        """What a notebook shows: image, probability, overlay."""
        return Results([self])._repr_png_()


class Results(list[Result]):
    """The results of several images, which a notebook shows as a sheet."""

    def _repr_png_(self) -> bytes:
        rows = [[result.image, _grey(result.probability), overlay(result.image, result.mask)] for result in self[:SHEET]]
        if not rows:
            rows = [[np.full((8, 8, 3), 255, np.uint8)] * 3]
        sheet = contact_sheet(rows, ("image", "probability", "overlay"), cell=320 if len(rows) == 1 else 160)
        content = io.BytesIO()
        Image.fromarray(sheet).save(content, "PNG")
        return content.getvalue()


def _grey(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(probability * 255).astype(np.uint8)
