"""Camouflaged object detection: what hides in its surroundings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from focus_framework import Prompts, Task, hookimpl

if TYPE_CHECKING:
    import numpy as np

    from focus_framework.interfaces import PracticePair


@hookimpl
def focus_tasks() -> Iterator[Task]:
    yield Task(
        name="camouflage",
        title="Camouflaged object detection: what hides in its surroundings",
        prompts=Prompts(
            foreground="It's an image of camouflaged objects that blend into their surroundings, without background.",
            background="It's an image of background with the camouflaged objects removed.",
        ),
        other_prompts={
            "release": Prompts(
                foreground="It's an image of salient objects without background.",
                background="It's an image of background with salient objects removed.",
                source="release",
            )
        },
        metrics=("s_measure", "e_measure_mean", "weighted_f", "mae"),
        primary_metric="s_measure",
        practice=practice,
    )


def practice(random: np.random.Generator, size: int) -> PracticePair:
    """A picture [size, size, 3] and its mask [size, size]."""
    import numpy as np

    yy, xx = np.mgrid[0:size, 0:size] / size
    centre = random.uniform(0.3, 0.7, 2)
    mask = np.hypot(yy - centre[0], xx - centre[1]) < random.uniform(0.15, 0.3)
    picture = random.integers(0, 256, (size, size, 3)) * np.where(mask, 1.0, 0.5)[..., None]
    return picture.astype(np.uint8), mask
