"""The modules behind `edge.py` (docs/method.md, 3 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import kornia
import numpy as np
import timm
import torch
from torch import Tensor, nn

from focus_framework import ConfigError, WeightsError
from focus_framework.plugin.kit.timm_networks import build_timm

from .release_edges import release_edge_images

STRIDES = [4, 8, 16, 32]


class CannyOverlay(nn.Module):
    """Grey, Gaussian blur 5x5, Canny, gradient magnitude along its edges; laid over the image, then normalised as the trunk expects.

    `low` and `high` are Canny's thresholds on the gradient of a grey image in 0..1, `strength` the share of the edges in the sum.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], low: float = 0.1, high: float = 0.2, strength: float = 0.3) -> None:
        super().__init__()
        self.low, self.high, self.strength = low, high, strength
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        return (self.overlaid(image) - self.mean) / self.std

    def overlaid(self, image: Tensor) -> Tensor:
        """The edge image itself, RGB `[B, 3, H, W]` in 0..1."""
        picture = (image.float() * self.std + self.mean).clamp(0, 1)
        grey = kornia.color.rgb_to_grayscale(picture)
        with torch.autocast(image.device.type, enabled=False):  # else its convolutions are of half precision, and find other edges
            # Without hysteresis, which asks the host after every pass whether to go on: weak edges stay, at half strength.
            _, edges = kornia.filters.canny(grey, self.low, self.high, kernel_size=(5, 5), sigma=(1.4, 1.4), hysteresis=False)
        return (1 - self.strength) * picture + self.strength * edges


class ReleaseOverlay(nn.Module):
    """What the release makes of the normalised image: times 255, rounded, clipped, RGB to BGR, blurred 5x5 (sigma 1.4), Canny
    (100, 200) in each channel; 0.7 blurred + 0.3 edges in 0..1, not normalised. By OpenCV on the CPU, where it is the quickest, and
    elsewhere, and in an exported file, in batches on the device, with the same bytes."""

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        pictures = (image.float() * 255 + 0.5).clamp(0, 255).to(torch.uint8)
        if image.device.type != "cpu" or torch.compiler.is_exporting():
            return release_edge_images(pictures) / 255
        overlaid = [release_edge_image(picture) for picture in pictures.permute(0, 2, 3, 1).numpy()]
        return torch.from_numpy(np.stack(overlaid)).permute(0, 3, 1, 2).float() / 255

    def overlaid(self, image: Tensor) -> Tensor:
        """The edge image, RGB `[B, 3, H, W]` in 0..1."""
        return self(image).flip(1)


def release_edge_image(picture: np.ndarray) -> np.ndarray:
    """One uint8 RGB image `[H, W, 3]` to the release's uint8 BGR edge image of the same size."""
    blurred = cv2.GaussianBlur(np.ascontiguousarray(picture[..., ::-1]), (5, 5), 1.4)
    edges = np.stack([cv2.Canny(np.ascontiguousarray(blurred[..., channel]), 100, 200) for channel in range(3)], -1)
    return cv2.addWeighted(blurred, 0.7, edges, 0.3, 0)


class EdgePrior(nn.Module):
    """Edge image through a ResNet; its four stages through 1x1 convolutions to `width` channels."""

    def __init__(self, width: int, overlay: CannyOverlay | ReleaseOverlay, *, trunk: str, weights: str) -> None:
        super().__init__()
        self.overlay = overlay
        if not timm.is_model(trunk):
            raise ConfigError(f"enhancer.options.trunk: timm has no network {trunk!r}; resnet50 and resnet18 are usual")
        try:
            body: Any = build_timm(trunk, weights, features_only=True, out_indices=(1, 2, 3, 4))
        except WeightsError as error:
            raise WeightsError(
                f"enhancer: the weights ({weights}) of its trunk {trunk} cannot be loaded. Give --set enhancer.options.weights=FILE with "
                "weights in timm's names, or --set enhancer.options.weights=none to start from random ones"
            ) from error
        if body.feature_info.reduction() != STRIDES:
            raise ConfigError(f"enhancer.options.trunk: {trunk} has no maps at strides {STRIDES}")
        self.trunk = body
        self.project = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in body.feature_info.channels())

    def forward(self, image: Tensor) -> list[Tensor]:
        # Channels last: the convolutions are quicker on every device, and a map becomes tokens without a copy.
        features = self.trunk(self.overlay(image).contiguous(memory_format=torch.channels_last))
        return [project(level) for project, level in zip(self.project, features, strict=True)]

    @torch.no_grad()
    def image_seen(self, image: Tensor) -> Tensor:
        """What `focus explain` shows of it: the edge image, RGB `[B, 3, H, W]` in 0..1."""
        return self.overlay.overlaid(image)
