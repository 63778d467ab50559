"""Every timm network that gives features at strides 4, 8, 16 and 32 (`features_only`): MobileNet, ResNet, ConvNeXt, Swin, ..."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from focus_framework import Backbone, hookimpl

if TYPE_CHECKING:
    from .staged_pyramid import StagedPyramid

NAMED = {
    "mobilenetv2_100": "MobileNetV2, small and quick",
    "resnet50": "ResNet-50",
    "convnext_tiny": "ConvNeXt, tiny",
    "swinv2_tiny_window8_256": "Swin transformer V2, tiny",
}


@hookimpl
def focus_backbones() -> Iterable[Backbone]:
    for name, title in NAMED.items():
        yield Backbone(name=name, title=title, build=build)
    yield Backbone(name="timm-pyramid", title="family: every network of timm with a pyramid of features", build=build, claims=claims)


def claims(name: str) -> bool:
    """Whether timm knows the name, ViTs apart."""
    import timm

    return not name.startswith(("vit_", "deit")) and timm.is_model(name.split(".")[0])


def build(name: str, *, weights: str = "pretrained", **options: object) -> StagedPyramid:
    """A pyramid by its timm name. `options` go to timm, except ``mean``, ``std`` and ``frozen_norm``: whether batch norms keep the
    statistics they came with (the usual choice for small batches; default: where there are weights)."""
    from .staged_pyramid import build_pyramid

    return build_pyramid(name, weights, options)
