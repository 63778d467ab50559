"""Batch norms that see too little to normalise with."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .processes.team import SharedBatchNorm

ASIDE = "_training_aside"


def spare_single_values(modules: nn.Module) -> None:
    """Let every batch norm that gets one value a channel (a batch of one image, pooled to one place) work with its running statistics for
    that once: a single value has no spread, and torch refuses it. A norm that is shared by several processes sees all of theirs."""
    for module in modules.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm | SharedBatchNorm) and module.track_running_stats:
            module.register_forward_pre_hook(_put_aside)
            module.register_forward_hook(_take_up, always_call=True)


def _put_aside(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
    values = inputs[0]
    if norm.training and values.numel() == values.shape[1]:
        setattr(norm, ASIDE, True)
        norm.training = False


def _take_up(norm: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    if getattr(norm, ASIDE, False):
        delattr(norm, ASIDE)
        norm.training = True
