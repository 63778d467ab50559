"""Hooks on the parts of a network that keep what goes through them during one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...model.deformable_attention import DeformableAttention
from ...model.encoder import EnhancedEncoder, Features, to_map
from ...model.network import Network
from ...model.pixel_decoder import PixelFeatures


class Attended(NamedTuple):
    """What a call of deformable attention got."""

    module: DeformableAttention
    query: Tensor
    references: Tensor
    shapes: list[tuple[int, int]]


class Recorder:
    """While it is open, one pass of a network leaves here what its parts made of it. Works for any backbone and enhancer: it listens
    to the framework's own modules and to what plugins hand them."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.prior: Sequence[Tensor] = ()
        """Four maps of the enhancer, 1/4 first; none without one."""
        self.stages: list[Tensor] = []
        """Outputs of the backbone's four stages `[B, C, rows, columns]`."""
        self.features: Features
        self.pixels: PixelFeatures
        self.blocked: list[Tensor | None] = []
        """For each layer of the ground decoder `[B * heads, 2, N]`, true where a query may not look; None where it may look everywhere."""
        self.attended: dict[str, Attended] = {}
        """Calls of deformable attention, by the part that made them."""
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        encoder = self.network.encoder
        if isinstance(encoder, EnhancedEncoder):
            self._after(encoder.prior, lambda inputs, output: setattr(self, "prior", output))
            for extractor in encoder.extractors[:4]:  # each is called with what its stage returned
                self._before(extractor, lambda inputs: self.stages.append(to_map(inputs[2], inputs[3])))
            self._attention("injector of the last stage", encoder.injectors[-1].attention)
        else:
            for norm in encoder.norms:
                self._before(norm, lambda inputs: self.stages.append(inputs[0]))
        self._after(encoder, lambda inputs, output: setattr(self, "features", output))
        self._attention("last layer of the pixel decoder", self.network.pixel_decoder.layers[-1].attention)
        self._after(self.network.pixel_decoder, lambda inputs, output: setattr(self, "pixels", output))
        for layer in self.network.decoder.layers:
            self._before(layer, lambda inputs: self.blocked.append(inputs[4]))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    def _before(self, module: nn.Module, keep: Callable[[tuple[Any, ...]], Any]) -> None:
        self._handles.append(module.register_forward_pre_hook(lambda _, inputs: keep(inputs) and None))

    def _after(self, module: nn.Module, keep: Callable[[tuple[Any, ...], Any], Any]) -> None:
        self._handles.append(module.register_forward_hook(lambda _, inputs, output: keep(inputs, output) and None))

    def _attention(self, name: str, module: Any) -> None:
        def keep(inputs: tuple[Any, ...]) -> None:
            self.attended[name] = Attended(module, inputs[0], inputs[1], list(inputs[3]))

        self._before(module, keep)


def sampled(call: Attended, query: int) -> Tensor:
    """Where query number `query` of the first image looks, `[samples, 4]`: x and y in 0..1 of the padded image, the level's number,
    and the sample's share of its head's attention."""
    module = call.module
    layout = (module.heads, module.levels, module.points)
    tokens = call.query[:1, query]
    offsets = module.sampling_offsets(tokens).float().view(*layout, 2)
    weights = module.attention_weights(tokens).float().view(module.heads, -1).softmax(-1).view(layout)
    sizes = torch.tensor([(columns, rows) for rows, columns in call.shapes], dtype=torch.float32, device=offsets.device)
    reference = call.references[0, query].float().expand(module.levels, 2)
    places = reference[None, :, None] + offsets / sizes[None, :, None]
    levels = torch.arange(module.levels, device=offsets.device, dtype=torch.float32)[None, :, None].expand(layout)
    return torch.cat([places, levels[..., None], weights[..., None]], -1).flatten(0, 2).cpu()
