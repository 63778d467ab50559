"""`Model.explain`: one pass of the network over one image, with everything worth looking at kept by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...errors import DataError
from ...model.encoder import STRIDES
from ...model.first_mask import foreground_score
from ...model.ground_decoder import FOREGROUND, Heads
from ...model.joint import RULES, Rule, join
from ...plugin.interfaces import ShowsImage
from ..inputs import ImageLike, as_array
from .recorder import Attended, Recorder, sampled

if TYPE_CHECKING:
    from ..model import Model, Prepared
    from ..result import Result

GRID = 12
"""Rows and columns of places whose samples are kept for a page to show on a click."""


@dataclass(frozen=True)
class Looked:
    """Where deformable attention looks from one place."""

    part: str
    """The part of the network, say the last layer of the pixel decoder."""
    point: tuple[float, float]
    """x and y of the place, in 0..1 of the image."""
    samples: NDArray[np.float32]
    """`[N, 4]`: x and y in 0..1 of the image, the level's number, and the sample's share of its head's attention."""


@dataclass(frozen=True)
class Explanation:
    """What a network made of one image on its way to the mask.

    `tensors` by name, on the CPU; all are cut to the image, without the padding to multiples of 32:

    - ``edge_image`` `[3, h, w]` in 0..1: what the enhancer makes its maps from, where it shows it
    - ``prior.4`` to ``prior.32`` `[C, h/s, w/s]`: the enhancer's maps at the strides 4, 8, 16, 32
    - ``stage.1`` to ``stage.4`` `[C, rows, columns]`: outputs of the backbone's stages
    - ``fused.4`` to ``fused.32`` `[C, h/s, w/s]`: what the encoder hands on
    - ``pixels.8`` to ``pixels.32`` `[C, h/s, w/s]`: after the pixel decoder
    - ``mask_features`` `[C, h/4, w/4]`: what masks are products with
    - ``first_mask`` `[rows, columns]` in 0..1: first principal component of the last stage
    - ``class_probabilities`` `[L, 2, 3]`: of each head, both queries: foreground, background, neither
    - ``masks`` `[L, 2, h/4, w/4]` in 0..1: of each head, both queries
    - ``attention.1`` and on `[2, rows, columns]`: 1 where the queries may look in that layer of the ground decoder
    - ``joint.soft``, ``joint.release``, ``joint.foreground`` `[h, w]`: the map of interest by each rule
    """

    image: NDArray[np.uint8]
    """`[h, w, 3]`, at the size that the network sees."""
    tensors: Mapping[str, Tensor]
    result: Result
    """What `Model.predict` gives."""
    looked: Sequence[Looked] = ()
    """For the points asked for."""
    everywhere: Sequence[Looked] = field(default=(), repr=False)
    """For a grid of places over the image, of the last layer of the pixel decoder."""

    @property
    def queries(self) -> tuple[int, int]:
        """Numbers of the query that the last head takes for the foreground, and of the other one."""
        foreground = int(self.tensors["class_probabilities"][-1, :, FOREGROUND].argmax())
        return foreground, 1 - foreground

    def sheet(self) -> Image.Image:
        """Everything as one image."""
        from .views import sheet

        return sheet(self)


@torch.inference_mode()
def explain(model: Model, image: ImageLike, points: Sequence[tuple[float, float]] = ()) -> Explanation:
    """See `Model.explain`."""
    model.eval()
    picture = as_array(image)
    height, width = picture.shape[:2]
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise DataError(f"the point {x:g},{y:g} lies outside of the image, which is {width} pixels wide and {height} high")
    prepared = model.prepare(picture)
    pixels = prepared.pixels[None]
    with Recorder(model.network) as record:
        heads = model.network(pixels, all_heads=True)
    tensors = _tensors(model, prepared, record, heads)
    places = [((x + 0.5) / width, (y + 0.5) / height) for x, y in points]
    grid = [((column + 0.5) / GRID, (row + 0.5) / GRID) for row in range(GRID) for column in range(GRID)]
    decoder = {name: call for name, call in record.attended.items() if "pixel decoder" in name}
    return Explanation(
        image=_bytes(pixels[0, :, : prepared.size[0], : prepared.size[1]] * model.std + model.mean),
        tensors=tensors,
        result=model.predict(picture),
        looked=[look for place in places for look in _look(record, record.attended, prepared, place)],
        everywhere=[look for place in grid for look in _look(record, decoder, prepared, place)],
    )


