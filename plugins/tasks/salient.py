"""Salient object detection: the object that draws the eye."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from focus_framework import Prompts, Task, hookimpl

from ._checkpoints import released
from ._datasets import SALIENT

if TYPE_CHECKING:
    import numpy as np

    from focus_framework.plugin.kit import PracticePair


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
        datasets=SALIENT,
        checkpoints=released("sod", SALIENT),
        practice=practice,
        compose="focus_plugins.tasks._compose:salient",
        render="focus_plugins.tasks._render:salient",
    )


def practice(random: np.random.Generator, size: int) -> PracticePair:
    """An image [size, size, 3] and its mask [size, size].

    The cue: one thing, at times two, unlike all that surrounds it and well placed: vivid among dull colours, plain among vivid
    ones, dark before bright or bright before dark. The clutter around it has shapes and patterns too, but shares its colours.
    """
    from focus_framework.plugin.kit.practice import blur, each, moved, of_fair_share, paint, photograph, scene, stored
    from focus_framework.plugin.kit.silhouettes import any_silhouette, draw, place
    from focus_framework.plugin.kit.textures import any_texture, lean

    hue, kind = random.random(), random.choice(["vivid", "plain", "tone"], p=[0.7, 0.18, 0.12])
    dark = random.random() < 0.5
    value = random.uniform(0.05, 0.12) if kind == "tone" and not dark else random.uniform(0.4, 0.8)
    ground_saturation = random.uniform(0.5, 0.75) if kind == "plain" else random.uniform(0.02, 0.2)
    common = {"hue": hue, "spread": 0.05, "saturation": ground_saturation, "value": value, "contrast": random.uniform(0.1, 0.3)}
    beyond = {"hue": hue + random.normal(0, 0.1), "value": value * (random.uniform(1.4, 2) if value < 0.3 else random.uniform(0.35, 0.7))}
    ground = scene(random, size, things=int(random.integers(1, 3)), beyond=beyond, **common)
    bits = [
        part
        for _ in range(random.integers(3, 9))
        for part in place(any_silhouette(random, bulky=True), centre=random.random(2), scale=random.uniform(0.08, 0.19))
    ]  # of the thing's own colours or others, but small and many
    confetti = any_texture(random, saturation=random.uniform(0.6, 1), value=random.uniform(0.2, 0.8))
    paint(ground, confetti, lean(random, size), draw(bits, size))

    def things() -> np.ndarray:
        parts = [
            part
            for _ in range(1 + (random.random() < 0.2))
            for part in place(any_silhouette(random, bulky=True), centre=random.normal(0.5, 0.12, 2), scale=random.uniform(0.65, 1.1))
        ]
        return draw(parts, size)

    coverage = of_fair_share(things, shares=(0.13, 0.6))
    other = {"hue": hue + random.uniform(0.25, 0.75), "value": value * random.uniform(0.7, 1.2), "contrast": random.uniform(0.1, 0.3)}
    other["saturation"] = {"vivid": random.uniform(0.75, 1), "plain": random.uniform(0, 0.1), "tone": random.uniform(0, 0.5)}[kind]
    if kind == "tone":
        other["value"] = random.uniform(0.01, 0.04) if dark else random.uniform(0.5, 0.9)
    surface = any_texture(random, coarseness=random.choice([0.5, 1.5]), **other)
    roundness = 0.45 + 0.55 * blur(coverage, size * 0.05)
    contact = 1 - 0.6 * blur(moved(coverage, down=size // 40, right=0), size * 0.015) * (1 - coverage)
    picture = ground * each(contact)
    paint(picture, surface, lean(random, size), coverage, light=each(roundness))
    return stored(random, photograph(random, picture, noise=random.uniform(0.002, 0.02))), coverage > 0.5
