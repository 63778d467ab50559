"""Shadow detection: where something keeps the light away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from focus_framework import Prompts, Task, hookimpl

if TYPE_CHECKING:
    import numpy as np

    from focus_framework.data.silhouettes import Silhouette
    from focus_framework.interfaces import PracticePair


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
        practice=practice,
    )


def practice(random: np.random.Generator, size: int) -> PracticePair:
    """A picture [size, size, 3] and its mask [size, size].

    The cue: the light goes down and takes on the colour of the sky, while the ground's pattern goes on below. Dark paint and
    dark things change the pattern instead; they lie in shadow and out of it.
    """
    import numpy as np

    from focus_framework.data.practice import light_gradient, mix, of_fair_share, photograph
    from focus_framework.data.silhouettes import any_silhouette, draw, place
    from focus_framework.data.textures import any_texture, colour, lean

    plane = lean(random, size, tilt=random.choice([0.0, 0.4, 0.8]))

    def surface(value: float, hues: tuple[float, float] = (0.0, 0.45)) -> np.ndarray:
        chance = {"hue": random.uniform(*hues), "saturation": random.uniform(0, 0.5), "contrast": random.uniform(0.1, 0.6)}
        return any_texture(random, value=value, **chance)(*plane)

    def painted(ground: np.ndarray, paint: np.ndarray) -> np.ndarray:
        patch = place(any_silhouette(random), centre=random.random(2), scale=random.uniform(0.4, 1.0), angle=random.uniform(0, 6))
        return mix(ground, paint, draw(patch, size))

    ground = surface(random.uniform(0.3, 0.9), (0.0, 0.45) if random.random() < 0.8 else (0.45, 1.0))
    ground = painted(ground, surface(random.uniform(0.3, 0.9), (0.5, 0.7)))  # lit, though as blue as a shadow
    for _ in range(random.integers(1, 3)):
        ground = painted(ground, surface(random.uniform(0.02, 0.12)))  # lit, though as dark as one

    casters: list[Caster] = []
    toward = random.choice([-1, 1]) * random.uniform(0.4, np.pi - 0.4)  # never along the feet, where it would be a line
    throw = random.uniform(0.5, 1.2) * np.array([np.cos(toward), np.sin(toward)])

    def thrown() -> np.ndarray:
        casters[:] = [
            Caster(outline=any_silhouette(random, bulky=True), foot=random.uniform(-0.1, 1.1, 2), height=random.uniform(0.6, 1.6), throw=throw)
            for _ in range(random.integers(1, 3))
        ]
        return np.max([caster.shadow(size) for caster in casters], axis=0)

    of_fair_share(thrown, shares=(0.07, 0.5))
    softness = random.uniform(0.005, 0.04)
    shadow = np.max([caster.shadow(size, softness=softness) for caster in casters], axis=0)
    sky = colour(random.normal(0.6, 0.03), random.uniform(0.4, 0.65), random.uniform(0.25, 0.5))
    warm = colour(random.normal(0.11, 0.02), random.uniform(0.1, 0.3), 1.0)
    picture = ground * (sky + warm * (light_gradient(random, size) * (1 - shadow))[..., None])

    mask = shadow > 0.5
    standing = draw(place(casters[0].outline, centre=casters[0].foot - [0, casters[0].height / 2], scale=casters[0].height), size)
    if random.random() < 0.5 and (mask & (standing < 0.5)).mean() > 0.6 * mask.mean():
        picture = mix(picture, surface(random.uniform(0.02, 0.6)) * (sky + warm * random.uniform(0, 1)), standing)
        mask &= standing < 0.5
    quality = None if random.random() < 0.5 else int(random.integers(60, 96))
    return photograph(random, picture, noise=random.uniform(0.002, 0.012), quality=quality), mask


@dataclass(frozen=True, kw_only=True)
class Caster:
    """A thing that stands in the picture, or beside it, in the light from above."""

    outline: Silhouette
    foot: np.ndarray
    """Where it stands, (x, y) in parts of the picture."""
    height: float
    throw: np.ndarray
    """From the foot to the shadow's tip, (x, y) for a thing of height 1."""

    def shadow(self, size: int, *, softness: float = 0.0) -> np.ndarray:
        """How much of the lamp it hides [size, size], 0 to 1. Its outline blurs by `softness` of the picture in proportion to
        the distance from the foot, as the sun is a disc."""
        import numpy as np

        from focus_framework.data.practice import blur
        from focus_framework.data.silhouettes import draw

        laid = [self.foot + self.height * (part * [1, 0] + (0.5 - part[:, 1:]) * self.throw) for part in self.outline]
        sharp = draw(laid, size)
        if not softness:
            return sharp
        y, x = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) / size
        a, b = (self.throw / (self.height * (self.throw**2).sum())).astype(np.float32)
        away = np.clip((x - np.float32(self.foot[0])) * a + (y - np.float32(self.foot[1])) * b, 0, 1)
        near, middle, far = (blur(sharp, size * (0.002 + softness * distance)) for distance in (0, 0.5, 1))
        return np.where(away < 0.5, near + 2 * away * (middle - near), middle + (2 * away - 1) * (far - middle))
