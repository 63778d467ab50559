"""Which of the two modules runs a network of timm: stages of transformer blocks where it is a plain ViT, maps where it is anything else."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from .staged_pyramid import StagedPyramid, build_pyramid
from .staged_vit import STAGES, StagedViT, build_named


def build_any(name: str, weights: str, options: Mapping[str, Any], image_size: int) -> StagedViT | StagedPyramid:
    """A network by its timm name, for images of `image_size`. Raises `ConfigError` or `WeightsError`, which name it."""
    if is_plain_vit(name, options):
        return build_named(name, weights, options)
    return build_pyramid(name, weights, options, image_size)


def is_plain_vit(name: str, options: Mapping[str, Any]) -> bool:
    """Whether it is a stack of blocks on patches of any number, of which each quarter can be run by itself."""
    module = sys.modules[timm.model_entrypoint(name.split(".")[0]).__module__]
    if not (hasattr(module, "VisionTransformer") or hasattr(module, "Eva")):
        return False
    arguments = {key: value for key, value in options.items() if key not in ("mean", "std", "frozen_norm")}
    try:
        with torch.device("meta"):
            network = timm.create_model(name, num_classes=0, dynamic_img_size=True, **arguments)
    except TypeError:  # it does not take any size, or not these options
        return False
    except Exception:  # the real one will say why
        return True
    if not isinstance(network, VisionTransformer | Eva) or type(network.patch_embed) is not PatchEmbed:
        return False
    return len(network.blocks) % STAGES == 0 and not getattr(network, "rope_mixed", False)
