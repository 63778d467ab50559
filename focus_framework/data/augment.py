"""Augmentation: an image and its mask turned, cut and coloured together, by numbers drawn from one generator.

All chance comes from the `numpy.random.Generator` that the caller hands in, so a sample is a function of what that was seeded
with. A label is uint8: 0 background, 1 foreground, 255 ignore (where an image was padded, nobody knows what is there).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from ..plugin.interfaces import Task

IGNORE = 255
"""In a label: not known, not to be counted."""
PADDING = 128
"""In an image: what it is padded with."""
STEPS = 16
"""The short side is drawn from this many sizes, from a quarter of the target size to all of it: 128, 153, ... 512."""

Recipe: TypeAlias = Literal["none", "plain", "paper", "release"]
Sample: TypeAlias = tuple[Tensor, Tensor]
"""An image `[3, H, W]` uint8 and its label `[H, W]` uint8."""


@dataclass(frozen=True)
class Augmentation:
    """A recipe for one size, and what a task allows.

    - ``none``: the whole image, stretched
    - ``plain``: a part of the image, stretched; mild colour. For small data and practice images
    - ``paper``: the short side drawn from `STEPS` sizes, a part of `size` cut out, strong colour
    - ``release``: as ``paper``, but the part has 1.25 of `size`, of which the upper left is kept, as the authors' release does:
      the lower and right end of a long image is seen less often

    Colours stay as they are where `colour` is false. Where `sharpness` is false every image is brought to the scale that
    prediction uses and to no other: ``plain`` then shifts, the recipes of the paper take the largest of their sizes. `stretched` says
    whether prediction stretches images to a square; otherwise it brings their short side to `size`.
    """

    recipe: Recipe
    size: int
    colour: bool = True
    sharpness: bool = True
    stretched: bool = True

    @classmethod
    def of_task(cls, recipe: Recipe, size: int, task: Task, *, stretched: bool = True) -> Augmentation:
        """The recipe as far as the task allows it."""
        return cls(recipe, size, colour=task.change_colour, sharpness=task.change_sharpness, stretched=stretched)

    def __call__(self, image: Tensor, mask: Tensor, random: np.random.Generator) -> Sample:
        """An image `[3, H, W]` uint8 and its mask `[H, W]` bool to a sample of `size` x `size`."""
        label = mask.to(torch.uint8)
        if self.recipe == "none":
            return resize(image, label, self.size, self.size)
        if self.recipe == "plain":
            part = self._cut(image, label, random) if self.sharpness else self._shift(image, label, random)
        else:
            part = self._cut_as_published(image, label, random)
        image, label = part.image, part.label
        if random.random() < 0.5:
            image, label = image.flip(-1), label.flip(-1)
        if self.colour:
            image = change_colour(image, random, strength=0.4 if self.recipe == "plain" else 1.0)
        return self._pad(image, label, part.top, part.left)  # last, so that padding is not flipped or coloured

    def _cut(self, image: Tensor, label: Tensor, random: np.random.Generator) -> _Part:
        """Half to all of the image's area, nearly square, with a quarter of the foreground and of the background at least."""
        inside = int(label.sum())
        outside = label.numel() - inside
        for _ in range(10):
            top, left, height, width = _draw_box(random, label.shape[0], label.shape[1])
            part = label[top : top + height, left : left + width]
            kept = int(part.sum())
            if 4 * kept >= inside and 4 * (part.numel() - kept) >= outside:
                return _Part(*resize(F.crop(image, top, left, height, width), part, self.size, self.size))
        return _Part(*resize(image, label, self.size, self.size))

    def _shift(self, image: Tensor, label: Tensor, random: np.random.Generator) -> _Part:
        """What a square shows of the image at the scale of prediction, and of up to an eighth as much beyond its border."""
        if self.stretched:
            image, label = resize(image, label, self.size, self.size)
        else:
            image, label = resize_short_side(image, label, self.size, longest=4 * self.size)
        sides = np.array(label.shape)
        beyond = np.minimum(sides, self.size) // 8
        down, right = (int(move) for move in random.integers(np.minimum(self.size - sides, 0) - beyond, beyond + 1))
        rows = slice(max(-down, 0), self.size - down)
        columns = slice(max(-right, 0), self.size - right)
        return _Part(image[:, rows, columns], label[rows, columns], top=max(down, 0), left=max(right, 0))

    def _cut_as_published(self, image: Tensor, label: Tensor, random: np.random.Generator) -> _Part:
        """The sizes of the published recipe are for 512; others are in proportion."""
        drawn = int(random.integers(STEPS)) if self.sharpness else STEPS - 1
        image, label = resize_short_side(image, label, int(self.size * (drawn + 5) / 20), longest=4 * self.size)
        image, label = _random_crop(image, label, self.size * 5 // 4 if self.recipe == "release" else self.size, random)
        return _Part(image[:, : self.size, : self.size], label[: self.size, : self.size])

    def _pad(self, image: Tensor, label: Tensor, top: int, left: int) -> Sample:
        """Grey around the image, `IGNORE` around the label, up to the size."""
        height, width = label.shape
        sides = (left, self.size - width - left, top, self.size - height - top)
        pad = torch.nn.functional.pad
        return pad(image, sides, value=PADDING).contiguous(), pad(label, sides, value=IGNORE).contiguous()


class _Part(NamedTuple):
    """What is seen of an image, and where it lies in the sample."""

    image: Tensor
    label: Tensor
    top: int = 0
    left: int = 0


def resize(image: Tensor, label: Tensor, height: int, width: int) -> Sample:
    """Image and label (0 and 1) to another size; a pixel of the label is what most of its area is."""
    if label.shape == (height, width):
        return image, label
    smooth = F.resize(label[None] * 255, [height, width], antialias=True)[0]
    return F.resize(image, [height, width], antialias=True), (smooth > 127).to(torch.uint8)


def resize_short_side(image: Tensor, label: Tensor, short: int, *, longest: int) -> Sample:
    """The short side to `short` pixels, or less where the long side would have more than `longest`."""
    height, width = label.shape
    scale = min(short / min(height, width), longest / max(height, width))
    return resize(image, label, max(round(height * scale), 1), max(round(width * scale), 1))


def change_colour(image: Tensor, random: np.random.Generator, *, strength: float = 1.0) -> Tensor:
    """Brightness, contrast, saturation and hue of `[3, H, W]` uint8, each in half of the cases.

    The order and, at a `strength` of 1, the ranges are those of SSD (Liu et al. 2016; `v2.RandomPhotometricDistort`).
    """
    happens = random.random(5) < 0.5
    brightness, contrast, saturation, hue = random.uniform(-1, 1, 4) * np.array([0.125, 0.5, 0.5, 0.05]) * strength
    if happens[0]:
        image = F.adjust_brightness(image, 1 + brightness)
    if happens[1] and happens[4]:
        image = F.adjust_contrast(image, 1 + contrast)
    if happens[2]:
        image = F.adjust_saturation(image, 1 + saturation)
    if happens[3]:
        image = F.adjust_hue(image, hue)
    if happens[1] and not happens[4]:
        image = F.adjust_contrast(image, 1 + contrast)
    return image


def _draw_box(random: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of a part with half to all of the area, its sides 3:4 to 4:3 of the image's own."""
    area, stretch = random.uniform(0.5, 1), np.exp(random.uniform(-1, 1) * np.log(4 / 3))
    h = min(max(round(height * np.sqrt(area * stretch)), 1), height)
    w = min(max(round(width * np.sqrt(area / stretch)), 1), width)
    return int(random.integers(height - h + 1)), int(random.integers(width - w + 1)), h, w


def _random_crop(image: Tensor, label: Tensor, size: int, random: np.random.Generator) -> Sample:
    """At most `size` x `size`, anywhere."""
    height, width = min(size, label.shape[0]), min(size, label.shape[1])
    top, left = (int(random.integers(whole - part + 1)) for whole, part in zip(label.shape, (height, width), strict=True))
    return image[:, top : top + height, left : left + width], label[top : top + height, left : left + width]
