"""The module behind `pyramid.py`: any network of timm as four maps, handed out one by one; scales that it lacks are made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import timm
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from timm.models._features import FeatureInfo
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from focus_framework import WeightsError
from focus_framework.plugin.kit.timm_networks import IMAGENET_MEAN, IMAGENET_STD, build_timm, file_facts, found_weights, three

from .offer import MULTIPLE, Offer, as_feature_net, kind, nearest_multiple, offers

STRIDES = (4, 8, 16, 32)
NOT_FOR_TIMM = ("mean", "std", "frozen_norm")


@dataclass
class Maps:
    """The four maps `[B, C, H, W]` of one batch."""

    maps: Sequence[Tensor]


class Source(NamedTuple):
    """Which of the network's maps a stage is made of."""

    level: int
    stride: int


class StagedPyramid(nn.Module):
    """`options` are what to build it with again, without weights. `notes` say what the network lacks and how that is made up for."""

    pyramid = True

    def __init__(self, body: Any, sources: Sequence[Source], offer: Offer, *, facts: Mapping[str, Any]) -> None:
        super().__init__()
        self.body = body
        used = sorted({source.level for source in sources})
        self.places = [used.index(source.level) for source in sources]
        channels = offer.info.channels([source.level for source in sources])
        steps = [round(math.log2(source.stride / stride)) for source, stride in zip(sources, STRIDES, strict=True)]
        self.scales = nn.ModuleList(_scaled(*pair) for pair in zip(channels, steps, strict=True))
        self.widths = tuple(width // 2 ** max(step, 0) for width, step in zip(channels, steps, strict=True))
        self.heads = 8
        self.mean, self.std = three(facts["mean"]), three(facts["std"])
        self.frozen_norm = facts["frozen_norm"]
        self.options = dict(facts)
        self.size, self.multiple = offer.size, offer.multiple
        self.notes = _notes(sources, steps, offer)

    def train(self, mode: bool = True) -> Self:
        """Batch norms stay as they are where they are frozen."""
        super().train(mode)
        if self.frozen_norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def begin(self, image: Tensor) -> Maps:
        size = [self.size or nearest_multiple(length, self.multiple) for length in image.shape[-2:]]
        if self.size or self.multiple != MULTIPLE:
            image = F.interpolate(image, size, mode="bilinear", align_corners=False)
        maps = self.body(image)
        return Maps([scale(maps[place]) for scale, place in zip(self.scales, self.places, strict=True)])

    def enter(self, state: Maps, stage: int) -> tuple[Tensor, tuple[int, int]]:
        level = state.maps[stage]
        return level.flatten(2).transpose(1, 2), (level.shape[2], level.shape[3])

    def run(self, state: Maps, stage: int, tokens: Tensor) -> Tensor:
        return tokens

    def parameter_groups(self) -> Sequence[nn.Module]:
        return [*self.body.children(), *(scale for scale in self.scales if any(True for _ in scale.parameters()))]


def _scaled(width: int, step: int) -> nn.Module:
    """A map of twice the size for each step up, as in ViTDet's simple pyramid (Li et al. 2022), or pooled for each step down."""
    if step <= 0:
        return nn.AvgPool2d(2**-step, ceil_mode=True) if step else nn.Identity()
    layers: list[nn.Module] = []
    for number in range(step):
        layers += [LayerNorm2d(width >> number), nn.GELU()] if number else []
        layers.append(nn.ConvTranspose2d(width >> number, width >> number + 1, 2, 2))
    return nn.Sequential(*layers)


def _notes(sources: Sequence[Source], steps: Sequence[int], offer: Offer) -> tuple[str, ...]:
    """What a user should know before training."""
    notes = []
    for stride, source, step in zip(STRIDES, sources, steps, strict=True):
        if source.stride != stride:
            how = "upsampled" if step > 0 else "pooled" if step < 0 else "resized"
            notes.append(f"the map at 1/{stride} is made from the network's map {source.level} at 1/{source.stride}, {how}")
    if offer.size:
        notes.append(f"images are resized to {offer.size} x {offer.size} for the backbone, which takes no other size")
    elif offer.multiple != MULTIPLE:
        notes.append(f"images are resized to multiples of {offer.multiple} for the backbone")
    return tuple(notes)


def build_pyramid(name: str, weights: str, options: Mapping[str, Any], image_size: int) -> StagedPyramid:
    """Any network by its timm name. Weights decide the size where only one of those that the network can be built for fits them."""
    weights = found_weights(name, weights)
    facts: dict[str, Any] = {"frozen_norm": weights != "none"}
    facts |= {**file_facts(weights), **options}
    arguments = {key: value for key, value in facts.items() if key not in NOT_FOR_TIMM}
    published = timm.get_pretrained_cfg(name)
    facts.setdefault("mean", published.mean if published else IMAGENET_MEAN)
    facts.setdefault("std", published.std if published else IMAGENET_STD)
    refusal: WeightsError | None = None
    for offer in offers(name, image_size, arguments):
        sources = choose(offer.info)
        levels = tuple(sorted({source.level for source in sources}))
        told = {**kind(offer.whole), **({} if offer.whole else {"out_indices": levels}), **arguments, **offer.arguments}
        try:
            body = as_feature_net(build_timm(name, weights, **told), levels)
        except WeightsError as error:
            refusal = refusal or error
            if offer.size:  # positions of another size that timm cannot resize
                continue
            break
        return StagedPyramid(body, sources, offer, facts=facts | ({"image_size": offer.size} if offer.size else {}))
    raise refusal or WeightsError(f"backbone {name}: no way of building it takes {weights}")


def choose(info: FeatureInfo) -> list[Source]:
    """For each stride the network's own map, the deepest; else the nearest one. Several stages on one stride share its depth evenly."""
    wanted = _by_stride(info.out_indices, info)
    if not set(STRIDES) <= set(wanted):
        wanted = _by_stride(range(len(info)), info)
    nearest = [min(wanted, key=lambda have: (abs(math.log2(have / stride)), have)) for stride in STRIDES]
    sources = []
    for stage, stride in enumerate(nearest):
        share, whole = nearest[: stage + 1].count(stride), nearest.count(stride)
        sources.append(Source(wanted[stride][max(share * len(wanted[stride]) // whole - 1, 0)], stride))
    return sources


def _by_stride(indices: Sequence[int], info: FeatureInfo) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for index in indices:
        found.setdefault(info.reduction(index), []).append(index)
    return found
