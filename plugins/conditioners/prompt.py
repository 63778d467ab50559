"""The conditioner `prompt`: a task is known by its sentences."""

from __future__ import annotations

from collections.abc import Iterator

from focus_framework import Conditioner, hookimpl


@hookimpl
def focus_conditioners() -> Iterator[Conditioner]:
    yield Conditioner(
        name="prompt",
        title="A task is known by its encoded sentences, or by learned vectors without a text encoder",
        build="focus_plugins.conditioners.prompt_vectors:build",
    )
