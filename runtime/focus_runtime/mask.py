"""An exported file and the images that it sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from os import PathLike
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import ConfigError, WeightsError
from .facts import KEY, check_names, read_facts
from .files.reading import regular
from .inference.inputs import ImageLike, as_array, is_batch, split_batch
from .inference.preparing import padded_size, resized_size
from .inference.result import Result, Results
from .inference.views import View, predict_maps

MOST_THREADS = 1024
OUTSIDE = 1e-3
"""How far a probability may lie outside of 0..1 by rounding."""


@dataclass(frozen=True)
class Views:
    """How an image is seen; see ``focus predict --help``. What is not given is as the checkpoint says."""

    flip: bool
    scales: Sequence[float]
    tile: int
    overlap: float

    def __post_init__(self) -> None:
        if self.tile and self.tile < 64:
            raise ConfigError(f"tile is {self.tile}; it must be 0 or at least 64")
        if not 0 <= self.overlap <= 0.75:
            raise ConfigError(f"overlap is {self.overlap}; it must lie in 0..0.75")
        if not self.scales or not all(0.25 <= scale <= 4 for scale in self.scales):
            raise ConfigError(f"scales are {list(self.scales)}; they must lie in 0.25..4")


class Mask:
    """An exported ``.onnx`` file.

    `flip`, `scales`, `tile` and `overlap` replace what the file says of views; `providers` are onnxruntime's, by default the CPU;
    `threads` is how many it starts, 0: as many as there are cores. Raises `WeightsError` for what is no such file.
    """

    place = "this machine"

    def __init__(
        self,
        file: str | PathLike[str],
        *,
        flip: bool | None = None,
        scales: Sequence[float] | None = None,
        tile: int | None = None,
        overlap: float | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        threads: int = 0,
    ) -> None:
        import onnxruntime

        if not 0 <= threads <= MOST_THREADS:
            raise ConfigError(f"threads is {threads}; it must lie in 0..{MOST_THREADS}, where 0 means as many as there are cores")
        path = regular(file, error=WeightsError)
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
            told: str = self._session.get_modelmeta().custom_metadata_map[KEY]
        except KeyError:
            raise WeightsError(f"{path} says nothing of itself under {KEY!r}; it must be a file that focus export wrote") from None
        except Exception as error:  # onnxruntime has a family of errors of its own, not all of them exported
            raise WeightsError(f"{path} cannot be opened as ONNX: {' '.join(str(error).split())[:300]}") from error
        check_names(path, [one.name for one in self._session.get_inputs()], [one.name for one in self._session.get_outputs()])
        self._path = path
        self.facts: Mapping[str, Any] = read_facts(path, told)
        """What the file says of itself: task, prompts, preprocessing, prediction, licence."""
        asked = {"flip": flip, "scales": scales, "tile": tile, "overlap": overlap}
        wanted = {name: self.facts["prediction"][name] if value is None else value for name, value in asked.items()}
        self.views = Views(**wanted)
        self._rule: Any = SimpleNamespace(**self.facts["preprocessing"])
        self._multiple, self._fixed = self.facts["input"]["multiple"], self.facts["input"].get("size")
        self._raw = self.facts["input"]["image"].startswith("uint8")

    @property
    def task(self) -> str:
        """Name of the task it was trained for."""
        return self.facts["task"]["name"]

    @property
    def threshold(self) -> float:
        return self.facts["prediction"]["threshold"]

    def predict(self, images: ImageLike | Sequence[ImageLike], *, batch_size: int = 8) -> Result | Results:
        """The mask of an image, or of each of a list, or of a batch `[B, 3, H, W]` or `[B, H, W, 3]`: then a list. An image is what
        `focus_framework.Model.predict` takes. Raises `DataError` for what is none."""
        if isinstance(images, list | tuple):
            return Results(self.stream(images, batch_size=batch_size))
        if is_batch(images):
            return Results(self.stream(split_batch(images), batch_size=batch_size))  # type: ignore[arg-type]
        return next(self.stream([images], batch_size=batch_size))  # type: ignore[list-item]

    def stream(self, images: Iterable[ImageLike], *, batch_size: int = 8) -> Iterator[Result]:
        """`predict` for any number of images: they are read as they are needed, results come in order."""
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}; it must be 1 or more")
        for picture, (probability,) in predict_maps(self, self.views, map(as_array, images), batch_size):
            yield Result(probability, picture, self.threshold)

    def padded_size(self, height: int, width: int, scale: float = 1.0) -> tuple[int, int]:
        """(height, width) that the network sees of an image of that size."""
        return tuple(self._fixed) if self._fixed else padded_size(self._resized(height, width, scale), multiple=self._multiple)  # type: ignore[return-value]

    def maps(self, views: Sequence[View]) -> list[NDArray[np.float32]]:
        """Maps `[1, h, w]` of views of one prepared size. A call of the file wants one size of mask, too."""
        found: list[NDArray[np.float32]] = []
        for _, alike in groupby(views, key=lambda view: (view.size, view.scale)):
            found += self._maps(list(alike))
        return found

    def _resized(self, height: int, width: int, scale: float) -> tuple[int, int]:
        if not self._fixed:
            return resized_size(height, width, self._rule, multiple=self._multiple, scale=scale)
        if self._rule.resize == "square":
            return tuple(self._fixed)  # type: ignore[return-value]
        fit = min(self._fixed[0] / height, self._fixed[1] / width)
        return max(1, int(height * fit + 0.5)), max(1, int(width * fit + 0.5))

    def _maps(self, views: Sequence[View]) -> list[NDArray[np.float32]]:
        size, scale = views[0].size, views[0].scale
        inner, padded = self._resized(*size, scale), self.padded_size(*size, scale)
        images = np.zeros((len(views), *padded, 3), np.uint8)
        for image, view in zip(images, views, strict=True):
            small = Image.fromarray(np.ascontiguousarray(view.pixels())).resize(inner[::-1], Image.Resampling.BILINEAR)
            image[: inner[0], : inner[1]] = np.asarray(small)
        given = {"image": images if self._raw else self._normalised(images, inner), "inner": np.array(inner), "size": np.array(size)}
        try:
            [maps] = self._session.run(["probability"], given)
        except Exception as error:  # as above
            raise WeightsError(f"{self._path} cannot be run: {' '.join(str(error).split())[:300]}") from error
        if not isinstance(maps, np.ndarray) or maps.shape != (len(views), *size) or maps.dtype.kind != "f":
            found = f"{maps.dtype} {list(maps.shape)}" if isinstance(maps, np.ndarray) else type(maps).__name__
            raise WeightsError(f"{self._path} gives {found}, not maps {[len(views), *size]}; it is no file that focus export wrote")
        if not ((maps >= -OUTSIDE) & (maps <= 1 + OUTSIDE)).all():
            raise WeightsError(f"{self._path} gives numbers that are no probabilities; its weights are damaged")
        return list(maps[:, None])

    def _normalised(self, images: NDArray[np.uint8], inner: tuple[int, int]) -> NDArray[np.float32]:
        mean, std = (np.array(getattr(self._rule, name), np.float32) for name in ("mean", "std"))
        normalised = (images.astype(np.float32) / 255 - mean) / std
        normalised[:, inner[0] :], normalised[:, :, inner[1] :] = 0, 0
        return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))
