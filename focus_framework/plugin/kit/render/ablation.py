"""Rendering with a part left out, to measure what it is worth: photographed surfaces, panoramas or the camera."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeAlias, get_args
from zlib import crc32

import numpy as np

from .mesh import Array

Leavable: TypeAlias = Literal["surfaces", "panoramas", "camera"]
LEAVABLE: tuple[Leavable, ...] = get_args(Leavable)
"""What can be left out. Without `surfaces` each becomes noise of its colours and its spectrum, without `panoramas` each becomes its mean
over a turn, without `camera` there is exposure and nothing else."""

_left_out: ContextVar[frozenset[Leavable]] = ContextVar("left_out", default=frozenset())


@contextmanager
def leaving_out(parts: Iterable[Leavable]) -> Iterator[None]:
    """Renders within it do without these parts."""
    before = _left_out.set(frozenset(parts))
    try:
        yield
    finally:
        _left_out.reset(before)


def left_out(part: Leavable) -> bool:
    """Whether that part is left out here."""
    return part in _left_out.get()


def scrambled(image: Array, name: str) -> Array:
    """Noise with the mean, the colours and the spectrum of a surface `[H, W, 3]` uint8: its waves, moved at random. The same `name` gives
    the same noise."""
    phase = np.angle(np.fft.rfft2(np.random.default_rng(crc32(name.encode())).standard_normal(image.shape[:2])))
    waves = np.fft.rfft2(image.astype(np.float32), axes=(0, 1))
    turned = waves * np.exp(1j * phase)[..., None]
    turned[0, 0] = waves[0, 0]
    return np.clip(np.fft.irfft2(turned, s=image.shape[:2], axes=(0, 1)) + 0.5, 0, 255).astype(np.uint8)


def turned_about(panorama: Array) -> Array:
    """A panorama `[H, W, 3]` whose rows are each of one colour, their mean: a sky and a ground, and nowhere in particular."""
    return np.broadcast_to(panorama.mean(axis=1, keepdims=True), panorama.shape)
