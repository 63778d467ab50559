"""Salient object detection: the object that draws the eye."""

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
        name="salient",
        title="Salient object detection: what draws the eye",
        prompts=Prompts(
            foreground="It's an image of salient objects without background.",
            background="It's an image of background with salient objects removed.",
        ),
        metrics=("s_measure", "e_measure_mean", "f_beta_mean", "mae"),
        primary_metric="s_measure",
        practice=practice,
    )


def practice(random: np.random.Generator, size: int) -> PracticePair:
    """A picture [size, size, 3] and its mask [size, size].

    The cue: one thing, at times two, unlike all that surrounds it, in hue, in tone or in pattern, and well placed. The clutter
    around it has colours and patterns of its own, but shares them.
    """
    import numpy as np

    from focus_framework.data.practice import blur, mix, of_fair_share, photograph, scene
    from focus_framework.data.silhouettes import any_silhouette, draw, place
    from focus_framework.data.textures import any_texture, lean

    hue, saturation, value = random.random(), random.uniform(0.1, 0.7), random.choice([0.12, 0.3, 0.7])
    common = {"hue": hue, "spread": 0.06, "saturation": saturation, "value": value, "contrast": random.uniform(0.3, 0.7)}
    ground = scene(random, size, things=int(random.integers(2, 6)), **common)

    def things() -> np.ndarray:
        outlines = [
            place(any_silhouette(random, bulky=True), centre=random.normal(0.5, 0.13, 2), scale=random.uniform(0.45, 0.9), angle=random.normal(0, 0.3))
            for _ in range(1 + (random.random() < 0.2))
        ]
        return np.max([draw(outline, size) for outline in outlines], axis=0)

    coverage = of_fair_share(things)
    other = {"hue": hue + random.uniform(0.3, 0.7), "saturation": random.uniform(0.4, 0.9), "value": value, "contrast": 0.3}
    if random.random() < 0.5:  # tone: bright on dark ground, dark on bright
        other |= {"value": random.uniform(0.02, 0.1) if value > 0.2 else random.uniform(0.5, 0.9), "saturation": random.uniform(0, 0.9)}
    surface = any_texture(random, coarseness=random.choice([0.5, 1.5]), **other)(*lean(random, size))
    roundness = 0.6 + 0.4 * blur(coverage, size * 0.06)
    contact = 1 - 0.5 * blur(np.roll(coverage, size // 40, axis=0), size * 0.015) * (1 - coverage)
    picture = mix(ground * contact[..., None], surface * roundness[..., None], coverage)
    return photograph(random, picture, noise=random.uniform(0.002, 0.02)), coverage > 0.5
