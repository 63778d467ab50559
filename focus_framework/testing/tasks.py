"""Promises of tasks: prompts, settings, data sets, and practice images that are worth training on."""

from __future__ import annotations

import hashlib
import importlib.util
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..config.layers import resolve as resolve_settings
from ..evaluation.baselines import baselines, best_baseline
from ..plugin.calls import calling
from ..plugin.interfaces import METRICS, Task, resolve
from ..plugin.kit.practice import SHARES, Engine, checked_pair, practice_pair
from ..plugin.kit.prompts import check_length
from .promise import Broken, NotTried, promise
from .subject import Subject

if TYPE_CHECKING:
    from ..plugin.interfaces import PracticePair

SIZES = (48, 64, 97)
MANY = 24
"""Practice images from which shares and cues are told."""
BEST_CUE = 0.8
"""IoU that one cue and a threshold may reach on average. The built-in tasks have 0.37 (camouflage) to 0.74 (salient)."""


@promise("task")
def prompts_are_read_to_their_end(subject: Subject) -> None:
    """No prompt, of the named alternatives as well, is longer than what CLIP's text encoder reads."""
    task: Task = subject.entry.get()
    for choice in ("", *task.other_prompts):
        check_length(sentence for pair in task.pairs(choice) for sentence in (pair.foreground, pair.background))


@promise("task")
def its_defaults_are_settings(subject: Subject) -> None:
    """Every setting that the task would like exists and takes that value."""
    task: Task = subject.entry.get()
    resolve_settings(task.name, defaults=task.defaults)


@promise("task")
def data_sets_say_where_they_lie(subject: Subject) -> None:
    """Each published data set has a name of its own, as many folders of masks as of images or none, patterns that can be read, known
    metrics."""
    task: Task = subject.entry.get()
    names = [data.name for data in task.datasets]
    for data in task.datasets:
        if names.count(data.name) > 1:
            raise Broken(f"two data sets are called {data.name}")
        if not data.images or len(data.masks) not in (0, len(data.images)):
            raise Broken(f"data set {data.name} has {len(data.images)} folders of images and {len(data.masks)} of masks")
        marks = [data.fingerprint.names, data.fingerprint.telling] if data.fingerprint else []
        for pattern in (*data.keys, *marks):
            try:
                re.compile(pattern)
            except re.error as error:
                raise Broken(f"data set {data.name}: {pattern!r} is no regular expression: {error}") from None
        unknown = {metric for figures in data.published.values() for metric in figures} - set(METRICS)
        if unknown:
            raise Broken(f"data set {data.name}: figures of an unknown metric {min(unknown)!r}")


@promise("task", first=True)
def practice_images_are_well_formed(subject: Subject) -> None:
    """``practice(random, size)`` gives uint8 `[size, size, 3]` and bool `[size, size]`, of any size."""
    for size in SIZES:
        _pairs(subject, 2, size=size)


@promise("task")
def one_seed_gives_one_image(subject: Subject) -> None:
    """All chance comes from the generator that ``practice`` is given, none from the global ones, which stay as they are."""
    with _global_chance(1):
        once = _pairs(subject, 4)
    with _global_chance(2):
        before = _states()
        again = _pairs(subject, 4)
        untouched = before == _states()
    for number, (one, other) in enumerate(zip(once, again, strict=True)):
        if differing := _differing(one, other):
            raise Broken(f"image {number} drawn twice differs in {differing}; draw all chance from the generator `random`")
    if not untouched:
        raise Broken("practice() draws from a global generator; draw all chance from the generator `random`")


@promise("task")
def one_seed_gives_one_image_in_another_process(subject: Subject) -> None:
    """The same bits in a process of its own, whose hashes and addresses differ."""
    ours = [_checksum(pair) for pair in _pairs(subject, 4)]
    theirs = subject.elsewhere("practice", 4, SIZES[1])
    if ours != theirs:
        number = next(number for number, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other)
        raise Broken(f"image {number} has other bits in another process; is something in it sorted by hash() or id()?")


@promise("task")
def every_number_gives_another_image(subject: Subject) -> None:
    """No two of the first practice images are alike, nor all of their masks."""
    pairs = _pairs(subject, MANY)
    images = {image.tobytes() for image, _ in pairs}
    if len(images) < len(pairs):
        raise Broken(f"{len(pairs)} practice images are {len(images)} different ones")
    if len({mask.tobytes() for _, mask in pairs}) < len(pairs) // 2:
        raise Broken(f"the masks of {len(pairs)} practice images are mostly the same")


