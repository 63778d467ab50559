"""From a configuration to a network and a refiner: asks the registry for the plugins that it names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from ..config.schema import PluginChoice, RunConfig
from ..files.reading import spelled_here
from ..plugin.calls import calling
from ..plugin.interfaces import Builder, Prior, Prompts, RefinerLoss, StagedBackbone, resolve
from ..plugin.options import checked_options
from ..plugin.registry import registry
from .blame import is_memory_short
from .bounds import refuse_beyond_memory
from .network import Network, prior_width
from .trial import built, built_backbone, built_conditioner


def build_network(config: RunConfig, *, weights: str | None = None, copies: int = 1) -> Network:
    """The network of a run, in training mode. `weights` overrides those of backbone and enhancer: ``none`` where a checkpoint follows;
    `copies` is how many times its weights will be in memory.

    Raises `PluginError`, `ConfigError` or `WeightsError`, each naming what is wrong and what to do.
    """
    refuse_beyond_memory(config, partial(_build, weights="none"), copies=copies)
    return _build(config, weights=weights)


def _build(config: RunConfig, *, weights: str | None) -> Network:
    choice = config.backbone
    description = registry().get("backbone", choice.name)
    build = _builder("backbone", choice.name, description.build)
    given = {**_told_the_size(build, config), **choice.options}
    options = checked_options("backbone", choice.name, build, given, reserved=("weights",))
    with calling(f"backbone {choice.name}", "build()", passing=is_memory_short):
        made = build(choice.name, weights=weights or spelled_here(choice.weights), **options)
    backbone = built_backbone(choice.name, made)
    prior = _build_prior(config, backbone, weights)
    network = Network(backbone, prior, enhancer=config.enhancer, pixel_decoder=config.pixel_decoder, decoder=config.decoder)
    network.conditioner = _build_conditioner(config)
    if config.trains_vectors_alone:
        network.freeze_all_but_vectors()
    elif choice.frozen:
        network.freeze_backbone()
    return network


def _build_conditioner(config: RunConfig) -> nn.Module | None:
    """It comes last, and leaves chance as it was: all else has the random weights that it has without."""
    choice = config.conditioner
    if choice.name == "none":
        return None
    build = _builder("conditioner", choice.name, registry().get("conditioner", choice.name).build)
    options = checked_options("conditioner", choice.name, build, choice.options)
    with torch.random.fork_rng(devices=[]), calling(f"conditioner {choice.name}", "build()", passing=is_memory_short):
        conditioner = build(config.known_tasks, width=config.pixel_decoder.width, **options)
    return built_conditioner(choice.name, conditioner, tasks=len(config.known_tasks))


def _told_the_size(build: Callable[..., Any], config: RunConfig) -> dict[str, int]:
    """The size of the run's images, where the backbone's `build` wants to know it."""
    return {"image_size": config.preprocessing.size} if "image_size" in inspect.signature(build).parameters else {}


def _build_prior(config: RunConfig, backbone: StagedBackbone, weights: str | None) -> Prior | None:
    choice = config.enhancer
    if choice.name == "none":
        return None
    build = _builder("enhancer", choice.name, registry().get("enhancer", choice.name).build)
    given = {**choice.options, "weights": weights} if weights and "weights" in choice.options else choice.options
    options = checked_options("enhancer", choice.name, build, given)
    with calling(f"enhancer {choice.name}", "build()", passing=is_memory_short):
        prior = build(prior_width(backbone, config.pixel_decoder), mean=backbone.mean, std=backbone.std, **options)
    return cast(Prior, built("enhancer", choice.name, prior))


def build_refiner(choice: PluginChoice, prompts: Sequence[Prompts], *, mean: Sequence[float], std: Sequence[float]) -> RefinerLoss:
    """A refiner for images that were normalised with `mean` and `std`. Raises as `build_network`."""
    build = _builder("refiner", choice.name, registry().get("refiner", choice.name).build)
    options = checked_options("refiner", choice.name, build, choice.options)
    with calling(f"refiner {choice.name}", "build()", passing=is_memory_short):
        loss = build(prompts, mean=mean, std=std, **options)
    return cast(RefinerLoss, built("refiner", choice.name, loss))


def _builder(kind: str, name: str, builder: Builder[Any]) -> Callable[..., Any]:
    """The plugin's ``build``, imported if it lies elsewhere."""
    with calling(f"{kind} {name}", "the module of build()"):
        return resolve(builder)
