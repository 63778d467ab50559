"""Images to be looked at: masks laid over them, and contact sheets of many in rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

ImageArray = NDArray[np.uint8]

GAP = 6
TITLE = 22
PAPER = (255, 255, 255)
INK = (40, 40, 40)
OVERLAY_COLOUR = np.array([255, 40, 40])


def overlay(image: ImageArray, mask: NDArray[np.bool_]) -> ImageArray:
    """The image with its foreground tinted and outlined."""
    reach = (max(3, round(max(mask.shape) / 200)) | 1) // 2  # on both sides, so that the line lies on the border
    border = _grown(mask, reach) & _grown(~mask, reach)
    strength = np.where(border, 1.0, 0.45 * mask)[..., None]
    return np.rint(image * (1 - strength) + OVERLAY_COLOUR * strength).astype(np.uint8)


def _grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """The mask and all within a square of so many pixels around each of its own."""
    for axis in (0, 1):
        lines = np.moveaxis(mask, axis, 0)
        grown = lines.copy()
        for step in range(1, min(reach, len(lines) - 1) + 1):
            grown[step:] |= lines[:-step]
            grown[:-step] |= lines[step:]
        mask = np.moveaxis(grown, 0, axis)
    return mask


def contact_sheet(rows: Sequence[Sequence[ImageArray]], titles: Sequence[str] = (), *, cell: int = 160, groups: int = 0) -> ImageArray:
    """Rows of images (`[H, W]` grey or `[H, W, 3]`, uint8, any size) as one image `[H, W, 3]`.

    Every image is fitted into a square of `cell` pixels, its shape kept. `titles` stand over the columns. `groups` rows stand beside
    one another; 0 chooses as many as make the sheet about as wide as high.
    """
    columns = max(len(row) for row in rows)
    groups = groups or max(1, round((len(rows) / columns) ** 0.5))
    high = -(-len(rows) // groups)
    pitch = cell + GAP
    top = GAP + (TITLE if titles else 0)
    group_width = columns * pitch + GAP
    sheet = Image.new("RGB", (groups * group_width + GAP, top + high * pitch), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for group in range(groups):
        for column, title in enumerate(titles):
            draw.text((GAP + group * group_width + column * pitch, GAP), title, fill=INK, font=font)
    for index, row in enumerate(rows):
        group, line = divmod(index, high)
        for column, picture in enumerate(row):
            small = ImageOps.contain(Image.fromarray(picture).convert("RGB"), (cell, cell))
            left = GAP + group * group_width + column * pitch + (cell - small.width) // 2
            sheet.paste(small, (left, top + line * pitch + (cell - small.height) // 2))
    return np.asarray(sheet)


def captioned_sheet(rows: Sequence[tuple[str, Sequence[tuple[str, ImageArray]]]], *, cell: int = 170) -> ImageArray:
    """Rows of images with a heading each, every image (as for `contact_sheet`) with its caption above, as one image `[H, W, 3]`."""
    columns = max((len(images) for _, images in rows), default=1)
    pitch, high = cell + GAP, TITLE + TITLE + cell + GAP
    sheet = Image.new("RGB", (columns * pitch + GAP, len(rows) * high + GAP), PAPER)
    draw, font, strong = ImageDraw.Draw(sheet), ImageFont.load_default(size=12), ImageFont.load_default(size=14)
    for row, (heading, images) in enumerate(rows):
        top = GAP + row * high
        draw.text((GAP, top), heading, fill=(0, 0, 0), font=strong)
        for column, (caption, picture) in enumerate(images):
            left = GAP + column * pitch
            draw.text((left, top + TITLE), caption, fill=INK, font=font)
            small = _fitted(picture, cell)
            sheet.paste(small, (left, top + 2 * TITLE))
    return np.asarray(sheet)


def _fitted(picture: ImageArray, cell: int) -> Image.Image:
    """In a square of `cell` pixels, its shape kept; what has fewer pixels keeps their borders."""
    image = Image.fromarray(picture).convert("RGB")
    enlarged = max(image.size) < cell
    return ImageOps.contain(image, (cell, cell), Image.Resampling.NEAREST if enlarged else Image.Resampling.BICUBIC)
