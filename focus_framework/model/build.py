"""From a configuration to a network and a refiner: asks the registry for the plugins that it names."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.schema import PluginChoice, RunConfig
from ..plugin.interfaces import Prior, Prompts, RefinerLoss, StagedBackbone, resolve
from ..plugin.options import checked_options
from ..plugin.registry import registry
from .network import Network, prior_width


def build_network(config: RunConfig, *, weights: str | None = None) -> Network:
    """The network of a run, in training mode. `weights` overrides those of backbone and enhancer: ``none`` where a checkpoint follows.

    Raises `PluginError`, `ConfigError` or `WeightsError`, each naming what is wrong and what to do.
    """
    choice = config.backbone
    description = registry().get("backbone", choice.name)
    build = resolve(description.build)
    options = checked_options("backbone", choice.name, build, choice.options, reserved=("weights",))
    backbone: StagedBackbone = build(choice.name, weights=weights or choice.weights, **options)
    prior = _build_prior(config, backbone, weights)
    network = Network(backbone, prior, enhancer=config.enhancer, pixel_decoder=config.pixel_decoder, decoder=config.decoder)
    if choice.frozen:
        network.freeze_backbone()
    return network


def _build_prior(config: RunConfig, backbone: StagedBackbone, weights: str | None) -> Prior | None:
    choice = config.enhancer
    if choice.name == "none":
        return None
    build = resolve(registry().get("enhancer", choice.name).build)
    given = {**choice.options, "weights": weights} if weights and "weights" in choice.options else choice.options
    options = checked_options("enhancer", choice.name, build, given)
    return build(prior_width(backbone, config.pixel_decoder), mean=backbone.mean, std=backbone.std, **options)


def build_refiner(choice: PluginChoice, prompts: Sequence[Prompts], *, mean: Sequence[float], std: Sequence[float]) -> RefinerLoss:
    """A refiner for images that were normalised with `mean` and `std`. Raises as `build_network`."""
    build = resolve(registry().get("refiner", choice.name).build)
    return build(prompts, mean=mean, std=std, **checked_options("refiner", choice.name, build, choice.options))
