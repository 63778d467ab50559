"""From images to masks: a network with everything that prepares its input and reads its output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeAlias, cast, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as V

from ..config.schema import PreprocessingConfig, RunConfig, with_prediction
from ..errors import DataError
from ..files.images import read_image
from ..model.joint import Rule, join
from ..model.network import MULTIPLE, Network
from ..plugin.interfaces import StagedBackbone
from .device import choose_device
from .views import predict_maps

ImageLike: TypeAlias = "str | PathLike[str] | Image.Image | NDArray[np.uint8] | Tensor"


@dataclass(frozen=True)
class Result:
    """The mask of interest of one image, at its own size."""

    probability: NDArray[np.float32]
    """`[H, W]`, 0..1"""
    image: NDArray[np.uint8]
    """The image `[H, W, 3]`, RGB."""
    threshold: float = 0.5

    @property
    def mask(self) -> NDArray[np.bool_]:
        """`[H, W]`, true inside."""
        return self.probability > self.threshold

    def cutout(self) -> Image.Image:
        """The image with the probability as its transparency, RGBA."""
        alpha = np.round(self.probability * 255).astype(np.uint8)
        return Image.fromarray(np.dstack([self.image, alpha]), "RGBA")


@dataclass(frozen=True)
class Prepared:
    """An image ready for the network."""

    pixels: Tensor
    """`[3, h, w]`, normalised, padded with zeros at the right and the bottom."""
    size: tuple[int, int]
    """(height, width) without the padding."""
    source: tuple[int, int]
    """(height, width) of the image as it came."""


def resized_size(height: int, width: int, rule: PreprocessingConfig, scale: float = 1.0) -> tuple[int, int]:
    """(height, width) of an image before padding: a square, or its short side at `rule.size` unless the long one gets too long;
    all of it times `scale`. A square stays one that needs no padding."""
    if rule.resize == "square":
        side = max(1, round(rule.size * scale / MULTIPLE)) * MULTIPLE
        return side, side
    scale *= min(rule.size / min(height, width), rule.longest / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


class Model(nn.Module):
    """A network and its configuration. Made by `load`, or by the training loop."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: RunConfig, network: Network, description: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.config, self.network = config, network
        self.description = dict(description or {})
        backbone = cast(StagedBackbone, network.encoder.backbone)
        self.register_buffer("mean", torch.tensor(backbone.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std).view(3, 1, 1), persistent=False)

    @property
    def task(self) -> str:
        """Name of the task it was trained for."""
        return self.config.task

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def normalise(self, images: Tensor) -> Tensor:
        """Images `[..., 3, H, W]` in 0..1 to network input."""
        return (images - self.mean) / self.std

    def padded_size(self, height: int, width: int, scale: float = 1.0) -> tuple[int, int]:
        """(height, width) that the network sees of an image of that size."""
        resized = resized_size(height, width, self.config.preprocessing, scale)
        return resized[0] + -resized[0] % MULTIPLE, resized[1] + -resized[1] % MULTIPLE

    def prepare(self, image: NDArray[np.uint8], *, scale: float = 1.0) -> Prepared:
        """Resize (to `scale` times the usual size), normalise, pad to multiples of 32: the only path from an image to the network."""
        height, width = image.shape[:2]
        size = resized_size(height, width, self.config.preprocessing, scale)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(self.device)
        pixels = V.resize(pixels, list(size), antialias=True)
        normalised = self.normalise(pixels.float() / 255)
        padded = self.padded_size(height, width, scale)
        return Prepared(F.pad(normalised, (0, padded[1] - size[1], 0, padded[0] - size[0])), size, (height, width))

    @torch.inference_mode()
    def probabilities(self, batch: Sequence[Prepared], rule: Rule | None = None) -> list[Tensor]:
        """Maps of interest `[H, W]` at source size, of images whose prepared sizes are equal."""
        heads = self.network(torch.stack([prepared.pixels for prepared in batch]))
        class_logits, mask_logits = heads.class_logits[-1].float(), heads.mask_logits[-1].float()
        padded, settings = batch[0].pixels.shape[-2:], self.config.prediction
        mask_logits = F.interpolate(mask_logits, padded, mode="bilinear", align_corners=False)
        maps = []
        for index, prepared in enumerate(batch):
            height, width = prepared.size
            logits = mask_logits[index, None, :, :height, :width]
            logits = F.interpolate(logits, prepared.source, mode="bilinear", align_corners=False)
            maps.append(join(class_logits[index, None], logits, rule or settings.rule, temperature=settings.temperature)[0])
        return maps

    @overload
    def predict(self, images: list[ImageLike] | tuple[ImageLike, ...], *, batch_size: int = ...) -> list[Result]: ...
    @overload
    def predict(self, images: ImageLike, *, batch_size: int = ...) -> Result: ...
    def predict(self, images: ImageLike | list[ImageLike] | tuple[ImageLike, ...], *, batch_size: int = 8) -> Result | list[Result]:
        """The mask of an image, or of each of a list of them: paths, PIL images, `[H, W, 3]` uint8 arrays, `[3, H, W]` tensors
        (uint8, or float in 0..1). Raises `DataError` for what is none of these."""
        if isinstance(images, list | tuple):
            return list(self.stream(images, batch_size=batch_size))
        return next(self.stream([images], batch_size=batch_size))

    def stream(self, images: Iterable[ImageLike], *, batch_size: int = 8) -> Iterator[Result]:
        """`predict` for any number of images: they are read as they are needed, results come in order. Those of one prepared size go
        through the network together, `batch_size` of them or as many as memory allows. Raises `DeviceError` where it is too small
        for one."""
        self.eval()
        for picture, probability in predict_maps(self, map(as_array, images), batch_size):
            yield Result(probability, picture, self.config.prediction.threshold)


def as_array(image: ImageLike) -> NDArray[np.uint8]:
    """Any of the accepted kinds of image as `[H, W, 3]` uint8 RGB."""
    array = _as_array(image)
    if array.size == 0:
        raise DataError(f"an image of {array.shape[1]} x {array.shape[0]} pixels has nothing to look at")
    return array


def _as_array(image: ImageLike) -> NDArray[np.uint8]:
    if isinstance(image, str | PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if isinstance(image, Tensor):
        if image.dim() != 3 or image.shape[0] != 3:
            raise DataError(f"an image as a tensor is [3, H, W], not {list(image.shape)}")
        scaled = image.detach().cpu() if image.dtype == torch.uint8 else (image.detach().float().cpu().clamp(0, 1) * 255).round()
        return scaled.to(torch.uint8).permute(1, 2, 0).numpy()
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    what = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    raise DataError(f"an image is a path, a PIL image, a uint8 array [H, W, 3] or a tensor [3, H, W], not {what}")


def load(reference: str | PathLike[str], *, device: str = "auto", **prediction: Any) -> Model:
    """A model from a checkpoint: a file of ours, a released ``.pth``, ``hf://owner/name``, or a name: that of a
    known checkpoint, or of a task for its first one (``focus.load("shadow")``), which is fetched once. Nothing in the file is run.

    `prediction` replaces settings of `PredictionConfig` that the checkpoint carries, e.g. ``flip=True``, ``tile=1024``.

    Raises `WeightsError` for what is no checkpoint, `PluginError` where its backbone or enhancer is not installed, `ConfigError` for
    a setting that does not exist or a value it cannot have.
    """
    from ..checkpoint import open_checkpoint

    where = choose_device(device)
    config, network, description = open_checkpoint(str(reference))
    return Model(with_prediction(config, prediction), network, description).to(where).eval()
