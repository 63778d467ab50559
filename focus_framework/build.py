"""From a configuration to a network: asks the registry for the plugins that it names."""

from __future__ import annotations

from typing import Any

from .config import RunConfig
from .interfaces import Prior, StagedBackbone, resolve
from .model.network import Network, prior_width
from .registry import registry


def build_network(config: RunConfig, *, weights: str | None = None) -> Network:
    """The network of a run, in training mode. `weights` overrides ``backbone.weights``: ``none`` where a checkpoint follows.

    Raises `PluginError`, `ConfigError` or `WeightsError`, each naming what is wrong and what to do.
    """
    choice = config.backbone
    description = registry().get("backbone", choice.name)
    backbone: StagedBackbone = resolve(description.build)(choice.name, weights=weights or choice.weights, **choice.options)
    prior = _build_prior(config, backbone)
    network = Network(backbone, prior, enhancer=config.enhancer, pixel_decoder=config.pixel_decoder, decoder=config.decoder)
    if choice.frozen:
        network.freeze_backbone()
    return network


def _build_prior(config: RunConfig, backbone: StagedBackbone) -> Prior | None:
    choice = config.enhancer
    if choice.name == "none":
        return None
    build = resolve(registry().get("enhancer", choice.name).build)
    options: dict[str, Any] = choice.options
    return build(prior_width(backbone, config.pixel_decoder), mean=backbone.mean, std=backbone.std, **options)
