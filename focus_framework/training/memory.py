"""How much memory training takes, and taking less of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import psutil
import torch
from accelerate.utils import find_executable_batch_size
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import FocusError
from ..interfaces import StagedBackbone
from ..model.encoder import Extractor, Injector
from ..model.ground_decoder import DecoderLayer
from ..model.network import Network
from ..model.pixel_decoder import EncoderLayer

if TYPE_CHECKING:
    from .update import Update

MEBIBYTE = 1 << 20
ADAM_MOMENTS = 2


class MemoryShortError(FocusError):
    """The device has too little memory for this run."""


def is_memory_short(error: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (isinstance(error, Exception) and should_reduce_batch_size(error))


def memory_in_use(device: torch.device) -> int:
    """The most that a GPU had allocated so far, or what the process holds now, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // MEBIBYTE
    return psutil.Process().memory_info().rss // MEBIBYTE


def checkpoint_activations(network: Network) -> None:
    """Keep of every transformer layer only what goes in; the rest is computed again on the way back (Chen et al. 2016)."""
    backbone = cast(StagedBackbone, network.encoder.backbone)
    ours = (module for module in network.modules() if isinstance(module, Injector | Extractor | EncoderLayer | DecoderLayer))
    layer: nn.Module
    for layer in (*backbone.parameter_groups(), *ours):
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def find_parts(update: Update, batch: Mapping[str, Any], step: int) -> int:
    """Into how many parts this process's share of a batch must be cut to fit into memory, tried with the batch itself: 1, 2, ... of
    those that divide it. Weights, norms and optimizer stay as they are. Raises `MemoryShortError` where one picture is too much."""
    share = len(batch["mask"])
    sizes = iter([size for size in range(share, 0, -1) if share % size == 0 and share // size >= update.parts])
    norms = {name: buffer.clone() for name, buffer in update.model.network.named_buffers()}

    @find_executable_batch_size(starting_batch_size=next(sizes), reduce_batch_size_fn=lambda: next(sizes, 0))
    def attempt(size: int) -> int:
        update.parts = share // size
        reserved = [] if update.optimizer.state else [torch.empty_like(p) for p in update.trained for _ in range(ADAM_MOMENTS)]
        update.gradients(batch, step)
        del reserved
        return update.parts

    try:
        return attempt()
    except RuntimeError as error:
        if "No executable batch size" not in str(error):
            raise
        raise MemoryShortError(
            "not even one picture at a time fits into memory; lower --image-size, or --set training.checkpoint_activations=true"
        ) from error
    finally:
        update.prepared.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in update.model.network.named_buffers():
                buffer.copy_(norms[name])
