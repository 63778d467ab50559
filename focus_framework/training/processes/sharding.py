"""Weights, gradients and optimizer state sharded over the processes of a run (FSDP2, torch's `fully_shard`), and the state of a
network put together again, which is the same whether it was sharded or not.

accelerate's own FSDP2 is not used: it works on GPUs alone, so that none of it could be tried on CPUs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim import Optimizer

from ...errors import ConfigError

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
"""Every tensor as if there were one process, on the CPU of the leading one; the others get nothing."""


def asked_by_launcher() -> bool:
    """Whether ``accelerate launch --use_fsdp`` started this process. Its word is taken over, so that accelerate does not act on it
    too. Raises `ConfigError` where it asks for the first FSDP."""
    if os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return False
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigError("only the second FSDP is supported: accelerate launch --use_fsdp --fsdp_version 2 ...")
    return True


def share_out(module: nn.Module, layers: Iterable[nn.Module], device: torch.device, processes: int) -> None:
    """Leave each process its part of every parameter. The whole of one is there only while its layer, one of `layers`, or else
    `module` itself, works. It must be the same in all processes before."""
    mesh = init_device_mesh(device.type, (processes,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)


def whole_state(module: nn.Module) -> dict[str, Any]:
    """The state of a module; to be asked for by all processes, and given to the leading one."""
    return get_model_state_dict(module, options=WHOLE)


def whole_optimizer_state(modules: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """As `whole_state`, of the optimizer of `modules`, by the names of their parameters."""
    return dict(get_optimizer_state_dict(modules, optimizer, options=WHOLE))


def take_state(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Take over what `whole_state` gave; every process has it all."""
    set_model_state_dict(module, dict(state), options=StateDictOptions(full_state_dict=True))


def take_optimizer_state(modules: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Take over what `whole_optimizer_state` gave. A parameter that no gradient ever reached has no state."""
    set_optimizer_state_dict(modules, optimizer, dict(state), options=StateDictOptions(full_state_dict=True, strict=False))
    for group in optimizer.param_groups:  # torch turns tuples into lists on the way
        group.update({name: tuple(value) for name, value in group.items() if isinstance(value, list) and name != "params"})
