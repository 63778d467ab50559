"""Which GPUs compiled CUDA code runs on."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Processors with a GPU on the same chip (Jetson, Thor): machine code is interchangeable neither with nor among them.
_INTEGRATED = {(5, 3), (6, 2), (7, 2), (8, 7), (8, 8), (10, 1), (11, 0)}


def covers(built: Iterable[str], capability: tuple[int, int]) -> bool:
    """Whether code built for `built` runs on a device of this compute capability.

    `built` holds names as nvcc's: ``sm_80`` is machine code, for this capability and later ones of the same major number;
    ``compute_80`` is PTX, which the driver compiles for any later device. With the suffix ``a`` either is for this capability
    alone, with ``f`` for later ones of the same major number (CUDA C++ Programming Guide, "Compute Capabilities").
    """
    return any(_covers(name, capability) for name in built)


def _covers(name: str, capability: tuple[int, int]) -> bool:
    parts = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
    if parts is None:
        return False
    kind, major, minor, suffix = parts.groups()
    target = (int(major), int(minor))
    if target == capability:
        return True
    if suffix == "a":
        return False
    family = target[0] == capability[0] and target[1] < capability[1]
    if kind == "compute":
        return family if suffix == "f" else target < capability
    return family and not {target, capability} & _INTEGRATED
