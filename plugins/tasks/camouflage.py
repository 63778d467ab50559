"""Camouflaged object detection: what hides in its surroundings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from focus_framework import Prompts, Task, hookimpl

from ._checkpoints import released
from ._datasets import CAMOUFLAGE

if TYPE_CHECKING:
    import numpy as np

    from focus_framework.plugin.kit import PracticePair


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
        datasets=CAMOUFLAGE,
        checkpoints=released("cod", CAMOUFLAGE),
        practice=practice,
        compose="focus_plugins.tasks._compose:camouflage",
        render="focus_plugins.tasks._render:camouflage",
    )


def practice(random: np.random.Generator, size: int) -> PracticePair:
    """An image [size, size, 3] and its mask [size, size].

    The cue: the thing wears the texture of its surroundings, but its pattern runs another way or is finer or coarser, and it
    breaks off at the outline, where a faint edge of shade shows that something has a body.
    """
    import cv2
    import numpy as np

    from focus_framework.plugin.kit.practice import blur, each, light_gradient, mix, moved, of_fair_share, photograph, stored
    from focus_framework.plugin.kit.silhouettes import any_silhouette, draw, place
    from focus_framework.plugin.kit.textures import any_texture, coordinates

    skin = any_texture(random, hue=random.uniform(0, 0.5), saturation=random.uniform(0, 0.5), contrast=random.uniform(0.4, 0.8))
    angle, shift = random.uniform(0, 2 * np.pi), random.uniform(0, 32, 2)
    turn = random.choice([-1, 1]) * random.uniform(0.5, np.pi / 2)
    scale = random.choice([0.55, 0.7, 1.0, 1.4, 1.7])
    ground = skin(*coordinates(size, angle=angle, shift=shift))
    body = skin(*coordinates(size, angle=angle + turn, scale=scale, shift=random.uniform(0, 32, 2)))
    body = cv2.multiply(body, np.divide(cv2.mean(ground), np.maximum(cv2.mean(body), 1e-3)))  # no tone gives it away

    def thing() -> np.ndarray:
        centre, lean = random.uniform(0.25, 0.75, 2), random.normal(0, 0.4)
        return draw(place(any_silhouette(random, bulky=True), centre=centre, scale=random.uniform(0.5, 1.0), angle=lean), size)

    coverage = of_fair_share(thing, shares=(0.06, 0.6))
    relief = blur(coverage, size * 0.02)
    lit = random.uniform(0.5, 1.0) * (relief - moved(relief, down=size // 50 + 1, right=size // 70 + 1))  # from above left
    edge = random.uniform(0.4, 0.8) * np.abs(coverage - blur(coverage, size * 0.01))
    picture = mix(ground, body, coverage) * each((1 + lit - edge) * light_gradient(random, size))
    return stored(random, photograph(random, picture, noise=random.uniform(0.002, 0.02))), coverage > 0.5
