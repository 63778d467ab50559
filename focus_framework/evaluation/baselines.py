"""What a task's masks can be had for without learning: one cue and a threshold, or the average mask.

A practice image is only worth training on where these fail, and a network is only worth its name where it beats them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from ..plugin.interfaces import LOWER_IS_BETTER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..plugin.interfaces import PracticePair

Cue: TypeAlias = "Callable[[NDArray[np.uint8]], NDArray[np.float32]]"
"""RGB `[H, W, 3]` uint8 to a map `[H, W]` float32 that is high where the cue is strong, in units that do not depend on the image."""
THRESHOLDS = 32
"""Fixed thresholds tried, at equal steps of the training images' values in order."""
STRIDE = 4
"""Of each side, every so many pixels take part in the search for a fixed threshold."""


def _grey(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _saturation(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1].astype(np.float32)


def _blueness(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return image[..., 2].astype(np.float32) / (image.astype(np.float32).sum(axis=2) + 1)


def _sharpness(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Energy of the Laplacian around a pixel; its logarithm, as energies spread over decades."""
    energy = cv2.Laplacian(_grey(image), cv2.CV_32F) ** 2
    return np.log1p(cv2.GaussianBlur(energy, (0, 0), image.shape[0] / 40))


def _grain(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Level of noise around a pixel: what is left beside the median of its neighbours."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    rest = np.abs(grey.astype(np.float32) - cv2.medianBlur(grey, 3))
    return cv2.GaussianBlur(rest, (0, 0), image.shape[0] / 40)


def _border_distance(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Distance in Lab from the mean colour of the image's border."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    edge = max(1, image.shape[0] // 20)
    inner = np.zeros(image.shape[:2], bool)
    inner[edge:-edge, edge:-edge] = True
    return np.linalg.norm(lab - lab[~inner].mean(axis=0), axis=2)


def _centre(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Nearness to the middle of the image: what composition alone gives."""
    y, x = (np.mgrid[0 : image.shape[0], 0 : image.shape[1]] + 0.5).astype(np.float32)
    return 1 - np.hypot(y / image.shape[0] - 0.5, x / image.shape[1] - 0.5)


CUES: dict[str, Cue] = {
    "brightness": _grey,
    "darkness": lambda image: 255 - _grey(image),
    "saturation": _saturation,
    "greyness": lambda image: 255 - _saturation(image),
    "blueness": _blueness,
    "redness": lambda image: 1 - _blueness(image),
    "sharpness": _sharpness,
    "smoothness": lambda image: -_sharpness(image),
    "grain": _grain,
    "cleanness": lambda image: -_grain(image),
    "border distance": _border_distance,
    "centre": _centre,
}


def otsu(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where `values` `[H, W]` lie above the threshold that parts them best into two classes (Otsu, 1979)."""
    low, high = float(values.min()), float(values.max())
    levels = np.round((values - low) / max(high - low, 1e-9) * 255).astype(np.uint8)
    return cv2.threshold(levels, 0, 1, cv2.THRESH_OTSU)[1].astype(bool)


def baselines(train: Sequence[PracticePair], test: Sequence[PracticePair], metric: str) -> dict[str, float]:
    """Mean of `metric` (a name out of `METRICS`) over the test pairs, by the name of each baseline.

    ``otsu CUE`` draws the threshold for each image from itself, ``fixed CUE`` takes the one that is best on the training
    pairs, and ``mean mask`` gives every image the mean of the training masks. All images have one size.
    """
    scores = {"mean mask": _score(metric, [np.mean([mask for _, mask in train], axis=0)] * len(test), test)}
    for name, cue in CUES.items():
        seen, unseen = [cue(image) for image, _ in train], [cue(image) for image, _ in test]
        scores[f"otsu {name}"] = _score(metric, [otsu(values) for values in unseen], test)
        threshold = _best_threshold(metric, seen, train)
        scores[f"fixed {name}"] = _score(metric, [values > threshold for values in unseen], test)
    return scores


def best_baseline(scores: dict[str, float], metric: str) -> str:
    """The name of the baseline that a network has to beat."""
    return (min if metric in LOWER_IS_BETTER else max)(scores, key=lambda name: scores[name])


def _best_threshold(metric: str, maps: Sequence[NDArray[np.float32]], pairs: Sequence[PracticePair]) -> float:
    values = np.stack(maps)[:, ::STRIDE, ::STRIDE]
    thinned = [(image, mask[::STRIDE, ::STRIDE]) for image, mask in pairs]
    candidates = np.quantile(values, np.linspace(0.02, 0.98, THRESHOLDS))
    scores = {float(threshold): _score(metric, list(values > threshold), thinned) for threshold in candidates}
    return (min if metric in LOWER_IS_BETTER else max)(scores, key=lambda threshold: scores[threshold])


def _score(metric: str, predictions: Sequence[NDArray[np.generic]], pairs: Sequence[PracticePair]) -> float:
    import torch

    from . import metrics

    probability = torch.from_numpy(np.stack(predictions).astype(np.float32))
    truth = torch.from_numpy(np.stack([mask for _, mask in pairs]))
    return float(getattr(metrics, metric)(probability, truth).mean())