def _tensors(model: Model, prepared: Prepared, record: Recorder, heads: Heads) -> dict[str, Tensor]:
    padded = cast("tuple[int, int]", tuple(prepared.pixels.shape[-2:]))
    cut = _cutter(prepared.size, padded)
    tensors: dict[str, Tensor] = {}
    prior = getattr(model.network.encoder, "prior", None)
    if isinstance(prior, ShowsImage):
        tensors["edge_image"] = cut(prior.image_seen(prepared.pixels[None])[0].clamp(0, 1))
    tensors |= {f"prior.{stride}": cut(level[0]) for stride, level in zip(STRIDES, record.prior, strict=False)}
    tensors |= {f"stage.{number}": cut(stage[0]) for number, stage in enumerate(record.stages, 1)}
    tensors |= {f"fused.{stride}": cut(level[0]) for stride, level in zip(STRIDES, record.features.maps, strict=True)}
    tensors |= {f"pixels.{stride}": cut(level[0]) for stride, level in zip((32, 16, 8), record.pixels.levels, strict=True)}
    tensors["mask_features"] = cut(record.pixels.mask_features[0])
    tensors["first_mask"] = cut(foreground_score(record.features.last, record.features.grid)[0, 0])
    tensors["class_probabilities"] = heads.class_logits[:, 0].float().softmax(-1)
    tensors["masks"] = cut(heads.mask_logits[:, 0].float().sigmoid())
    shapes = [level.shape[-2:] for level in record.pixels.levels]
    for index, blocked in enumerate(record.blocked):
        rows, columns = shapes[index % len(shapes)]
        open_ = torch.ones(2, rows, columns) if blocked is None else (~blocked[0]).float().view(2, rows, columns)
        tensors[f"attention.{index + 1}"] = cut(open_)
    logits = F.interpolate(heads.mask_logits[-1].float(), padded, mode="bilinear", align_corners=False)
    for rule in RULES:
        temperature = model.config.prediction.temperature
        tensors[f"joint.{rule}"] = cut(join(heads.class_logits[-1].float(), logits, cast(Rule, rule), temperature=temperature)[0])
    return {name: tensor.float().cpu().clone() for name, tensor in tensors.items()}


def _cutter(size: tuple[int, int], padded: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """Cuts the padding off a map of any resolution `[..., rows, columns]`."""

    def cut(features: Tensor) -> Tensor:
        rows, columns = (max(1, -(-kept * length // whole)) for kept, whole, length in zip(size, padded, features.shape[-2:], strict=True))
        return features[..., :rows, :columns]

    return cut


def _look(record: Recorder, calls: Mapping[str, Attended], prepared: Prepared, place: tuple[float, float]) -> list[Looked]:
    height, width = prepared.pixels.shape[-2:]
    inside = np.array([width / prepared.size[1], height / prepared.size[0]], np.float32)  # from the padded image's 0..1 to the image's
    found = []
    for part, call in calls.items():
        samples = sampled(call, _query(record, part, (place[0] / inside[0], place[1] / inside[1]))).numpy()
        samples[:, :2] *= inside
        found.append(Looked(part, place, samples))
    return found


def _query(record: Recorder, part: str, at: tuple[float, float]) -> int:
    """The number of the query that lies at a place of the padded image: of the pixel decoder's finest map, which comes last, or of the
    backbone's grid."""
    before = 0
    rows, columns = record.features.grid
    if "pixel decoder" in part:
        shapes = record.attended[part].shapes
        before = sum(height * width for height, width in shapes[:-1])
        rows, columns = shapes[-1]
    return before + min(int(at[1] * rows), rows - 1) * columns + min(int(at[0] * columns), columns - 1)


def _bytes(colours: Tensor) -> NDArray[np.uint8]:
    """`[3, h, w]` in 0..1 as `[h, w, 3]` uint8."""
    values: NDArray[np.uint8] = (colours.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return values
