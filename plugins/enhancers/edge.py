"""The edge enhancer: edges laid over the image, seen by a small convolutional network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from focus_framework import Enhancer, hookimpl

if TYPE_CHECKING:
    from .edge_prior import EdgePrior


@hookimpl
def focus_enhancers() -> Iterable[Enhancer]:
    yield Enhancer(name="edge", title="Canny edges laid over the image, on the device, in batches", build=build)
    yield Enhancer(name="edge-release", title="the release's edge image: OpenCV, per channel, on the normalised image", build=build_release)


def build(width: int, **options: object) -> EdgePrior:
    """`trunk`: a ResNet of timm; `weights`: as of a backbone; `low`, `high`: Canny thresholds in 0..1; `strength`: share of edges."""
    from .edge_prior import CannyOverlay, EdgePrior

    return EdgePrior(width, CannyOverlay, **options)  # type: ignore[arg-type]


def build_release(width: int, **options: object) -> EdgePrior:
    """`trunk` and `weights` as of ``edge``."""
    from .edge_prior import EdgePrior, ReleaseOverlay

    return EdgePrior(width, ReleaseOverlay, **options)  # type: ignore[arg-type]
