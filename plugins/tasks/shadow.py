"""Shadow detection: where something keeps the light away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from focus_framework import Prompts, Task, hookimpl

from ._checkpoints import released
from ._datasets import SHADOW

if TYPE_CHECKING:
    import numpy as np

    from focus_framework.plugin.kit import PracticePair
    from focus_framework.plugin.kit.silhouettes import Silhouette
    from focus_framework.plugin.kit.textures import Texture


@hookimpl
def focus_tasks() -> Iterator[Task]:
    yield Task(
        name="shadow",
        title="Shadow detection: cast shadows, not dark objects",
        prompts=Prompts(
            foreground="it's an image of shadow without background.",
            background="it's an image of background without shadow.",
        ),
        other_prompts={
            "release": Prompts(
                foreground="It's an image of shadow without background.",
                background="It's an image of background with shadow removed.",
                source="release",
            )
        },
        metrics=("ber",),
        primary_metric="ber",
        datasets=SHADOW,
        checkpoints=released("sd", SHADOW),
        practice=practice,
        compose="focus_plugins.tasks._compose:shadow",
        render="focus_plugins.tasks._render:shadow",
    )


def practice(random: np.random.Generator, size: int) -> PracticePair:
    """An image [size, size, 3] and its mask [size, size].

    The cue: the light goes down and takes on the colour of the sky, while the ground's pattern goes on below. Dark or blue paint
    changes the pattern instead, and dark things hide it; they lie in shadow and out of it.
    """
    import cv2
    import numpy as np

    from focus_framework.plugin.kit.practice import light_gradient, of_fair_share, paint, photograph, stored
    from focus_framework.plugin.kit.silhouettes import draw
    from focus_framework.plugin.kit.textures import colour, lean

    plane = lean(random, size, tilt=random.choice([0.0, 0.4, 0.8]))
    ground = surface(random, value=(0.4, 0.9), hue=(0.0, 0.45) if random.random() < 0.85 else (0.45, 1.0))(*plane)
    blue = surface(random, value=(0.4, 0.9), hue=(0.5, 0.7), saturation=(0.2, 0.7))
    paint(ground, blue, plane, draw(lying(random), size))  # lit, though blue
    if random.random() < 0.25:
        paint(ground, surface(random, value=(0.03, 0.12)), plane, draw(lying(random), size))  # lit, though dark
    things = draw([part for _ in range(random.integers(1, 3)) for part in lying(random)], size)
    toward = random.choice([-1, 1]) * random.uniform(0.4, np.pi - 0.4)  # never along the feet, where it would be a line
    throw = random.uniform(0.5, 1.2) * np.array([np.cos(toward), np.sin(toward)])
    casters: list[Caster] = []

    def seen() -> np.ndarray:
        casters[:] = [Caster.drawn(random, throw=throw) for _ in range(random.integers(1, 3))]
        return np.max([caster.shadow(size) for caster in casters], axis=0) * (1 - things)

    of_fair_share(seen, shares=(0.07, 0.5))
    softness = random.uniform(0.005, 0.04)
    shadow = np.max([caster.shadow(size, softness=softness) for caster in casters], axis=0)
    upright = casters[0].upright(size)
    mask = (shadow > 0.5) & (things < 0.5)
    if random.random() < 0.5 and (mask & (upright < 0.5)).mean() > 0.6 * mask.mean():
        things = np.maximum(things, upright)
        mask &= upright < 0.5

    sky = colour(random.normal(0.6, 0.03), random.uniform(0.45, 0.65), random.uniform(0.3, 0.4))
    sun = colour(random.normal(0.11, 0.02), random.uniform(0.1, 0.3), 1.0)
    lamp = light_gradient(random, size, darkest=0.7)
    lit, shaded = (cv2.merge([float(a) + float(b) * part for a, b in zip(sky, sun, strict=True)]) for part in (lamp, lamp * (1 - shadow)))
    picture = ground * shaded
    paint(picture, surface(random, value=(0.02, 0.12)), plane, things, light=lit)
    return stored(random, photograph(random, picture, noise=random.uniform(0.002, 0.015))), mask


def surface(
    random: np.random.Generator,
    *,
    value: tuple[float, float],
    hue: tuple[float, float] = (0.0, 0.45),
    saturation: tuple[float, float] = (0.0, 0.5),
) -> Texture:
    """A surface of those ranges of colour."""
    from focus_framework.plugin.kit.textures import any_texture

    chance = {"hue": random.uniform(*hue), "saturation": random.uniform(*saturation), "contrast": random.uniform(0.1, 0.5)}
    return any_texture(random, value=random.uniform(*value), **chance)


def lying(random: np.random.Generator) -> Silhouette:
    """Something that lies anywhere in the image."""
    from focus_framework.plugin.kit.silhouettes import any_silhouette, place

    outline = any_silhouette(random, bulky=True)
    return place(outline, centre=random.random(2), scale=random.uniform(0.4, 0.9), angle=random.uniform(0, 6))


@dataclass(frozen=True, kw_only=True)
class Caster:
    """A thing that stands in the image, or beside it, in the light from above."""

    outline: Silhouette
    foot: np.ndarray
    """Where it stands, (x, y) in parts of the image."""
    height: float
    throw: np.ndarray
    """From the foot to the shadow's tip, (x, y) for a thing of height 1."""

    @classmethod
    def drawn(cls, random: np.random.Generator, *, throw: np.ndarray) -> Caster:
        """Anything anywhere."""
        from focus_framework.plugin.kit.silhouettes import any_silhouette

        outline = any_silhouette(random, bulky=True)
        return cls(outline=outline, foot=random.uniform(-0.1, 1.1, 2), height=random.uniform(0.6, 1.6), throw=throw)

    def upright(self, size: int) -> np.ndarray:
        """Coverage [size, size] of the thing itself."""
        from focus_framework.plugin.kit.silhouettes import draw, place

        return draw(place(self.outline, centre=self.foot - [0, self.height / 2], scale=self.height), size)

    def shadow(self, size: int, *, softness: float = 0.0) -> np.ndarray:
        """How much of the lamp it hides [size, size], 0 to 1. Its outline blurs by `softness` of the image in proportion to
        the distance from the foot, as the sun is a disc."""
        import cv2
        import numpy as np

        from focus_framework.plugin.kit.practice import blur
        from focus_framework.plugin.kit.silhouettes import draw
        from focus_framework.plugin.kit.textures import centres

        laid = [self.foot + self.height * (part * [1, 0] + (0.5 - part[:, 1:]) * self.throw) for part in self.outline]
        sharp = draw(laid, size)
        if not softness:
            return sharp
        x, y = centres(size)
        a, b = (self.throw / (self.height * (self.throw**2).sum())).tolist()
        away = np.clip(cv2.addWeighted(x, a, y, b, (0.5 - self.foot[0]) * a + (0.5 - self.foot[1]) * b), 0, 1)
        near, middle, far = (blur(sharp, size * (0.002 + softness * distance)) for distance in (0, 0.5, 1))
        return middle + np.maximum(1 - 2 * away, 0) * (near - middle) + np.maximum(2 * away - 1, 0) * (far - middle)
