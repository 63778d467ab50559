"""The conditioner `example`: a task is known by images with masks."""

from __future__ import annotations

from collections.abc import Iterator

from focus_framework import Conditioner, hookimpl


@hookimpl
def focus_conditioners() -> Iterator[Conditioner]:
    yield Conditioner(
        name="example",
        title="A task is known by examples: what the network sees inside of their masks, and outside",
        build="focus_plugins.conditioners.example_vectors:build",
    )
