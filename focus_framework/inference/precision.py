"""Choosing the precision: ``auto`` takes bf16 where the device computes in it, and a trial shows it faster and no worse.

Nothing is known from the name of a device. What it can do is looked up in what PyTorch and oneDNN report, and what that is worth depends
on the network: large matrix products gain, small convolutions may lose by the conversions around them (`benchmarks/half_precision.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import torch

Chosen: TypeAlias = Literal["fp32", "bf16"]
FASTER = 0.95
"""bf16 is taken where it needs no more than this share of fp32's time: less of a gain may be chance."""
TURNS = 3
SECONDS = 10.0
"""A trial ends after the turn in which so much time is over."""

T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """A precision, and what decided it."""

    precision: Chosen
    why: str

    def __str__(self) -> str:
        return f"{self.precision}: {self.why}"


def half_precision(device: torch.device) -> tuple[str, ...]:
    """What a device has for arithmetic in bf16, as PyTorch and oneDNN report it; nothing where it has none."""
    if device.type == "cuda":
        return ("tensor cores",) if torch.cuda.is_bf16_supported(including_emulation=False) else ()
    if device.type != "cpu" or not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return ()
    # oneDNN also says yes where it converts from and to fp32 around every product, so the instructions are asked for too.
    return tuple(sorted(name for name, there in torch.cpu.get_capabilities().items() if "bf16" in name and there is True))


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Matrix products and convolutions in that precision; what needs more keeps fp32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def choose(call: Callable[[], T], device: torch.device, difference: Callable[[T, T], float], *, allowed: float, what: str) -> Choice:
    """Try `call` in both precisions, in turns, so that a busy machine meets both alike; the least of the times counts.

    `difference` of the results in fp32 and in bf16 must be at most `allowed`; `what` says what it is the difference of. NaN is too much.
    """
    if not (instructions := half_precision(device)):
        return Choice("fp32", f"PyTorch and oneDNN report no arithmetic in bf16 for {device}")
    times, results = _trial(call, device)
    ratio, apart = times["bf16"] / times["fp32"], difference(results["fp32"], results["bf16"])
    told = f"in a trial bf16 took {ratio:.2f} of fp32's time ({1e3 * times['bf16']:.0f} and {1e3 * times['fp32']:.0f} ms) "
    told += f"and {what} differed by {apart:.2g} ({', '.join(instructions)})"
    if not apart <= allowed or math.isnan(apart):
        return Choice("fp32", f"{told}; more than {allowed:g} is too much")
    if ratio > FASTER:
        return Choice("fp32", f"{told}; it is taken at {FASTER:g} or less")
    return Choice("bf16", told)


def _trial(call: Callable[[], T], device: torch.device) -> tuple[dict[Chosen, float], dict[Chosen, T]]:
    """Seconds of the quickest call, and the result of the last one, by precision. The first call of each only warms up."""
    precisions: tuple[Chosen, Chosen] = ("fp32", "bf16")
    times: dict[Chosen, float] = dict.fromkeys(precisions, math.inf)
    results: dict[Chosen, T] = {}
    begin = time.perf_counter()
    for turn in range(1 + TURNS):
        for precision in precisions:
            start = time.perf_counter()
            with computing_in(precision, device):
                results[precision] = call()
            if device.type != "cpu":
                torch.accelerator.synchronize()
            if turn:
                times[precision] = min(times[precision], time.perf_counter() - start)
        if turn and time.perf_counter() - begin > SECONDS:
            break
    return times, results
