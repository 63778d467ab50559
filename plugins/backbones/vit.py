"""Plain vision transformers of timm (DINOv2, DINOv3 and any other), run in four stages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from focus_framework import Backbone, hookimpl

if TYPE_CHECKING:
    from .staged_pyramid import StagedPyramid
    from .staged_vit import StagedViT

DINO_LICENCES = {"dinov2": "Apache-2.0", "dinov3": "DINOv3 Licence"}


@hookimpl
def focus_backbones() -> Iterable[Backbone]:
    for size in ("small", "base", "large", "giant"):
        yield _backbone(f"vit_{size}_patch14_dinov2", f"DINOv2 ViT, {size}, patches of 14", "dinov2")
    for size in ("small", "base", "large", "7b"):
        name = "vit_7b_patch16_dinov3" if size == "7b" else f"vit_{size}_patch16_dinov3"
        yield _backbone(name, f"DINOv3 ViT, {size}, patches of 16", "dinov3")
    yield Backbone(name="vit", title="a plain ViT of any size, from random weights", build=build_plain)
    yield Backbone(name="timm-vit", title="family: every ViT that timm names (vit_*, deit*)", build=build, claims=claims)


def _backbone(name: str, title: str, family: str) -> Backbone:
    return Backbone(name=name, title=title, build=build, licence=DINO_LICENCES[family])


def claims(name: str) -> bool:
    """Names of timm that say ViT; only those prefixes, so that asking costs no import of timm for other names."""
    if not name.startswith(("vit_", "deit_", "deit3_")):
        return False
    import timm

    return timm.is_model(name.split(".")[0])


def build(name: str, *, weights: str = "pretrained", image_size: int = 224, **options: object) -> StagedViT | StagedPyramid:
    """A ViT by its timm name. `options` go to timm: ``drop_path_rate``, ``img_size`` (pre-training grid), ... `image_size` is that of
    the run, for those that take one size only."""
    from .choosing import build_any

    return build_any(name, weights, options, image_size)


def build_plain(name: str, *, weights: str = "none", **options: object) -> StagedViT:
    """A ViT of the given ``embed_dim``, ``depth``, ``num_heads``, ``patch_size``, ``img_size``, ``init_values``, ``drop_path_rate``."""
    from .staged_vit import build_custom

    return build_custom(weights, options)
