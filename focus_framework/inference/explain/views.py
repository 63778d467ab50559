"""Explanations as images: features as colours that compare between images, masks in grey, samples as dots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from ...files.sheets import captioned_sheet, overlay
from .explanation import Explanation, Looked

ImageArray = NDArray[np.uint8]

FEATURES = ("prior", "stage", "fused", "pixels", "mask_features")
LEVELS = ((255, 80, 60), (255, 200, 0), (60, 160, 255), (120, 220, 120))
"""Colours of the levels that samples lie on, the coarsest first."""
SIDE = 320
"""Pixels that an image with samples has at least, so that dots can be told apart."""

Row = tuple[str, list[tuple[str, ImageArray]]]


class Colours:
    """The three main directions in which features of a kind differ, as red, green and blue.

    They are found over all explanations that are given together, so that a colour means the same in each of their images.
    """

    def __init__(self, explanations: Sequence[Explanation]) -> None:
        self._bases: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
        names = [name for name in explanations[0].tensors if name.split(".")[0] in FEATURES]
        for name in names:
            self._bases[name] = _basis(torch.cat([each.tensors[name].flatten(1).T for each in explanations]))

    def __call__(self, name: str, features: Tensor) -> ImageArray:
        """`[C, h, w]` to `[h, w, 3]`."""
        mean, directions, low, spread = self._bases[name]
        scores = (features.flatten(1).T - mean) @ directions
        colours = ((scores - low) / spread).clamp(0, 1)
        return _grey(colours.view(*features.shape[1:], 3))


def _basis(features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of features `[N, C]`: their mean, three directions `[C, 3]`, and the first percentile and the range of the scores on each."""
    mean = features.mean(0)
    centred = features - mean
    covariance = (centred.T @ centred).double()
    directions = torch.linalg.eigh(covariance).eigenvectors[:, -3:].flip(1).float()
    if directions.shape[1] < 3:  # fewer than three channels
        directions = torch.nn.functional.pad(directions, (0, 3 - directions.shape[1]))
    largest = directions.abs().argmax(0)  # the sign of a direction means nothing; this one is the same on every machine
    directions = directions * directions[largest, torch.arange(3)].sign()
    scores = centred @ directions
    low, high = (torch.from_numpy(np.percentile(scores.numpy(), share, axis=0)).float() for share in (1, 99))
    return mean, directions, low, (high - low).clamp_min(1e-12)


def _grey(values: Tensor) -> ImageArray:
    """0..1 as uint8."""
    return np.rint(values.clamp(0, 1).numpy() * 255).astype(np.uint8)


def rows(explanation: Explanation, colours: Colours | None = None) -> list[Row]:
    """All images of an explanation in the order in which they come to be, by group, each with its caption."""
    colours = colours or Colours([explanation])
    tensors = explanation.tensors

    def features(prefix: str, caption: str) -> list[tuple[str, ImageArray]]:
        found = [name for name in tensors if name.split(".")[0] == prefix]
        return [(caption.format(name.split(".")[-1]), colours(name, tensors[name])) for name in found]

    first: list[tuple[str, ImageArray]] = [(_size("as seen", explanation.image), explanation.image)]
    if "edge_image" in tensors:
        first.append(("edge image", _grey(tensors["edge_image"].permute(1, 2, 0))))
    made = [
        ("Image", first),
        ("Enhancer: its maps", features("prior", "1/{}")),
        ("Backbone: after each stage", features("stage", "stage {}")),
        ("Encoder: both together" if "prior.4" in tensors else "Encoder", features("fused", "1/{}")),
        ("Pixel decoder", [*features("pixels", "1/{}"), ("mask features", colours("mask_features", tensors["mask_features"]))]),
        ("Ground decoder: mask of the foreground query, head by head", _heads(explanation, 0)),
        ("Ground decoder: mask of the background query", _heads(explanation, 1)),
        ("Where the foreground query may look (masked attention)", _attention(explanation, 0)),
        ("Where the background query may look", _attention(explanation, 1)),
        ("Deformable attention: where it looks from the point", [(look.part, dots(explanation, look)) for look in explanation.looked]),
        ("Joint prediction, by rule", _joint(explanation)),
    ]
    return [(heading, images) for heading, images in made if images]


def tiles(explanation: Explanation, colours: Colours | None = None) -> dict[str, ImageArray]:
    """The images by name, for a program."""
    return {f"{heading}: {caption}": image for heading, images in rows(explanation, colours) for caption, image in images}


def _size(caption: str, image: ImageArray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}, {caption}"


def _heads(explanation: Explanation, side: int) -> list[tuple[str, ImageArray]]:
    query = explanation.queries[side]
    chances = explanation.tensors["class_probabilities"][:, query]
    captions = ["learned queries", *(f"layer {number}" for number in range(1, len(chances)))]
    return [
        (f"{caption}: {'fg' if side == 0 else 'bg'} {100 * float(chance[side]):.0f} %", _grey(mask[query]))
        for caption, chance, mask in zip(captions, chances, explanation.tensors["masks"], strict=True)
    ]


def _attention(explanation: Explanation, side: int) -> list[tuple[str, ImageArray]]:
    query = explanation.queries[side]
    found = {name: tensor for name, tensor in explanation.tensors.items() if name.startswith("attention.")}
    shown = [(f"layer {name.split('.')[1]}", _grey(tensor[query])) for name, tensor in found.items()]
    if side == 0:
        shown.insert(0, ("first mask (PCA)", _grey(explanation.tensors["first_mask"])))
    return shown


def _joint(explanation: Explanation) -> list[tuple[str, ImageArray]]:
    shown = [(name.split(".")[1], _grey(tensor)) for name, tensor in explanation.tensors.items() if name.startswith("joint.")]
    result = explanation.result
    return [*shown, ("the mask", overlay(result.image, result.mask))]


def dots(explanation: Explanation, look: Looked) -> ImageArray:
    """The image with a cross at the place and a dot at each sample: the larger, the more it counts; a colour for each level."""
    image = Image.fromarray(explanation.image)
    scale = max(1.0, SIDE / max(image.size))
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    largest = max(float(look.samples[:, 3].max()), 1e-6)
    for x, y, level, weight in look.samples.tolist():
        radius = 1 + 5 * (weight / largest) ** 0.5
        centre = (x * image.width, y * image.height)
        box = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
        draw.ellipse(box, fill=LEVELS[int(level) % len(LEVELS)], outline=(0, 0, 0))
    x, y = look.point[0] * image.width, look.point[1] * image.height
    for colour, width in (((0, 0, 0), 5), ((255, 255, 255), 2)):
        draw.line((x - 9, y, x + 9, y), fill=colour, width=width)
        draw.line((x, y - 9, x, y + 9), fill=colour, width=width)
    return np.asarray(image)


def sheet(explanation: Explanation, colours: Colours | None = None, more: Sequence[Row] = ()) -> Image.Image:
    """All of an explanation, and `more` rows, as one image."""
    return Image.fromarray(captioned_sheet([*rows(explanation, colours), *more]))
