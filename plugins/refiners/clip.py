"""The CLIP refiners: the paper's contrastive loss, and that of the authors' release."""

from __future__ import annotations

from collections.abc import Iterator

from focus_framework import Refiner, hookimpl


@hookimpl
def focus_refiners() -> Iterator[Refiner]:
    yield Refiner(
        name="clip",
        title="CLIP tells foreground from background by the task's prompts (paper)",
        build="focus_plugins.refiners.contrast:build",
        heads="last",
    )
    yield Refiner(
        name="clip-release",
        title="The same with the release's soft targets, projection heads and templates",
        build="focus_plugins.refiners.clip_release:build",
        heads="all",
    )
