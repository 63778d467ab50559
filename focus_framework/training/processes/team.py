"""Several processes, one run: what they must agree on, and norms over the images of all of them."""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import ConfigError, FocusError
from .stopping import StoppedError

PATIENCE = timedelta(hours=6)
"""How long the others wait while the main process scores and saves."""

T = TypeVar("T")


class LostError(FocusError):
    """Another process of the run is gone."""


class Team:
    """The processes of a run, as ``accelerate launch`` or ``torchrun`` started them; alone where nobody did.

    What they tell one another goes through the CPU, so that no GPU is waited for. In a ``with`` statement they wait for one another
    at its end.
    """

    def __init__(self, accelerator: Accelerator, *, shard: bool = False) -> None:
        self.rank, self.size = accelerator.process_index, accelerator.num_processes
        self.shards = shard and self.size > 1
        """Whether weights and optimizer state are sharded, see `sharding`."""
        self._group: Any = dist.new_group(backend="gloo", timeout=PATIENCE) if self.size > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # After an error of one process the others are elsewhere, and their launcher ends them.
        if self._group and (error is None or isinstance(error, StoppedError)):
            with suppress(RuntimeError):  # another one has left already, and nothing is left to be said
                self.wait()
            atexit.unregister(_hang_up)
            atexit.register(_hang_up)

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def largest(self, *numbers: float) -> list[float]:
        """Of each number the largest that any process has."""
        values = torch.tensor(numbers, dtype=torch.float64)
        if self._group:
            dist.all_reduce(values, dist.ReduceOp.MAX, group=self._group)
        return values.tolist()

    def told(self, value: T) -> T:
        """What the main process has."""
        box = [value]
        if self._group:
            dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def gathered(self, value: T) -> list[T]:
        """What each process has, in their order."""
        values = [value] * self.size
        if self._group:
            dist.all_gather_object(values, value, group=self._group)
        return values

    def wait(self) -> None:
        """Until all are here."""
        if self._group:
            dist.barrier(group=self._group)

    def is_loss(self, error: BaseException) -> bool:
        """Whether that is what breaks, anywhere in a step, where another process is gone."""
        return self.size > 1 and isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or bool(_LOST.search(str(error))))

    @contextmanager
    def noticing_loss(self, folder: Path) -> Iterator[None]:
        """That another process is gone, as a `LostError` instead of whatever breaks when it is talked to."""
        try:
            yield
        except RuntimeError as error:
            if not self.is_loss(error):
                raise
            raise LostError(
                f"process {self.rank} of {self.size} lost another one, which may have said why; "
                f"focus train --resume {folder} resumes from the last checkpoint"
            ) from error


def launched() -> int:
    """How many processes the launcher has started."""
    given = os.environ.get("WORLD_SIZE", "1")
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f"the variable WORLD_SIZE is {given!r}; it is the number of processes, which a launcher sets. Unset it")
    return int(given)


def _hang_up() -> None:
    """At the end of the process, for one that ends while torch's threads still listen may crash on its way out. Not before: another
    run in the same process talks over the same lines."""
    if dist.is_initialized():
        dist.destroy_process_group()


_LOST = re.compile(r"gloo|connection (closed|reset|refused)|broken pipe", re.IGNORECASE)
"""What torch says in a plain `RuntimeError` where gloo breaks."""


def synchronise_norms(network: nn.Module, device: torch.device) -> None:
    """Let batch norms see the images of all processes; names and values of the parameters stay."""
    if device.type != "cpu":
        convert_sync_batchnorm(network)
        return
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            plain = type(module) in (nn.BatchNorm1d, nn.BatchNorm2d)  # not those of timm, which have an activation inside
            if plain and isinstance(module, _BatchNorm):
                setattr(parent, name, SharedBatchNorm.of(module))


class SharedBatchNorm(_BatchNorm):
    """Batch norm over the images of all processes on CPUs, for which torch's own `SyncBatchNorm` is not made."""

    @classmethod
    def of(cls, norm: _BatchNorm) -> SharedBatchNorm:
        """One with the parameters and the statistics of `norm` themselves, so that whoever holds them still does."""
        shared = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        shared.weight, shared.bias = norm.weight, norm.bias
        shared.running_mean, shared.running_var, shared.num_batches_tracked = norm.running_mean, norm.running_var, norm.num_batches_tracked
        return shared.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.running_mean is None or self.running_var is None or self.momentum is None:
            return super().forward(x)
        pictures_and_places = [0, *range(2, x.dim())]
        shape = [-1] + [1] * (x.dim() - 2)
        mean = _Mean.apply(x.mean(pictures_and_places))
        centred = x - mean.view(shape)
        variance = _Mean.apply(centred.square().mean(pictures_and_places))
        with torch.no_grad():
            count = x.numel() // x.shape[1] * dist.get_world_size()
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale.view(shape) + self.bias.view(shape)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  (torch's name)
        """Any number of dimensions."""


class _Mean(torch.autograd.Function):
    """The mean over processes of a tensor of equal shape in each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _mean(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _mean(gradient)


def _mean(x: Tensor) -> Tensor:
    total = x.detach().clone().contiguous()
    dist.all_reduce(total)
    return total / dist.get_world_size()
