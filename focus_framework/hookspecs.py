"""The four hooks of a plugin: each yields descriptions, which cost nothing to list."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from .interfaces import Backbone, Enhancer, Refiner, Task

PROJECT = "focus_framework"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def focus_tasks() -> Iterable[Task]:
    """What counts as foreground: prompts, metrics, data sets, practice images."""


@hookspec
def focus_backbones() -> Iterable[Backbone]:
    """Networks that turn a picture into features, in four stages."""


@hookspec
def focus_enhancers() -> Iterable[Enhancer]:
    """Priors (edges, say) that the features of every stage look up."""


@hookspec
def focus_refiners() -> Iterable[Refiner]:
    """Losses that compare masks with the task's prompts while training."""
