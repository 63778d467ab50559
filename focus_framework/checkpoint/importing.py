"""The authors' released checkpoints turned into ours."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..config.layers import nest, read_preset
from ..config.prompts import choose
from ..config.schema import RunConfig
from ..errors import WeightsError
from ..model.network import Network
from ..plugin.calls import reason
from ..plugin.registry import Entry, registry
from . import release
from .description import describe
from .format import Description, is_pickle, read_description, write_checkpoint
from .loading import compare, empty_network
from .pickles import read_tensors

logger = logging.getLogger(__name__)

ASSUMED_TASK = "salient"
NO_TASK = (
    "%s: neither its name nor its folder's says which task it was trained for (cod, sod, sd, dbd, fd); " + ASSUMED_TASK + " is assumed. "
    "That decides prompts and metrics, not masks; --task-plugin of focus checkpoint import sets it"
)
LICENCE = "Apache-2.0 (code of the authors); the data that the weights were trained on have terms of their own"


@dataclass(frozen=True)
class Released:
    """A released checkpoint, understood. `network` has shapes but no weights; `state` has them, by our names."""

    config: RunConfig
    network: Network
    state: dict[str, Tensor]
    description: Description


def import_release(path: str | Path, out: str | Path, *, task: str | None = None) -> Description:
    """Write a released file as a checkpoint of ours and return its description.

    The tensors go from file to file without being held in memory. Raises `WeightsError` that names every key which is missing, of
    another shape or of no part of the network.
    """
    released = read_release(path, task=task)
    write_checkpoint(out, released.state, released.description)
    return released.description


def is_released(path: str | Path) -> bool:
    """Whether a file is to be read as one of the authors': any pickle, or a ``.safetensors`` with their keys."""
    if not Path(path).is_file():
        return False
    if is_pickle(path):
        return True
    try:
        with safe_open(path, "pt") as file:
            return release.is_release(file.keys())
    except (SafetensorError, OSError):
        return False


def read_release(path: str | Path, *, task: str | None = None, name: str = "") -> Released:
    """Understand a released file. `task` is what ``--task-plugin`` takes; without it `name` tells, by default the path's."""
    path = Path(path)
    if not is_released(path):
        read_description(path)  # says what is wrong with a file that is neither
        raise WeightsError(f"{path} is a checkpoint of this framework already")
    tensors = read_tensors(path)
    if not release.is_release(tensors):
        first = ", ".join(list(tensors)[:3])
        raise WeightsError(f"{path} holds weights, but not of one of the authors' released checkpoints (it begins with {first})")
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    named = task or release.task_of(name or f"{path.parent.name} {path.stem}")
    entry = registry().find_task(named or ASSUMED_TASK)
    try:
        config = _configuration(release.implied_settings(shapes), entry, release.variant(shapes))
        network = empty_network(config)
    except Exception as error:  # sizes that contradict one another lead to anything
        told = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else reason(error)
        raise WeightsError(f"{path}: a network with these sizes cannot be built: {told}") from error
    used = {key: shape for key, shape in shapes.items() if not release.TRAINING_ONLY.fullmatch(key)}
    gated = release.is_gated(shapes)
    wanted = {release.their_name(key, gated=gated): tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    compare(used, wanted, path)
    state = {release.our_name(key) or key: _float32(tensors[key]) for key in wanted}
    pairs = choose(entry.get(), config.prompts, plugin=entry.distribution)
    description = describe(config, network, entry, pairs) | {
        "licence": LICENCE,
        "released": {
            "file": path.name,
            "variant": release.variant(shapes) or "of other sizes",
            "keys": len(tensors),
            "used": len(used),
            "training_only": len(tensors) - len(used),
        },
    }
    if named is None:
        _tell_of_no_task(path.absolute())
    return Released(config, network, state, description)


@cache
def _tell_of_no_task(path: Path) -> None:
    """Once: a run reads its parent several times."""
    logger.warning(NO_TASK, path)


def _configuration(settings: Mapping[str, Any], task: Entry, variant: str) -> RunConfig:
    """The release's recipe with the sizes of a file."""
    preset = f"release-{variant or 'large'}"
    recipe = {k: v for k, v in read_preset(preset).items() if not k.startswith(("backbone.options.", "enhancer.options."))}
    prompts = {"prompts.choice": "release"} if "release" in task.get().other_prompts else {}
    return RunConfig.model_validate({"task": task.name, "preset": preset, **nest({**recipe, **settings, **prompts})})


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
