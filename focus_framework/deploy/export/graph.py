"""What is exported: a network with the joining of its heads behind it, and the normalisation before it if asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ...errors import FocusError, PluginError
from ...inference.model import Model, maps_at
from ...model.blame import Parts, blamed, is_memory_short
from ...model.network import MULTIPLE, Network
from ...plugin.calls import is_interruption, printing_to_stderr, reason
from ...plugin.kit.timm_networks import padding_by_stride

Size = tuple[int, int]
"""(height, width)"""
BATCHES, SIDES = 4096, 1024
"""The most images of a batch, and of 32 pixels of a side, that a file may be called with."""
LONGEST = 1 << 16
"""Pixels of a side of the mask asked for."""
INPUTS, OUTPUTS = ("image", "inner", "size"), ("probability", "network_probability")
EXAMPLE: Size = (128, 160)
"""What is traced where the size is free: two sides, so that none is taken for the other."""


class Masks(nn.Module):
    """Images to maps of interest, as `Model.probabilities` makes them.

    ``image`` is `[B, 3, H, W]`, normalised and padded with zeros, or, `raw`, uint8 RGB `[B, H, W, 3]`; ``inner`` the (height, width)
    of the images without their padding, ``size`` that of the masks wanted. Returns the maps `[B, *size]` and, at network size, `[B, H, W]`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Model, *, raw: bool) -> None:
        super().__init__()
        self.network: Network = model.network
        self.settings, self.raw = model.config.prediction, raw
        self.register_buffer("mean", model.mean, persistent=False)
        self.register_buffer("std", model.std, persistent=False)

    def forward(self, image: Tensor, inner: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        pixels = self._normalised(image, inner) if self.raw else image
        heads = self.network(pixels)
        padded = (pixels.shape[2], pixels.shape[3])
        height, width = _numbers(inner, BATCHES * MULTIPLE)
        torch._check(height <= padded[0])
        torch._check(width <= padded[1])
        rows, columns = _numbers(size, LONGEST)
        class_logits, mask_logits = heads.class_logits[-1].float(), heads.mask_logits[-1].float()
        wanted = maps_at(class_logits, mask_logits, padded, (height, width), (rows, columns), self.settings)
        return wanted, maps_at(class_logits, mask_logits, padded, padded, padded, self.settings)

    def _normalised(self, image: Tensor, inner: Tensor) -> Tensor:
        """As `Model.prepare` does it: what lies outside of `inner` becomes zero after the normalisation."""
        pixels = (image.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        rows = torch.arange(pixels.shape[2], device=image.device)[:, None] < inner[0]
        columns = torch.arange(pixels.shape[3], device=image.device)[None] < inner[1]
        return pixels * (rows & columns)


def _numbers(pair: Tensor, most: int) -> tuple[int, int]:
    """Two numbers of 1 or more that are only known when the file runs."""
    numbers = cast("tuple[int, int]", tuple(pair.tolist()))
    for number in numbers:
        torch._check(number >= 1)
        torch._check(number <= most)
    return numbers


def example(size: Size | None, *, raw: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Arguments to trace with: two images, because a batch of one would stay one for ever."""
    height, width = size or EXAMPLE
    image = torch.zeros(2, height, width, 3, dtype=torch.uint8) if raw else torch.zeros(2, 3, height, width)
    return image, torch.tensor([height - 8, width - 16]), torch.tensor([2 * height + 1, width + 5])


def trace(model: Model, *, size: Size | None, raw: bool) -> ExportedProgram:
    """The graph of a model that lies on the CPU, for any batch, and for any size that is a multiple of 32 unless one is given. Raises
    `PluginError` with the plugin and the operation that cannot be traced."""
    first = 1 if raw else 2
    dimensions: dict[int, Any] = {0: Dim("batch", min=1, max=BATCHES)}
    if size is None:
        dimensions |= {first: MULTIPLE * Dim("rows", max=SIDES), first + 1: MULTIPLE * Dim("columns", max=SIDES)}
    with torch.no_grad(), padding_by_stride(), _naming(model.parts_of_plugins):
        return torch.export.export(
            Masks(model, raw=raw).eval(), example(size, raw=raw), dynamic_shapes=(dimensions, None, None), strict=False
        )


@contextmanager
def _naming(parts: Parts) -> Iterator[None]:
    """A block that traces; what a plugin raises in it, or makes torch raise, becomes a `PluginError`."""
    try:
        with printing_to_stderr():
            yield
    except FocusError:
        raise
    except BaseException as error:  # a stranger's code runs in the trace
        if is_interruption(error) or is_memory_short(error):
            raise
        found = blamed(error, parts)
        if found is None:
            raise
        raise PluginError(
            f"{found.plugin} cannot be exported: {found.function} does what cannot be traced, {found.line}: {reason(error)}"
        ) from error
