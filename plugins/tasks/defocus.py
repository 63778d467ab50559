"""Defocus blur detection: the region in focus is white, as in the ground truth of DUT and CUHK."""

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
        name="defocus",
        title="Defocus blur detection: the region in focus",
        prompts=Prompts(
            foreground="It's an image of sharp, in-focus objects without the blurred background.",
            background="It's an image of blurred, out-of-focus background with the in-focus objects removed.",
        ),
        other_prompts={
            "release": Prompts(
                foreground="It's an image of salient objects without background.",
                background="It's an image of background with salient objects removed.",
                source="release",
            )
        },
        metrics=("f_beta_mean", "mae"),
        primary_metric="f_beta_mean",
        change_sharpness=False,
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
