"""Explanations of several images as a page of HTML and as sheets, beside their truths and beside another network's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from ..errors import ConfigError, DataError
from ..files import page
from ..files.images import list_images, read_mask
from ..inference.explain import Colours, Explanation
from ..inference.explain.views import Row, rows, sheet
from .errors import Errors, errors_by_kind
from .report import View, error_map
from .samples import Mask, align

if TYPE_CHECKING:
    from ..inference.model import Model

LIMIT = 24
"""Images of one call: all of their features are kept, so that one choice of colours serves them all."""


@dataclass(frozen=True)
class Explained:
    """An image, what one or two networks made of it, and the truth where it is known."""

    name: str
    by_network: dict[str, Explanation]
    truth: Mask | None = None

    def errors(self, network: str) -> Errors | None:
        """By kind, where the truth is known."""
        if self.truth is None:
            return None
        return errors_by_kind(self._level(network), self.truth)

    def error_row(self, network: str) -> list[Row]:
        """The truth and the map of errors, for a sheet; nothing without a truth."""
        if self.truth is None:
            return []
        errors, result = errors_by_kind(self._level(network), self.truth), self.by_network[network].result
        shown = error_map(View(result.image, self.truth, self._level(network)))
        return [(f"Errors: {errors.line}", [("truth", self.truth.astype(np.uint8) * 255), ("missed blue, marked red", shown)])]

    def _level(self, network: str) -> NDArray[np.uint8]:
        level: NDArray[np.uint8] = np.rint(self.by_network[network].result.probability * np.float32(255)).astype(np.uint8)
        return level


def explain_images(
    models: Mapping[str, Model],
    paths: Sequence[Path],
    *,
    masks: Path | None = None,
    points: Sequence[tuple[float, float]] = (),
    on_done: Callable[[str], None] = lambda name: None,
) -> list[Explained]:
    """What each network makes of each image, with the true mask of its name out of the folder `masks`.

    Raises `ConfigError` for more than `LIMIT` images, and `DataError` for what cannot be read, a point outside of an image, or an image
    without its mask.
    """
    if len(paths) > LIMIT:
        raise ConfigError(f"{len(paths)} images are too many to look at; at most {LIMIT} are explained at once")
    truths = _masks_of(paths, masks) if masks else {}
    explained: list[Explained] = []
    for path in paths:
        by_network = {name: model.explain(path, points) for name, model in models.items()}
        height, width = next(iter(by_network.values())).result.image.shape[:2]
        truth = read_mask(truths[path], size=(height, width)) if truths else None
        explained.append(Explained(_unused(path.stem, [one.name for one in explained]), by_network, truth))
        on_done(path.name)
    return explained


def _unused(stem: str, taken: Sequence[str]) -> str:
    """The name of a sheet: the image's own, numbered where another image has it; file systems may not tell Cat from cat."""
    names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 2))]
    folded = {name.casefold() for name in taken}
    return next(name for name in names if name.casefold() not in folded)


def _masks_of(paths: Sequence[Path], folder: Path) -> dict[Path, Path]:
    files = {path.stem: path for path in list_images(folder)}
    found, _ = align(files, [path.stem for path in paths])
    for path in paths:
        if path.stem not in found:
            raise DataError(f"{folder} has no mask for {path.name}; it would be called {path.stem}.png")
    return {path: files[found[path.stem]] for path in paths}


def colours_of(explained: Sequence[Explained]) -> dict[str, Colours]:
    """For each network one choice of colours over all images."""
    return {name: Colours([each.by_network[name] for each in explained]) for name in explained[0].by_network}


def sheets_of(one: Explained, colours: dict[str, Colours]) -> Image.Image:
    """Everything of one image as one image; the sheets of two networks side by side."""
    made = [sheet(explanation, colours[name], one.error_row(name)) for name, explanation in one.by_network.items()]
    whole = Image.new("RGB", (sum(each.width for each in made), max(each.height for each in made)), "white")
    left = 0
    for each in made:
        whole.paste(each, (left, 0))
        left += each.width
    return whole


def render(explained: Sequence[Explained], colours: dict[str, Colours]) -> str:
    """The page."""
    body = [page.paragraph(text) for text in READING]
    if any(one.truth is not None for one in explained):
        body += [page.heading("Errors by kind"), _errors_table(explained)]
    for one in explained:
        body.append(page.heading(one.name))
        for network, explanation in one.by_network.items():
            if len(one.by_network) > 1:
                body.append(page.heading(network, 3))
            body += _parts(one, network, explanation, colours[network])
    return page.page(f"What the network sees in {len(explained)} image{'s' if len(explained) > 1 else ''}", body)


READING = (
    "Each row is a step on the way from the image to its mask. Features are shown by the three main directions in which they differ, as "
    "red, green and blue; the directions are found over all images of this page together, so that colours compare between images, not "
    "between rows.",
    "fg and bg: the probability that a query stands for the foreground, or the background, in that head. Where a query may look is white.",
)


def _errors_table(explained: Sequence[Explained]) -> Markup:
    header = ["image", "network", "mean absolute error", "missed foreground", "marked background", "along the border", "parts found"]
    cells = []
    for one in explained:
        for network in one.by_network:
            if errors := one.errors(network):
                shares = [f"{errors.shares[kind]:.0%}" for kind in ("missed", "wrong", "border")]
                pixels = one.truth.size if one.truth is not None else 1
                cells.append([one.name, network, f"{errors.total / pixels:.4f}", *shares, f"{errors.found} of {errors.parts}"])
    return page.table(header, cells, names=2)


def _parts(one: Explained, network: str, explanation: Explanation, colours: Colours) -> list[Markup]:
    parts = [page.strip(heading, images) for heading, images in [*rows(explanation, colours), *one.error_row(network)]]
    if explanation.everywhere:
        places = np.array([look.point for look in explanation.everywhere], np.float32)
        samples = np.stack([look.samples for look in explanation.everywhere])
        enlarged = _at_least(explanation.image, 360)
        caption = f"Click: where the {explanation.everywhere[0].part} looks from there (coarse level red, middle yellow, fine blue)"
        parts.append(page.clickable(caption, enlarged, places, samples))
    return parts


def _at_least(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    scale = side / max(image.shape[:2])
    if scale <= 1:
        return image
    enlarged: NDArray[np.uint8] = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return enlarged
