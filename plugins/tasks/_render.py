"""What each task asks of rendered practice images: what the scene needs, and what the mask is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from focus_framework.plugin.kit import PracticePair


def salient(random: np.random.Generator, size: int) -> PracticePair:
    """One thing, now and then several, that a photograph of any place is taken of."""
    from focus_framework.plugin.kit.render import bodies, camera, engine, places

    while True:
        count = int(random.choice([1, 2, 3], p=[0.78, 0.16, 0.06]))
        rule = bodies.THINGS
        first = bodies.any_body(random, rule)
        found = []
        for number in range(count):
            body = first if number == 0 else bodies.any_body(random, rule)
            at = [0.0, 0.0, 0.0] if number == 0 else [random.choice([-1, 1]) * random.uniform(0.5, 1.1), random.uniform(-0.4, 0.5), 0.0]
            found.append(
                bodies.standing(body, size=1.0 if number == 0 else random.uniform(0.5, 1.1), angle=random.uniform(0, 2 * math.pi), at=at)
            )
        share = float(np.clip(np.exp(random.normal(math.log(0.26), 0.6)), 0.06, 0.8))
        stage = engine.Stage(places.of_things(random, found, share=share), size)
        seed = int(random.integers(2**31))
        seen = stage.seen(seed=seed)
        mask = seen.share(1) >= 0.5
        if not 0.03 <= mask.mean() <= 0.7:
            continue
        return camera.photograph(random, stage.light(seen, samples=4, seed=seed)), mask


def shadow(random: np.random.Generator, size: int) -> PracticePair:
    """Sunlight, things that keep it away, in the picture and out of it; white is where the sun does not shine, be it kept away by
    another thing or by the thing itself, as people mark both; the dark in a crown they mark seldom."""
    from focus_framework.plugin.kit.render import camera, engine, places

    while True:
        scene = places.in_the_sun(random)
        stage = engine.Stage(scene, size)
        seed = int(random.integers(2**31))
        share = 1 - stage.sunlit(samples=1, seed=seed, size=max(size // 3, 16)).mean()
        if not 0.01 <= share <= 0.7 or random.random() > 0.15 / share:  # small ones are many more, as in photographs
            continue
        dark = 1 - cv2.GaussianBlur(stage.sunlit(samples=2, seed=seed).astype(np.float32), (0, 0), size / 200)
        seen = stage.seen(samples=2, seed=seed)
        mask = marked((dark > 0.5) & (seen.share(places.FOLIAGE) < 0.5))
        if not 0.01 <= mask.mean() <= 0.5:
            continue
        light = stage.light(seen, samples=4, seed=seed)
        return camera.photograph(random, light, noise=(0.001, 0.012)), mask


def marked(mask: np.ndarray) -> np.ndarray:
    """What somebody would mark of a mask `[H, W]`: no shadow of one blade of grass, nothing where light and shade are speckles."""
    side = 2 * (len(mask) // 85) + 1
    firm = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    if firm.sum() < 0.55 * mask.sum():
        return np.zeros_like(mask)
    return cv2.medianBlur(mask.astype(np.uint8), 5) > 0


def camouflage(random: np.random.Generator, size: int) -> PracticePair:
    """Something in the material and the light of its ground, with things before it that break its outline."""
    from focus_framework.plugin.kit.render import camera, engine, places

    while True:
        stage = engine.Stage(places.hidden(random), size)
        seed = int(random.integers(2**31))
        seen = stage.seen(seed=seed)
        mask = seen.share(1) >= 0.5
        if 0.02 <= mask.mean() <= 0.55:
            return camera.photograph(random, stage.light(seen, samples=4, seed=seed)), mask


def defocus(random: np.random.Generator, size: int) -> PracticePair:
    """A fast lens; white is where its circle of confusion stays below what the eye sees."""
    from focus_framework.plugin.kit.render import camera, engine, places

    while True:
        stage = engine.Stage(places.in_focus(random), size)
        seed = int(random.integers(2**31))
        seen = stage.seen(samples=4, seed=seed)
        blur = stage.blur(seen) * 256 / size
        mask = cv2.medianBlur((blur < 2.0).astype(np.uint8), 5) > 0
        if 0.06 <= mask.mean() <= 0.75 and np.median(blur[~mask]) > 3:
            return camera.photograph(random, stage.light(seen, samples=7, seed=seed), noise=(0.001, 0.012), sharp=True), mask


def forgery(random: np.random.Generator, size: int) -> PracticePair:
    """A photograph with a part from another one, from elsewhere in itself or from another surface, each with its own history."""
    from focus_framework.plugin.kit.render import splices

    kind = str(random.choice(["splice", "moved", "patch"], p=[0.4, 0.2, 0.4]))
    make = {"splice": splices.splice, "moved": splices.copy_move, "patch": splices.patch}[kind]
    while True:
        image, mask = make(random, size)
        if 0.01 <= mask.mean() <= 0.6:
            return image, mask
