"""The module behind `vit.py`: a timm ViT cut into four stages, any image size, one class token travelling along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import SwiGLUPacked
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from focus_framework import ConfigError
from focus_framework.plugin.kit.timm_networks import IMAGENET_MEAN, IMAGENET_STD, build_timm, file_facts, three

STAGES = 4


@dataclass
class Stream:
    """What travels through the stages."""

    tokens: Tensor
    prefix: Tensor
    """The class token `[B, 1, C]`, or `[B, 0, C]` where the model has none; it skips the interactions between the stages."""
    grid: tuple[int, int]
    rope: Tensor | None


class StagedViT(nn.Module):
    """`options` are what to build it with again, without weights. Register tokens and the final norm are dropped (docs/method.md, 2)."""

    pyramid = False

    def __init__(self, vit: VisionTransformer | Eva, *, mean: Any, std: Any, options: Mapping[str, Any]) -> None:
        super().__init__()
        depth = len(vit.blocks)
        if depth % STAGES:
            raise ConfigError(f"a backbone of {depth} blocks cannot be cut into {STAGES} stages of equal depth")
        self.vit = vit
        self.widths = (vit.embed_dim,) * STAGES
        self.heads = vit.blocks[0].attn.num_heads
        self.mean, self.std = three(mean), three(std)
        self.options = dict(options)
        self.per_stage = depth // STAGES
        self._position_prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
        self._drop_what_is_not_used()

    def _drop_what_is_not_used(self) -> None:
        self.vit.norm = nn.Identity()
        self.vit.reg_token = None
        for block in self.vit.blocks:
            if hasattr(block.attn, "num_prefix_tokens"):  # rotary embedding starts behind the prefix
                block.attn.num_prefix_tokens = 0 if self.vit.cls_token is None else 1

    def begin(self, image: Tensor) -> Stream:
        """The patches; what does not fill a patch at the right and the bottom is not seen."""
        patches = self.vit.patch_embed.proj(image)
        grid = (patches.shape[2], patches.shape[3])
        tokens = self.vit.patch_embed.norm(patches.flatten(2).transpose(1, 2))
        batch, _, width = tokens.shape
        token = self.vit.cls_token
        prefix = tokens.new_zeros(batch, 0, width) if token is None else token.expand(batch, -1, -1)
        if self.vit.pos_embed is not None:
            at_prefix, at_patches = self._positions(grid)
            tokens = tokens + at_patches
            prefix = prefix + at_prefix[:, : prefix.shape[1]] if self._position_prefix else prefix
        joined = self.vit.norm_pre(torch.cat([prefix, tokens], 1))
        prefix, tokens = joined.split([prefix.shape[1], tokens.shape[1]], 1)
        rope = getattr(self.vit, "rope", None)
        return Stream(tokens, prefix, grid, rope.get_embed(shape=grid) if rope is not None else None)

    def _positions(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The learned position embedding: of the prefix tokens, and of the patches resized to `grid` (bicubic, no antialias)."""
        trained = self.vit.patch_embed.grid_size
        count = self._position_prefix
        at_prefix, at_patches = self.vit.pos_embed[:, :count], self.vit.pos_embed[:, count:]
        if tuple(trained) == grid:
            return at_prefix, at_patches
        square = at_patches.float().transpose(1, 2).unflatten(2, trained)
        resized = F.interpolate(square, grid, mode="bicubic", align_corners=False)
        return at_prefix, resized.flatten(2).transpose(1, 2).to(at_patches.dtype)

    def enter(self, state: Stream, stage: int) -> tuple[Tensor, tuple[int, int]]:
        return state.tokens, state.grid

    def run(self, state: Stream, stage: int, tokens: Tensor) -> Tensor:
        stream = torch.cat([state.prefix, tokens], 1)
        extra = {} if state.rope is None else {"rope": state.rope}
        for block in self.vit.blocks[stage * self.per_stage : (stage + 1) * self.per_stage]:
            stream = block(stream, **extra)
        state.prefix, state.tokens = stream.split([state.prefix.shape[1], tokens.shape[1]], 1)
        return state.tokens

    def parameter_groups(self) -> Sequence[nn.Module]:
        return [self.vit.patch_embed, *self.vit.blocks]


def build_named(name: str, weights: str, options: Mapping[str, Any]) -> StagedViT:
    """A ViT by its timm name."""
    arguments = {key: value for key, value in options.items() if key not in ("mean", "std")}
    vit = build_timm(name, weights, num_classes=0, dynamic_img_size=True, **arguments)
    if not isinstance(vit, VisionTransformer | Eva):
        raise ConfigError(f"{name} is not a plain vision transformer of timm but a {type(vit).__name__}")
    facts = {"mean": vit.pretrained_cfg["mean"], "std": vit.pretrained_cfg["std"]}
    facts |= {**file_facts(weights), **options}
    return StagedViT(vit, mean=facts["mean"], std=facts["std"], options=facts)


def build_custom(weights: str, options: Mapping[str, Any]) -> StagedViT:
    """A ViT from its sizes; random weights."""
    if weights != "none":
        raise ConfigError(f"backbone vit has random weights only, not {weights!r}; name a model of timm, or --backbone-weights none")
    arguments = {key: value for key, value in options.items() if key not in ("mean", "std", "gated_mlp")}
    if options.get("gated_mlp"):  # the feed-forward layer of DINOv2-g
        arguments |= {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    try:
        vit = VisionTransformer(num_classes=0, dynamic_img_size=True, **arguments)
    except (TypeError, AssertionError) as error:
        given = ", ".join(f"{key} = {value!r:.40}" for key, value in options.items())
        raise ConfigError(f"backbone vit cannot be built with backbone.options {given}: {error}") from error
    mean, std = options.get("mean", IMAGENET_MEAN), options.get("std", IMAGENET_STD)
    return StagedViT(vit, mean=mean, std=std, options=options)
