"""Forgery detection: the region spliced in from another image, or altered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from focus_framework import Prompts, Task, hookimpl

from ._checkpoints import released
from ._datasets import FORGERY

if TYPE_CHECKING:
    import numpy as np

    from focus_framework.plugin.kit import PracticePair


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
        datasets=FORGERY,
        checkpoints=released("fd", FORGERY),
        change_colour=False,
        change_sharpness=False,  # shrinking or blurring wipes out grain and compression traces, the cue
        practice=practice,
        defaults={"preprocessing.resize": "short-side"},  # stretching to a square wipes them out too
        compose="focus_plugins.tasks._compose:forgery",
        render="focus_plugins.tasks._render:forgery",
    )


HISTORIES = ("clean", "grainy", "compressed", "enlarged")
"""What an image went through before it was cut up."""


def practice(random: np.random.Generator, size: int) -> PracticePair:
    """An image [size, size, 3] and its mask [size, size].

    The cue: what the region went through before it was pasted in, told by its grain, the blocks of its compression or the
    smoothness of enlargement. Host and donor may be the same place, and honest things lie about in both.
    """
    import cv2
    import numpy as np

    from focus_framework.plugin.kit.practice import blur, jpeg, mix, of_fair_share, scene
    from focus_framework.plugin.kit.silhouettes import any_silhouette, draw, fill, place

    def region() -> np.ndarray:
        centre, scale = random.uniform(0.2, 0.8, 2), random.uniform(0.4, 0.9)
        return draw(place(any_silhouette(random, bulky=True), centre=centre, scale=scale, angle=random.normal(0, 0.3)), size)

    coarse: dict[str, Any] = {"coarseness": random.uniform(1.0, 2.5), "contrast": random.uniform(0.1, 0.5)}  # calm enough for grain to show
    host = scene(random, size, things=int(random.integers(2, 4)), **coarse)
    donor = np.roll(host, random.integers(0, size, 2), axis=(0, 1)) if random.random() < 0.5 else scene(random, size, things=2, **coarse)
    first, second = random.choice(HISTORIES, 2, replace=False)
    if random.random() < 0.85:  # as mostly happens: the host is fresh from the camera, and the donor was worked over
        first, second = "grainy", random.choice([history for history in HISTORIES if history != "grainy"])
    coverage = of_fair_share(region)
    seam = blur(coverage, random.uniform(0, 0.8))
    below, above = processed(random, host, first), processed(random, donor, second)
    for _ in range(random.integers(3, 7)):  # blown-out lights and black holes are honest, though they hold no grain
        outline = place(any_silhouette(random), centre=random.random(2), scale=random.uniform(0.35, 0.7), angle=random.uniform(0, 6))
        fill(below, outline, int(random.choice([0, 255])))
    picture = mix(below.astype(np.float32), above.astype(np.float32), seam)
    image = np.asarray(cv2.convertScaleAbs(picture), np.uint8)
    return image if random.random() < 0.5 else jpeg(image, int(random.integers(92, 99))), coverage > 0.5


def processed(random: np.random.Generator, light: np.ndarray, history: str) -> np.ndarray:
    """RGB uint8 [size, size, 3] of linear light, photographed and kept as one of `HISTORIES` says."""
    import cv2

    from focus_framework.plugin.kit.practice import photograph

    if history == "clean":
        return photograph(random, light, noise=random.uniform(0.002, 0.006))
    if history == "grainy":
        return photograph(random, light, noise=random.uniform(0.035, 0.07))
    if history == "compressed":
        return photograph(random, light, noise=random.uniform(0.005, 0.02), quality=int(random.integers(8, 20)))
    size, part = len(light), random.uniform(0.3, 0.5)
    small = photograph(random, light[: int(part * size), : int(part * size)], noise=random.uniform(0.035, 0.07))
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