@promise("task")
def masks_take_a_fair_share(subject: Subject) -> str:
    """The foreground is never nearly nothing nor nearly all of a practice image."""
    shares = [float(mask.mean()) for _, mask in _pairs(subject, MANY)]
    low, high = SHARES
    if not (low <= min(shares) and max(shares) <= high):
        raise Broken(f"masks take {min(shares):.1%} to {max(shares):.1%} of an image; at least {low:.0%} and at most {high:.0%} are fair")
    return f"{min(shares):.0%} to {max(shares):.0%}"


@promise("task")
def no_single_cue_gives_the_mask_away(subject: Subject) -> str:
    """Neither brightness, colour, sharpness, grain nor place with a threshold, nor the mean mask, comes near the masks."""
    pairs = _pairs(subject, 2 * MANY)
    scores = baselines(pairs[:MANY], pairs[MANY:], "iou")
    best = best_baseline(scores, "iou")
    told = f"best without learning: {best}, IoU {scores[best]:.2f}"
    if scores[best] > BEST_CUE:
        raise Broken(f"{told}; more than {BEST_CUE} is no practice")
    return told


@promise("task")
def composed_images_are_well_formed(subject: Subject) -> None:
    """``compose`` makes such pairs of two photographs with masks of other sizes, the same ones from one seed."""
    task: Task = subject.entry.get()
    if task.compose is None:
        raise NotTried("it composes no images")
    photographs = [_photograph(seed, shape) for seed, shape in enumerate(((80, 120), (150, 90)))]
    made: list[PracticePair] = []
    for _ in range(2):
        with calling(subject.title, "compose()"):
            offered: Any = resolve(task.compose)(np.random.default_rng(0), SIZES[1], *photographs)
        made.append(checked_pair(offered, SIZES[1], f"{subject.title}: compose()"))
    if differing := _differing(*made):
        raise Broken(f"one seed gives two composed images, which differ in {differing}")


@promise("task")
def rendered_images_are_well_formed(subject: Subject) -> None:
    """``render`` makes such pairs of scenes, the same ones from one seed; seconds to minutes."""
    task: Task = subject.entry.get()
    if task.render is None:
        raise NotTried("it renders no images")
    if importlib.util.find_spec("mitsuba") is None:
        raise NotTried('mitsuba is not here: pip install "focus-framework[render]"')
    if not subject.thorough:
        raise NotTried("takes a minute; --thorough tries it")
    one, other = (_pairs(subject, 1, engine="render")[0] for _ in range(2))
    if differing := _differing(one, other):
        raise Broken(f"one seed gives two rendered images, which differ in {differing}")


def _pairs(subject: Subject, count: int, *, size: int = SIZES[1], engine: Engine = "draw") -> list[PracticePair]:
    task: Task = subject.entry.get()
    if task.practice is None and engine == "draw":
        raise NotTried("it makes no practice images")
    return [practice_pair(task, seed=0, split="train", index=index, size=size, engine=engine) for index in range(count)]


def checksums(task: Task, count: int, size: int) -> list[str]:
    """Of the first practice images with their masks."""
    return [_checksum(practice_pair(task, seed=0, split="train", index=index, size=size)) for index in range(count)]


def _checksum(pair: PracticePair) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in pair)).hexdigest()


def _differing(one: PracticePair, other: PracticePair) -> str:
    """In words; empty where two pairs are the same to the last bit."""
    pixels = int((one[0] != other[0]).any(axis=2).sum())
    return f"{pixels} pixels" if pixels else "the mask" if (one[1] != other[1]).any() else ""


@contextmanager
def _global_chance(seed: int) -> Iterator[None]:
    """The global generators with a seed; what they were before, after."""
    before = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])


def _states() -> tuple[object, ...]:
    """Of the generators that a plugin may use by mistake."""
    numbers: Any = np.random.get_state()
    return numbers[1].tobytes(), numbers[2], random.getstate()


def _photograph(seed: int, shape: tuple[int, int]) -> PracticePair:
    """Soft colours, and an ellipse for a thing."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    mask = ((y / shape[0] - 0.5) / 0.3) ** 2 + ((x / shape[1] - 0.5) / 0.25) ** 2 < 1
    return image, mask
