"""What plugins built, tried once before it is relied on: each promise of `plugin.interfaces`, and an error that names the plugin."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import PluginError
from ..plugin.calls import calling
from ..plugin.interfaces import StagedBackbone
from .blame import is_memory_short
from .encoder import STRIDES
from .network import Network

PROMISED = ("widths", "heads", "pyramid", "mean", "std", "begin", "enter", "run", "parameter_groups")
BATCH = 2


def built(kind: str, name: str, module: Any) -> Any:
    """What a plugin's ``build`` gave, if it is a network at all. Raises `PluginError`."""
    if not isinstance(module, nn.Module):
        what = module.__name__ if isinstance(module, type) else type(module).__name__
        raise PluginError(f"{kind} {name}: build() must give a torch.nn.Module, it gave {'the class ' * isinstance(module, type)}{what}")
    return module


def built_backbone(name: str, module: Any) -> StagedBackbone:
    """As `built`, with the attributes that `StagedBackbone` promises."""
    built("backbone", name, module)

    def wrong(attribute: str, needs: str) -> PluginError:
        return PluginError(f"backbone {name}: {attribute} must be {needs}, it is {getattr(module, attribute)!r:.60}")

    for attribute in PROMISED:
        if not hasattr(module, attribute):
            raise PluginError(f"backbone {name}: what build() gave has no attribute {attribute}; a backbone has {', '.join(PROMISED)}")
    if not _numbers(module.widths, 4) or not all(type(width) is int and width > 0 for width in module.widths):
        raise wrong("widths", "four whole numbers above 0")
    if type(module.heads) is not int or module.heads < 1:
        raise wrong("heads", "a whole number above 0")
    if not isinstance(module.pyramid, bool):
        raise wrong("pyramid", "True or False")
    if not _numbers(module.mean, 3):
        raise wrong("mean", "three numbers")
    if not _numbers(module.std, 3) or min(module.std) <= 0:
        raise wrong("std", "three numbers above 0")
    for method in ("begin", "enter", "run", "parameter_groups"):
        if not callable(getattr(module, method)):
            raise wrong(method, "a method")
    return cast(StagedBackbone, module)


def built_conditioner(name: str, module: Any, *, tasks: int) -> nn.Module:
    """As `built`, with the vectors that `TaskVectors` promises. Raises `PluginError`."""
    built("conditioner", name, module)
    vectors = getattr(module, "vectors", None)
    if not isinstance(vectors, nn.Parameter) or vectors.dim() != 3 or vectors.shape[:2] != (tasks, 2):
        raise PluginError(
            f"conditioner {name}: vectors must be a parameter [{tasks}, 2, D] (tasks, queries, numbers), it is {_told(vectors)}"
        )
    if not isinstance(getattr(module, "options", None), Mapping):
        raise PluginError(f"conditioner {name}: options must be what build() takes to give the same shapes, by name")
    return cast(nn.Module, module)


def _numbers(values: object, count: int) -> bool:
    return isinstance(values, Sequence) and len(values) == count and all(isinstance(v, Real) and math.isfinite(v) for v in values)


def try_network(network: Network, size: int, *, backbone: str, enhancer: str, width: int | None) -> None:
    """Send two images of `size` through backbone and prior, whose maps have `width` channels. Raises `PluginError` that names the
    plugin, the function and what came. Leaves modes and chance as they were."""
    device = next(network.parameters()).device
    with _trying(network), torch.no_grad():
        image = torch.rand(BATCH, 3, size, size, device=device) - 0.5
        check_network(network, image, backbone=backbone, enhancer=enhancer, width=width)


