"""The whole network: encoder, pixel decoder, ground decoder, and the conditioner of one that has several tasks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from ..config.schema import DecoderConfig, EnhancerConfig, PixelDecoderConfig
from ..errors import DataError
from ..plugin.interfaces import Prior, ReadsExamples, StagedBackbone, TaskVectors
from .condition import Condition, Examples
from .encoder import EnhancedEncoder, Features, PlainEncoder
from .ground_decoder import GroundDecoder, Heads
from .pixel_decoder import PixelDecoder, PixelFeatures

MULTIPLE = 32  # height and width of network input


Part = TypeVar("Part", bound=nn.Module)


class Encoded(NamedTuple):
    """What is made of images before the task matters."""

    features: Features
    pixels: PixelFeatures


class Network(nn.Module):
    """Normalised images to the predictions of the decoder's heads.

    `backbone` and `prior` are what the plugins built; without a prior the backbone's own pyramid is used. The width of a prior is
    `prior_width(backbone, pixel_decoder)`. Without a conditioner there is one task.
    """

    def __init__(
        self,
        backbone: StagedBackbone,
        prior: Prior | None,
        *,
        enhancer: EnhancerConfig,
        pixel_decoder: PixelDecoderConfig,
        decoder: DecoderConfig,
    ) -> None:
        super().__init__()
        self._frozen: tuple[nn.Module, ...] = ()
        self.encoder: PlainEncoder | EnhancedEncoder
        if prior is None:
            self.encoder = PlainEncoder(backbone)
        else:
            width = prior_width(backbone, pixel_decoder)
            heads = pixel_decoder.heads if backbone.pyramid else backbone.heads
            self.encoder = EnhancedEncoder(backbone, prior, width=width, heads=heads, config=enhancer)
        self.pixel_decoder = PixelDecoder(self.encoder.widths, pixel_decoder)
        self.decoder = GroundDecoder(pixel_decoder.width, decoder)
        self.conditioner: nn.Module | None = None
        """What a plugin built for a network of several tasks, see `plugin.interfaces.TaskVectors`."""

    def freeze_backbone(self) -> None:
        """Train only what the framework adds to the backbone (paper, Table 4)."""
        self._freeze(self.encoder.backbone)

    def freeze_all_but_vectors(self) -> None:
        """Train nothing but the tasks' vectors: what is computed for any other vector stays what it is."""
        self._freeze(*self.children())
        self.vectors.requires_grad_(True)

    def _freeze(self, *parts: nn.Module) -> None:
        self._frozen = parts
        for part in parts:
            part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    @property
    def vectors(self) -> nn.Parameter:
        """`[T, 2, D]`, of the tasks of a network that has a conditioner."""
        return cast(TaskVectors, self.conditioner).vectors

    def forward(self, image: Tensor, *, all_heads: bool = False, condition: Condition | None = None) -> Heads:
        """Images `[B, 3, H, W]`, normalised with the backbone's mean and std, H and W multiples of 32. Raises `DataError` for others.
        Of several tasks the first is meant where no condition says otherwise."""
        if not torch.compiler.is_compiling():  # there a look at a size would fix it
            _check(image)
        return self.decode(self.encode(image), self._shift(condition or Condition(), image.shape[0]), all_heads=all_heads)

    def encode(self, image: Tensor) -> Encoded:
        """The part that is the same for all tasks, and nearly all of the work."""
        features = self.encoder(image)
        return Encoded(features, self.pixel_decoder(features.maps))

    def decode(self, encoded: Encoded, shift: Tensor | None = None, *, all_heads: bool = False) -> Heads:
        """`shift` `[B, 2, C]` is added to the queries of each image."""
        return self.decoder(encoded.pixels, encoded.features, all_heads=all_heads, shift=shift)

    def _shift(self, condition: Condition, batch: int) -> Tensor | None:
        if self.conditioner is None:
            return None
        if condition.examples is not None:
            vectors = self.read_examples(condition.examples)
        elif condition.vectors is not None:
            vectors = condition.vectors
        elif condition.tasks is not None:
            vectors = self.vectors[condition.tasks]
        else:
            vectors = self.vectors[:1].expand(batch, -1, -1)
        return self.conditioner(vectors)

    @torch.no_grad()
    def read_examples(self, examples: Examples) -> Tensor:
        """The vectors `[B, 2, D]` of B sets of examples, seen as in prediction."""
        with _evaluating(self):
            features = self.encode(examples.images.flatten(0, 1)).pixels.mask_features
        features = features.unflatten(0, examples.masks.shape[:2])
        height, width = features.shape[-2:]
        return cast(ReadsExamples, self.conditioner).example_vectors(features, *examples.regions((height, width)))

    @torch.no_grad()
    def for_vectors(self, vectors: Tensor) -> Network:
        """The network of one task that this one is for vectors `[2, D]`: without a conditioner, with queries of its own; all other weights
        are the same tensors."""
        assert self.conditioner is not None
        shift = self.conditioner(vectors[None])[0]
        view, decoder = _shallow(self), _shallow(self.decoder)
        decoder._parameters["query_content"] = nn.Parameter(self.decoder.query_content + shift, requires_grad=False)
        view._modules |= {"decoder": decoder, "conditioner": None}
        return view


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each part has the mode that it had."""
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _shallow(module: Part) -> Part:
    """A module of its own with the same parts and parameters, which may be replaced in it."""
    view = copy.copy(module)
    view._modules, view._parameters = dict(module._modules), dict(module._parameters)
    return view


def _check(image: Tensor) -> None:
    shape = tuple(image.shape)
    if len(shape) != 4 or shape[1] != 3 or not image.numel() or shape[2] % MULTIPLE or shape[3] % MULTIPLE:
        raise DataError(f"images have the shape {list(shape)}; needed is [B, 3, H, W] with H and W multiples of {MULTIPLE}, none of them 0")


def prior_width(backbone: StagedBackbone, pixel_decoder: PixelDecoderConfig) -> int:
    """Width at which prior and backbone meet: a plain transformer's own, the pixel decoder's for a pyramid of several widths."""
    return pixel_decoder.width if backbone.pyramid else backbone.widths[-1]
