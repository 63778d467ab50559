"""Every network of timm that gives maps of features: MobileNet, ResNet, ConvNeXt, Swin, ..."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from focus_framework import Backbone, hookimpl

if TYPE_CHECKING:
    from .staged_pyramid import StagedPyramid
    from .staged_vit import StagedViT

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
    yield Backbone(name="timm-pyramid", title="family: every other network of timm", build=build, claims=claims)


def claims(name: str) -> bool:
    """Whether timm knows the name, ViTs apart."""
    import timm

    return not name.startswith(("vit_", "deit")) and timm.is_model(name.split(".")[0])


def build(name: str, *, weights: str = "pretrained", image_size: int = 224, **options: object) -> StagedPyramid | StagedViT:
    """A network by its timm name. `options` go to timm, except ``mean``, ``std`` and ``frozen_norm``: whether batch norms keep the
    statistics they came with (the usual choice for small batches; default: where there are weights). `image_size` is that of the run,
    for networks that take one size only."""
    from .choosing import build_any

    return build_any(name, weights, options, image_size)
