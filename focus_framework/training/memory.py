"""How much memory training takes, and taking less of it."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import cast

import psutil
import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..config.schema import RunConfig
from ..errors import ConfigError, FocusError
from ..model.encoder import Extractor, Injector
from ..model.ground_decoder import DecoderLayer
from ..model.network import Network
from ..model.pixel_decoder import EncoderLayer
from ..plugin.interfaces import StagedBackbone

MEBIBYTE = 1 << 20


class MemoryShortError(FocusError):
    """The device has too little memory for this run."""


def is_memory_short(error: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (isinstance(error, Exception) and should_reduce_batch_size(error))


def check_memory(config: RunConfig) -> None:
    """Raise `ConfigError` where not even the images of one batch fit into this machine's memory."""
    count, side = config.training.batch_size, config.preprocessing.size
    wanted, there = 12 * count * side**2, psutil.virtual_memory().total  # three channels of four bytes
    if wanted > there:
        raise ConfigError(
            f"the images of one batch, {count} of {side} x {side} pixels, take {wanted / 2**30:,.0f} GiB and this machine has "
            f"{there / 2**30:,.0f}; lower --batch-size (training.batch_size) or --image-size (preprocessing.size)"
        )


def memory_in_use(device: torch.device) -> int:
    """The most that a GPU had allocated so far, or what the process holds now, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // MEBIBYTE
    return psutil.Process().memory_info().rss // MEBIBYTE


def transformer_layers(network: Network) -> list[nn.Module]:
    """The layers that make up most of the network, each called as a module: those of the backbone that it has several of (not what
    makes patches, of which it uses parts alone), and ours."""
    groups = cast(StagedBackbone, network.encoder.backbone).parameter_groups()
    count = Counter(map(type, groups))
    ours = (module for module in network.modules() if isinstance(module, Injector | Extractor | EncoderLayer | DecoderLayer))
    return [*(layer for layer in groups if count[type(layer)] > 1), *ours]


def checkpoint_activations(network: Network) -> None:
    """Keep of every transformer layer only what goes in; the rest is recomputed in the backward pass (Chen et al. 2016)."""
    for layer in transformer_layers(network):
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
