"""From a configuration to a network and a refiner: asks the registry for the plugins that it names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ..config.schema import PluginChoice, RunConfig
from ..errors import ConfigError, did_you_mean
from ..plugin.interfaces import Prior, Prompts, RefinerLoss, StagedBackbone, resolve
from ..plugin.registry import registry
from .network import Network, prior_width


def build_network(config: RunConfig, *, weights: str | None = None) -> Network:
    """The network of a run, in training mode. `weights` overrides those of backbone and enhancer: ``none`` where a checkpoint follows.

    Raises `PluginError`, `ConfigError` or `WeightsError`, each naming what is wrong and what to do.
    """
    choice = config.backbone
    description = registry().get("backbone", choice.name)
    backbone: StagedBackbone = resolve(description.build)(choice.name, weights=weights or choice.weights, **choice.options)
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
    _check_options("enhancer", choice, build)
    options = {**choice.options, "weights": weights} if weights and "weights" in choice.options else choice.options
    return build(prior_width(backbone, config.pixel_decoder), mean=backbone.mean, std=backbone.std, **options)


def build_refiner(choice: PluginChoice, prompts: Sequence[Prompts], *, mean: Sequence[float], std: Sequence[float]) -> RefinerLoss:
    """A refiner for images that were normalised with `mean` and `std`. Raises as `build_network`."""
    build = resolve(registry().get("refiner", choice.name).build)
    _check_options("refiner", choice, build)
    return build(prompts, mean=mean, std=std, **choice.options)


def _check_options(kind: str, choice: PluginChoice, build: Callable[..., Any]) -> None:
    """Raise `ConfigError` for an option that the plugin's ``build`` does not name."""
    parameters = inspect.signature(build).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return  # it checks them itself
    known = [parameter.name for parameter in parameters if parameter.default is not parameter.empty]
    for option in choice.options:
        if option not in known:
            raise ConfigError(f"{kind} {choice.name} has no option {option!r}; {did_you_mean(option, known)}")
