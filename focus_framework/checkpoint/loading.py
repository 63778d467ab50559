"""From a checkpoint to a network that is ready to predict."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config.schema import RunConfig
from ..errors import FocusError, WeightsError
from ..files.reading import spelled_here
from ..model.build import build_network
from ..model.network import Network
from ..plugin.calls import reason
from .format import Description, read_checkpoint
from .header import checked, refuse_beyond

logger = logging.getLogger(__name__)

FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".onnx")
"""What ends like this is meant for a file, though there is none."""
SHOWN = 8  # names of keys in an error; the rest is counted


def open_checkpoint(reference: str | Path) -> tuple[RunConfig, Network, Description]:
    """As `load_network`, of one of our files, a released ``.pth``, ``hf://owner/name`` of either kind, or a known name."""
    from .importing import is_released, read_release  # here: it imports this module

    path, name = locate(reference)
    if not is_released(path):
        return load_network(path)
    released = read_release(path, name=name)
    released.network.load_state_dict(released.state, strict=True, assign=True)
    return released.config, released.network.eval(), released.description


def locate(reference: str | Path) -> tuple[Path, str]:
    """The file that a reference stands for, fetched where that is needed, and what says more of it than its path: the name on the hub,
    or nothing. A bare name that is no file is that of a known checkpoint, or of a task, for its first known one."""
    from .hub import PREFIX, fetch
    from .known import find_known, obtain

    name = spelled_here(str(reference))
    path = Path(name)
    if name.startswith(PREFIX):
        return fetch(name), name
    if re.fullmatch(r"\w[\w.-]*", name) and path.suffix not in FILES and not path.exists():
        known = find_known(name)
        if known.checkpoint.name != name:
            logger.info("task %s: %s, its first known checkpoint", name, known.checkpoint.name)
        return obtain(known), ""
    return path, ""


def load_network(path: str | Path) -> tuple[RunConfig, Network, Description]:
    """The configuration, the network in eval mode on the CPU and the description of one of our checkpoints. Raises `WeightsError`."""
    description, state = read_checkpoint(path)
    return *assembled(description, state, path), description


def assembled(description: Mapping[str, Any], state: Mapping[str, Tensor], source: str | Path) -> tuple[RunConfig, Network]:
    """The configuration, and the network in eval mode with these very tensors, of a description. Raises `WeightsError`."""
    config = config_of(description, source)
    network = _planned(config, {name: tuple(tensor.shape) for name, tensor in state.items()}, source)
    fit(network, state, source)
    return config, network.eval()


def check_shapes(config: RunConfig, shapes: Mapping[str, tuple[int, ...]], source: str | Path) -> None:
    """Raise `WeightsError` where tensors of these shapes are not those of the configuration's network."""
    network = _planned(config, shapes, source)
    compare(shapes, {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}, source)


def _planned(config: RunConfig, shapes: Mapping[str, tuple[int, ...]], source: str | Path) -> Network:
    """The network of a configuration, without values, that tensors of such shapes can fill."""
    refuse_beyond(config, shapes, source)
    try:
        return empty_network(config)
    except FocusError as error:
        raise WeightsError(f"the network of {source} cannot be built: {error}") from error
    except Exception as error:  # whatever sizes that contradict one another lead to
        raise WeightsError(f"the network of {source} cannot be built from its header: {reason(error)}") from error


def empty_network(config: RunConfig) -> Network:
    """A network whose parameters have shapes but neither values nor memory: a checkpoint's tensors take their places."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        return build_network(config, weights="none")


def config_of(description: Mapping[str, Any], path: str | Path) -> RunConfig:
    """The configuration in a description, which is checked whole. Raises `WeightsError`."""
    return checked(description, path)


def fit(network: Network, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Put tensors into a network; all of them, into all places, each a number; or a `WeightsError` that lists what does not fit."""
    places = network.state_dict()
    wanted = {name: tuple(tensor.shape) for name, tensor in places.items()}
    compare({name: tuple(tensor.shape) for name, tensor in state.items()}, wanted, source)
    network.load_state_dict({name: fitting(name, state[name], places[name], source) for name in places}, strict=True, assign=True)


def fitting(name: str, tensor: Tensor, place: Tensor, source: str | Path) -> Tensor:
    """The tensor in the type of its place. Raises `WeightsError` where it is of whole numbers, or holds what is none."""
    if not place.is_floating_point():
        return tensor
    if not tensor.is_floating_point():
        raise WeightsError(f"the weights in {source} are damaged: {name} holds {str(tensor.dtype).removeprefix('torch.')}, not fractions")
    if not bool(tensor.isfinite().all()):
        raise WeightsError(f"the weights in {source} are damaged: {name} holds NaN or infinite numbers")
    return tensor if tensor.dtype == place.dtype else tensor.to(place.dtype)


def compare(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], source: str | Path) -> None:
    """Raise `WeightsError` with the names of what is missing, left over or of another shape."""
    misshapen = [
        f"{name} {list(found[name])} instead of {list(shape)}" for name, shape in wanted.items() if found.get(name, shape) != shape
    ]
    problems = {
        "missing": [name for name in wanted if name not in found],
        "not part of the network": [name for name in found if name not in wanted],
        "of another shape": misshapen,
    }
    told = [f"{len(names)} {what}: {_listed(names)}" for what, names in problems.items() if names]
    if told:
        raise WeightsError(f"the weights in {source} do not fit: {'; '.join(told)}")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
