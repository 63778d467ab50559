"""Weights of the authors' checkpoints for tests: every value follows from a seed and the authors' name of the tensor.

The rule is that of the fixtures in ``data/release``: pseudo-random numbers of unit variance, bit for bit the same everywhere, times a
factor that depends on the kind of parameter.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

DATA = Path(__file__).parents[1] / "data" / "release"
REFERENCE = Path(__file__).parents[2].parent / "shared" / "reference"
TINY_SEED = 125
KEPT = {"empty_weight": [1.0, 1.0, 0.1], "logit_scale": 0.0, "pixel_mean": 0.0, "pixel_std": 1.0}
"""Leaves that the rule leaves as they were built. None of them is looked at when predicting; these values have the right shape."""

Shapes = Mapping[str, tuple[int, ...]]


@cache
def released_shapes(variant: str) -> dict[str, tuple[int, ...]]:
    """All keys of a released file and their shapes: ``large``, ``giant``, and ``tiny``, the one that the fixtures were made with."""
    with gzip.open(DATA / "keys.json.gz", "rt") as file:
        return {name: tuple(shape) for name, shape in json.load(file)[variant].items()}


def released_state(shapes: Shapes, seed: int = TINY_SEED) -> dict[str, Tensor]:
    """The tensors of these names and shapes."""
    return {name: weight(seed, name, shape) for name, shape in shapes.items()}


def weight(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """One tensor by the rule."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf in KEPT:
        return torch.tensor(KEPT[leaf]).expand(shape).clone()
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    return torch.from_numpy(_scaled(name, leaf, unit_numbers(seed, name, shape)).astype(np.float32)).reshape(shape)


def unit_numbers(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Sums of four uniform numbers, float64, of mean zero and variance one."""
    key = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], "little")
    words = np.random.Philox(key=key).random_raw(4 * math.prod(shape))
    u = ((words >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(-1, 4)
    return ((((u[:, 0] + u[:, 1]) + u[:, 2]) + u[:, 3] - 2.0) * math.sqrt(3.0)).reshape(shape)


def _scaled(name: str, leaf: str, z: np.ndarray) -> np.ndarray:
    if leaf == "running_var":
        return 1.0 + 0.2 * np.abs(z)
    if name.endswith("injector.gamma"):
        return 0.1 + 0.05 * z
    if leaf in ("gamma1", "gamma2"):
        return 0.3 + 0.05 * z
    if z.ndim == 1 and leaf == "weight" and not _is_embedding(name):
        return (1.0 + 0.1 * z) * (0.5 if ".edge.layer" in name and ".bn3." in name else 1.0)
    return z * _factor(name, leaf, z.shape)


def _is_embedding(name: str) -> bool:
    return any(part in name for part in ("query_feat", "query_embed", "level_embed"))


def _factor(name: str, leaf: str, shape: tuple[int, ...]) -> float:
    if leaf == "running_mean":
        return 0.1
    if name.endswith("sampling_offsets.bias"):
        return 2.0
    if leaf in ("pos_embed", "cls_token"):
        return 0.5
    if _is_embedding(name):
        return 1.0
    clip = ("positional_embedding", "class_embedding", "mask_embedding", "non_object_embedding")
    if leaf in clip or "token_embedding" in name:
        return 0.3
    if len(shape) < 2:
        return 0.05
    return _gain(name) / math.sqrt(math.prod(shape[1:]))


def _gain(name: str) -> float:
    if ".edge." in name and ".fc" not in name:
        return math.sqrt(2.0)
    if name.endswith("sampling_offsets.weight"):
        return 0.5
    if name.endswith("class_embed.weight"):
        return 3.0
    if "predictor.transformer_" in name and name.endswith(("out_proj.weight", "linear2.weight")):
        return 0.4
    return 1.0


def fixture(name: str) -> dict[str, Tensor]:
    """The tensors that come with the tests, and all others where the originals are at hand."""
    whole = REFERENCE / f"{name}.safetensors"
    return load_file(DATA / f"{name}.safetensors") | (load_file(whole) if whole.is_file() else {})
