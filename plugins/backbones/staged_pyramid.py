"""The module behind `pyramid.py`: timm's feature extractor, its four maps handed out one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import timm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from focus_framework import ConfigError
from focus_framework.plugin.kit.timm_networks import IMAGENET_MEAN, IMAGENET_STD, build_timm, file_facts, found_weights, three

STRIDES = (4, 8, 16, 32)
NOT_FOR_TIMM = ("mean", "std", "frozen_norm")


@dataclass
class Maps:
    """The four maps `[B, C, H, W]` of one batch."""

    maps: Sequence[Tensor]


class StagedPyramid(nn.Module):
    """`options` are what to build it with again, without weights."""

    pyramid = True

    def __init__(self, body: Any, *, mean: Any, std: Any, frozen_norm: bool, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.body = body
        self.widths = tuple(body.feature_info.channels())
        self.heads = 8
        self.mean, self.std = three(mean), three(std)
        self.frozen_norm = frozen_norm
        self.options = dict(options)

    def train(self, mode: bool = True) -> Self:
        """Batch norms stay as they are where they are frozen."""
        super().train(mode)
        if self.frozen_norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def begin(self, image: Tensor) -> Maps:
        return Maps(self.body(image))

    def enter(self, state: Maps, stage: int) -> tuple[Tensor, tuple[int, int]]:
        level = state.maps[stage]
        return level.flatten(2).transpose(1, 2), (level.shape[2], level.shape[3])

    def run(self, state: Maps, stage: int, tokens: Tensor) -> Tensor:
        return tokens

    def parameter_groups(self) -> Sequence[nn.Module]:
        return list(self.body.children())


def build_pyramid(name: str, weights: str, options: Mapping[str, Any]) -> StagedPyramid:
    """A pyramid by its timm name."""
    weights = found_weights(name, weights)
    facts: dict[str, Any] = {"frozen_norm": weights != "none"}
    facts |= {**file_facts(weights), **options}
    arguments = {key: value for key, value in facts.items() if key not in NOT_FOR_TIMM}
    levels = _levels(name)
    body: Any = build_timm(name, weights, features_only=True, out_indices=levels, **arguments)
    if tuple(body.feature_info.reduction()) != STRIDES:
        raise ConfigError(f"backbone {name} has strides {body.feature_info.reduction()}; {list(STRIDES)} are needed")
    published = timm.get_pretrained_cfg(name)
    facts.setdefault("mean", published.mean if published else IMAGENET_MEAN)
    facts.setdefault("std", published.std if published else IMAGENET_STD)
    return StagedPyramid(body, mean=facts["mean"], std=facts["std"], frozen_norm=facts["frozen_norm"], options=facts)


def _levels(name: str) -> tuple[int, ...]:
    """Indices of the maps at the four strides; networks differ in whether they have one at stride 2."""
    try:
        info = timm.create_model(name, features_only=True, pretrained=False).feature_info
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"backbone {name} has no pyramid of features: {reason}") from error
    found = {stride: index for index, stride in enumerate(info.reduction())}
    if not set(STRIDES) <= set(found):
        raise ConfigError(f"backbone {name} has strides {sorted(found)}; {list(STRIDES)} are needed")
    return tuple(found[stride] for stride in STRIDES)
