"""The authors' released checkpoints of a task, with the figures that they print for them."""

from __future__ import annotations

from collections.abc import Sequence

from focus_framework import Checkpoint, Dataset, Figures

from ._datasets import ZOO_GIANT, ZOO_LARGE

SIZES = {"large": 2_100_465_244, "giant": 5_545_940_316}
"""Bytes of all tensors of such a file, by the shapes of its keys; the file itself is a little larger."""
CODE = "Apache-2.0"
DATA = "not stated; the images that it was trained on have terms of their own, see focus data list"


def released(suffix: str, datasets: Sequence[Dataset]) -> tuple[Checkpoint, ...]:
    """The two of a task, the smaller one first; `suffix` is what the authors call the task."""
    return tuple(_released(size, suffix, datasets) for size in ("large", "giant"))


def _released(size: str, suffix: str, datasets: Sequence[Dataset]) -> Checkpoint:
    zoo = ZOO_LARGE if size == "large" else ZOO_GIANT
    return Checkpoint(
        name=f"focus_{size}_{suffix}",
        title=f"the authors' release, DINOv2-{'L' if size == 'large' else 'g'}",
        reference=f"hf://geshang/focus_{size}_{suffix}",
        size=SIZES[size],
        licence=CODE,
        weights_licence=CODE,
        data_licence=DATA,
        figures=[
            Figures(data=data.name, metrics=data.published[zoo], protocol="release", source="the authors' model zoo, 2025-07")
            for data in datasets
            if zoo in data.published
        ],
    )
