"""Scores while training are those that `focus evaluate` gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.training import tiny

from focus_framework import metrics
from focus_framework.errors import DataError
from focus_framework.evaluation.scoring import evaluate_model
from focus_framework.inference.model import ImageLike, Model, as_array
from focus_framework.inference.result import Result
from focus_framework.model.build import build_network
from focus_framework.plugin.interfaces import METRICS
from focus_framework.plugin.kit.practice import practice_pair
from focus_framework.plugin.registry import registry
from focus_framework.training.validation import score


@dataclass(frozen=True)
class Kept:
    """An image and its mask in memory."""

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]

    def read_image(self) -> NDArray[np.uint8]:
        return self.image

    def read_mask(self, size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
        return self.mask


class Recorded(Model):
    """Predicts an image once and says the same of it ever after: in a batch of another size a map differs by some 1e-7, which rounding
    to 8 bits can make a whole level."""

    def stream(self, images: Iterable[ImageLike], *, batch_size: int = 8) -> Iterator[Result]:
        known: dict[bytes, Result] = self.__dict__.setdefault("known", {})
        for image in map(as_array, images):
            key = image.tobytes()
            if key not in known:
                known[key] = next(super().stream([image]))
            yield known[key]


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    config = tiny("salient").config
    return Recorded(config, build_network(config)).eval()


@pytest.fixture(scope="module")
def samples() -> list[Kept]:
    """Of two sizes; of one, all is background, so that some metrics are undefined for it."""
    task = registry().get("task", "salient")
    pairs = [practice_pair(task, seed=0, split="validation", index=index, size=64 if index % 3 else 96) for index in range(7)]
    kept = [Kept(str(index), image, mask) for index, (image, mask) in enumerate(pairs)]
    return [*kept[:-1], Kept("empty", kept[-1].image, np.zeros_like(kept[-1].mask))]


def test_scores_are_those_of_evaluate(model: Model, samples: list[Kept]) -> None:
    expected = evaluate_model(model, samples, data="these", batch_size=3).metrics
    found = score(model, [(one.image, one.mask) for one in samples], METRICS, batch_size=3)
    assert found == pytest.approx(dict(expected), abs=1e-12, nan_ok=True)


def test_maxima_are_those_of_the_mean_curve(model: Model, samples: list[Kept]) -> None:
    """Which is not what the mean of the maxima of each image would be."""
    maps = [torch.from_numpy(np.rint(model.predict(one.image).probability * 255) / 255) for one in samples]
    curves = torch.cat([metrics.f_beta_curve(a[None], torch.from_numpy(one.mask)[None]) for a, one in zip(maps, samples, strict=True)])
    found = score(model, [(one.image, one.mask) for one in samples], ["f_beta_max"])["f_beta_max"]
    assert found == pytest.approx(float(curves.mean(0).max()), abs=1e-6)
    assert abs(found - float(curves.max(1).values.mean())) > 1e-3


def test_nothing_to_score_is_not_a_number(model: Model) -> None:
    assert np.isnan(score(model, [], ["f_beta_max", "mae"])["mae"])


def test_a_image_that_cannot_be_read_is_left_out_or_stops(model: Model, samples: list[Kept]) -> None:
    class Spoilt(list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]):
        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            if index == 1:
                raise DataError("spoilt")
            return super().__getitem__(index)

    examples = [(one.image, one.mask) for one in samples]
    with pytest.raises(DataError, match="spoilt"):
        score(model, Spoilt(examples), ["mae"])
    assert score(model, Spoilt(examples), ["mae"], skip_unreadable=True) == score(model, [examples[0], *examples[2:]], ["mae"])
