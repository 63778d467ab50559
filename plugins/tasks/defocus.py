"""Defocus blur detection: the region in focus is white, as in the ground truth of DUT and CUHK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from focus_framework import Prompts, Task, hookimpl

from ._checkpoints import released
from ._datasets import DEFOCUS

if TYPE_CHECKING:
    import numpy as np

    from focus_framework.plugin.kit import PracticePair


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
        datasets=DEFOCUS,
        checkpoints=released("dbd", DEFOCUS),
        change_sharpness=False,
        practice=practice,
        compose="focus_plugins.tasks._compose:defocus",
        render="focus_plugins.tasks._render:defocus",
    )


def practice(random: np.random.Generator, size: int) -> PracticePair:
    """An image [size, size, 3] and its mask [size, size]: white is what the lens is focused on.

    The cue: how wide edges are, not how much pattern a surface has. Either something stands before a blurred ground, or blurred
    things hide part of a sharp one, or the ground recedes through the focus.
    """
    import numpy as np

    from focus_framework.plugin.kit.practice import blur, mix, of_fair_share, photograph, scene, stored
    from focus_framework.plugin.kit.silhouettes import any_silhouette, draw, place

    def thing() -> np.ndarray:
        centre, scale = random.uniform(0.2, 0.8, 2), random.uniform(0.6, 1.3)
        return draw(place(any_silhouette(random, bulky=True), centre=centre, scale=scale), size)

    def part() -> np.ndarray:
        look: dict[str, Any] = {"coarseness": random.uniform(0.5, 1.0), "contrast": random.uniform(0.3, 0.9)}
        return scene(random, size, things=int(random.integers(1, 3)), **look)

    kind = random.choice(["before", "behind", "through"], p=[0.55, 0.2, 0.25])
    ground = part()
    widest = size * random.uniform(0.02, 0.045)
    if kind == "through":
        picture, mask = receding(random, ground, widest)
    else:
        surface = part()
        if kind == "before":
            coverage = of_fair_share(thing)
            picture, mask = mix(blur(ground, widest), surface, coverage), coverage > 0.5
        else:
            visible = of_fair_share(lambda: 1 - np.maximum(np.maximum(thing(), thing()), thing()))
            hidden = blur(1 - visible, widest)
            picture, mask = mix(ground, blur(surface, widest), hidden), hidden < 0.2
    return stored(random, photograph(random, picture, noise=random.uniform(0.002, 0.01))), mask


def receding(random: np.random.Generator, ground: np.ndarray, widest: float) -> PracticePair:
    """Linear light [size, size, 3] of a ground that passes through the focus, blurred by up to `widest` pixels, and the part in
    focus [size, size]."""
    import numpy as np

    from focus_framework.plugin.kit.practice import blur, each, of_fair_share
    from focus_framework.plugin.kit.textures import centres

    size = len(ground)
    x, y = centres(size)
    angle = random.normal(0, 0.5)
    depth = np.float32(np.cos(angle)) * y + np.float32(np.sin(angle)) * x
    tolerance = 0.12  # of the widest blur; below it the eye calls an edge sharp
    out_of_focus = np.zeros_like(depth)

    def in_focus() -> np.ndarray:
        focus, reach = random.uniform(-0.5, 0.5), random.uniform(0.1, 0.3)
        out_of_focus[:] = np.clip((np.abs(depth - focus) - reach) / 0.15 + tolerance, 0, 1)
        return (out_of_focus < tolerance).astype(np.float32)

    mask = of_fair_share(in_focus) > 0.5
    levels = np.array([0, tolerance, 0.3, 0.6, 1], np.float32)
    picture = np.zeros_like(ground)
    for level, before, after in zip(levels, [-1, *levels[:-1]], [*levels[1:], 2], strict=True):
        weight = np.minimum((out_of_focus - before) / (level - before), (after - out_of_focus) / (after - level))
        picture += blur(ground, widest * level) * each(np.clip(weight, 0, 1))
    return picture, mask
