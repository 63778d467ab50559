"""The edge enhancer: edges laid over the image, seen by a small convolutional network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from focus_framework import Enhancer, hookimpl

if TYPE_CHECKING:
    from .edge_prior import EdgePrior


@hookimpl
def focus_enhancers() -> Iterable[Enhancer]:
    yield Enhancer(name="edge", title="Canny edges laid over the image, on the device, in batches", build=build)
    yield Enhancer(name="edge-release", title="the release's edge image: OpenCV, per channel, on the normalised image", build=build_release)


def build(
    width: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    trunk: str = "resnet50",
    weights: str = "none",
    low: float = 0.1,
    high: float = 0.2,
    strength: float = 0.3,
) -> EdgePrior:
    """`trunk`: a ResNet of timm; `weights`: as of a backbone; `low`, `high`: Canny thresholds in 0..1; `strength`: share of edges."""
    from .edge_prior import CannyOverlay, EdgePrior

    overlay = CannyOverlay(mean=mean, std=std, low=low, high=high, strength=strength)
    return EdgePrior(width, overlay, trunk=trunk, weights=weights)


def build_release(width: int, *, mean: Sequence[float], std: Sequence[float], trunk: str = "resnet50", weights: str = "none") -> EdgePrior:
    """`trunk` and `weights` as of ``edge``; the release's edge image is made of the normalised image, without `mean` and `std`."""
    from .edge_prior import EdgePrior, ReleaseOverlay

    return EdgePrior(width, ReleaseOverlay(), trunk=trunk, weights=weights)
