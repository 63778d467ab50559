"""Forgery detection: the region spliced in from another picture, or altered."""

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
        name="forgery",
        title="Forgery detection: spliced or altered regions",
        prompts=Prompts(
            foreground="It's an image of forgery objects without background.",
            background="It's an image of background with forgery objects removed.",
        ),
        metrics=("f1", "auc"),
        primary_metric="f1",
        change_colour=False,
        change_sharpness=False,  # shrinking or blurring wipes out grain and compression traces, the cue
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
