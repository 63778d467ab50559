"""Parameter groups and the course of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import AdamW

from ..config.schema import RunConfig, TrainingConfig
from ..model.network import Network
from ..plugin.interfaces import StagedBackbone

NORMS = (nn.LayerNorm, nn.GroupNorm, _BatchNorm)
EMBEDDINGS = ("decoder.query_content", "decoder.query_position", "decoder.level_embed", "conditioner.vectors")
POLYNOMIAL_POWER = 0.9
PRETRAINED_RATE = 0.1
"""Rate of a backbone that starts from weights, where none is asked for: at the rate of new layers it soon forgets what it knows."""


def build_optimizer(network: Network, others: Iterable[nn.Parameter], config: RunConfig) -> AdamW:
    """AdamW over the trainable parameters of the network and over `others` (a refiner's, say).

    As in the release: weight decay on weights, biases and the position embedding, none on norms and learned queries. The backbone
    learns at `backbone_rate` times the rate, each of its layers at `layer_decay` of the one above, and the rest of the encoder at
    `enhancer_rate`. Each group keeps its factor under ``scale``.
    """
    plan = config.training
    usual = 1.0 if config.backbone.weights == "none" and not config.init else PRETRAINED_RATE
    backbone_rate = usual if plan.backbone_rate is None else plan.backbone_rate
    rates = {"encoder.backbone.": backbone_rate, "encoder.": plan.enhancer_rate, "": 1.0}  # the first that fits counts
    depth = _depth_scales(network, plan.layer_decay)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter, decays in _with_decay(network):
        rate = next(rate for part, rate in rates.items() if name.startswith(part))
        scale = rate * depth.get(parameter, 1.0)
        groups.setdefault((scale, plan.weight_decay if decays else 0.0), []).append(parameter)
    groups.setdefault((1.0, plan.weight_decay), []).extend(p for p in others if p.requires_grad)
    settings = [
        {"params": parameters, "scale": scale, "weight_decay": decay, "lr": scale * plan.learning_rate}
        for (scale, decay), parameters in groups.items()
        if parameters and scale > 0
    ]
    for (scale, _), parameters in groups.items():
        if scale == 0:  # what never changes needs no gradients either
            for parameter in parameters:
                parameter.requires_grad_(False)
    return AdamW(settings, lr=plan.learning_rate, fused=True)


def _depth_scales(network: Network, decay: float) -> dict[nn.Parameter, float]:
    """Factor of each of the backbone's parameters. Its last layer has the whole rate; what belongs to no layer (class token, position
    embedding) comes before the first one."""
    backbone = network.encoder.backbone
    layers = cast(StagedBackbone, backbone).parameter_groups()
    scales = dict.fromkeys(backbone.parameters(), decay ** len(layers))
    for distance, layer in enumerate(reversed(layers)):
        scales |= dict.fromkeys(layer.parameters(), decay**distance)
    return scales


def _with_decay(network: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    for prefix, module in network.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            name = f"{prefix}.{leaf}" if prefix else leaf
            if parameter.requires_grad:
                yield name, parameter, not isinstance(module, NORMS) and name not in EMBEDDINGS


def rate_factor(progress: float, config: TrainingConfig) -> float:
    """The learning rate at `progress` (0 at the start of the run, 1 at its end) as a share of `learning_rate`."""
    if progress < config.warmup:
        return max(progress, 1e-3) / config.warmup
    rest = min(1.0, (progress - config.warmup) / (1.0 - config.warmup))
    if config.schedule == "polynomial":
        return float((1.0 - rest) ** POLYNOMIAL_POWER)
    if config.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * rest))
    return 1.0


def set_rate(optimizer: AdamW, rate: float) -> None:
    """Give every group its share of `rate`."""
    group: dict[str, Any]
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
