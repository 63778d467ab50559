"""The five hooks of a plugin: each yields descriptions, which cost nothing to list."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from .interfaces import Backbone, Conditioner, Enhancer, Refiner, Task

PROJECT = "focus_framework"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
# A hook has no body: pluggy, and the documentation, want its signature alone.


@hookspec
def focus_tasks() -> Iterable[Task]:  # type: ignore[empty-body]
    """What counts as foreground: prompts, metrics, data sets, practice images."""


@hookspec
def focus_backbones() -> Iterable[Backbone]:  # type: ignore[empty-body]
    """Networks that turn an image into features, in four stages."""


@hookspec
def focus_enhancers() -> Iterable[Enhancer]:  # type: ignore[empty-body]
    """Priors (edges, say) that the features of every stage look up."""


@hookspec
def focus_refiners() -> Iterable[Refiner]:  # type: ignore[empty-body]
    """Losses that compare masks with the task's prompts while training."""


@hookspec
def focus_conditioners() -> Iterable[Conditioner]:  # type: ignore[empty-body]
    """Vectors that tell a network of several tasks which one is meant."""