@torch.no_grad()
def check_network(network: Network, image: Tensor, *, backbone: str, enhancer: str, width: int | None) -> None:
    """What backbone and prior, as they are, give for these images. Raises as `try_network`."""
    _try_backbone(network.encoder.backbone, image, f"backbone {backbone}")
    prior: Any = getattr(network.encoder, "prior", None)
    if prior is not None and width is not None:
        with calling(f"enhancer {enhancer}", "its network", passing=is_memory_short):
            maps = prior(image)
        check_maps(maps, image, width, f"enhancer {enhancer}")
    if network.conditioner is not None:
        with calling("the conditioner", "its network", passing=is_memory_short):
            shift: Any = network.conditioner(network.vectors[:1])
        if not isinstance(shift, Tensor) or tuple(shift.shape) != (1, 2, network.decoder.width) or not bool(shift.isfinite().all()):
            raise PluginError(
                f"the conditioner must shift queries by finite numbers [1, 2, {network.decoder.width}], it gave {_told(shift)}"
            )


def try_refiner(refiner: nn.Module, size: int, *, name: str, device: torch.device) -> None:
    """Ask a built refiner for the loss of two images. Raises as `try_network`."""
    with _trying(refiner), torch.no_grad():
        image = torch.rand(BATCH, 3, size, size, device=device) - 0.5
        logits = torch.randn(1, BATCH, 2, size // 4, size // 4, device=device)
        with calling(f"refiner {name}", "its loss", passing=is_memory_short):
            loss: Any = refiner(image, logits)
    check_loss(loss, name)
    if not math.isfinite(float(loss)):
        raise PluginError(f"refiner {name}: its loss is {float(loss)}")


def check_loss(loss: object, name: str) -> None:
    """Raise `PluginError` where a refiner gave no loss."""
    if not isinstance(loss, Tensor) or loss.dim() or not loss.is_floating_point():
        raise PluginError(f"refiner {name}: its loss must be a scalar tensor of fractions, it is {_told(loss)}")


def _try_backbone(module: Any, image: Tensor, plugin: str) -> None:
    with calling(plugin, "begin()", passing=is_memory_short):
        state = module.begin(image)
    for stage in range(4):
        with calling(plugin, f"enter(state, {stage})", passing=is_memory_short):
            entered = module.enter(state, stage)
        if not isinstance(entered, tuple | list) or len(entered) != 2:
            raise PluginError(f"{plugin}: enter() must give tokens and their grid, it gave {_told(entered)}")
        tokens, grid = entered
        if not _numbers(grid, 2):
            raise PluginError(f"{plugin}: the grid of enter() must be (rows, columns), it is {grid!r:.60}")
        shape = (len(image), grid[0] * grid[1], module.widths[stage])
        _check_tokens(tokens, shape, f"{plugin}: enter(), stage {stage},")
        with calling(plugin, f"run(state, {stage}, tokens)", passing=is_memory_short):
            output = module.run(state, stage, tokens)
        _check_tokens(output, shape, f"{plugin}: run(), stage {stage},")


def _check_tokens(tokens: object, shape: tuple[int, ...], source: str) -> None:
    if not isinstance(tokens, Tensor) or tuple(tokens.shape) != shape:
        raise PluginError(f"{source} must give tokens {list(shape)} (images, tokens, width), it gave {_told(tokens)}")
    if not bool(tokens.isfinite().all()):
        raise PluginError(f"{source} gave NaN or infinite tokens")


def check_maps(maps: object, image: Tensor, width: int, plugin: str) -> None:
    """Raise `PluginError` where a prior gave other maps than it promised."""
    if not isinstance(maps, tuple | list) or len(maps) != len(STRIDES):
        count = f"{len(maps)} maps" if isinstance(maps, tuple | list) else _told(maps)
        raise PluginError(f"{plugin} must give {len(STRIDES)} maps, of strides {', '.join(map(str, STRIDES))}; it gave {count}")
    for stride, level in zip(STRIDES, maps, strict=True):
        shape = (len(image), width, image.shape[2] // stride, image.shape[3] // stride)
        if not isinstance(level, Tensor) or tuple(level.shape) != shape:
            raise PluginError(f"{plugin}: its map of stride {stride} must be {list(shape)}, it is {_told(level)}")
        if not bool(level.isfinite().all()):
            raise PluginError(f"{plugin}: its map of stride {stride} holds NaN or infinite numbers")


@contextmanager
def _trying(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and chance of its own."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def _told(value: object) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
