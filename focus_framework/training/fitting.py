"""Working a batch through in as few parts as fit into memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import find_executable_batch_size

from .memory import MemoryShortError
from .update import Update

ADAM_MOMENTS = 2


def find_parts(update: Update, batch: Mapping[str, Any], step: int) -> int:
    """Into how many parts this process's share of a batch must be cut to fit into memory, tried with the batch itself: 1, 2, ... of
    those that divide it. Weights, norms and optimizer stay as they are. Raises `MemoryShortError` where one image is too much."""
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
            "not even one image at a time fits into memory; lower --image-size, or --set training.checkpoint_activations=true"
        ) from error
    finally:
        update.prepared.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in update.model.network.named_buffers():
                buffer.copy_(norms[name])
