"""What inference and a training step cost, stage by stage, with the compiled deformable attention and without."""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from ..config.schema import RunConfig
from ..errors import DeviceError
from ..model import ops
from ..model.build import build_network
from ..model.deformable_attention import DeformableAttention
from ..model.encoder import EnhancedEncoder
from ..model.losses import Targets, losses
from ..model.network import MULTIPLE, Network
from ..model.ops.choice import VARIABLE, Backend
from ..runtime import ProcessorShare
from ..training.optimizer import build_optimizer
from ..training.randomness import Draws

Milliseconds = dict[str, float]
WARM_UP = 1


class Timings(TypedDict):
    """What ``focus bench --json`` prints."""

    device: str
    threads: int
    processor_share: float | None
    """Of the wanted processor time that was had, None where it is not known."""
    torch: str
    preset: str
    image_size: int
    batch_size: int
    parameters: int
    results: dict[str, dict[str, Milliseconds]]
    """By implementation of the op, then of "inference" and "training": stages in the order in which they run, which end with "total";
    "deformable attention" is a part of the stages around it."""
    skipped: dict[str, str]
    """Implementations that could not run, and why."""


def bench(config: RunConfig, *, image_size: int, batch_size: int, device: torch.device, repeats: int) -> Timings:
    """Medians in milliseconds for each implementation of the op that can run on `device`.

    Weights and images are random, on which no time depends; the refiner is left out. The implementations take turns, so that other work
    of the machine meets both.
    """
    side = -(-image_size // MULTIPLE) * MULTIPLE
    torch.manual_seed(config.training.seed)
    network = build_network(config, weights="none").to(device)
    image = torch.randn(batch_size, 3, side, side, device=device)
    labels = torch.zeros(batch_size, side, side, dtype=torch.uint8, device=device)
    labels[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    optimizer = build_optimizer(network, [], config)
    watch = Stopwatch(device)
    watch.follow(network)

    skipped: dict[str, str] = {}
    runs: dict[str, dict[str, list[Milliseconds]]] = {}
    for possible in _possible(device, skipped):
        runs[possible] = {"inference": [], "training": []}
    processor = ProcessorShare()
    for _ in range(WARM_UP + repeats):
        for name, kinds in runs.items():
            with _implementation(name):
                kinds["inference"].append(watch.time(lambda: _infer(network, image)))
                kinds["training"].append(watch.time(lambda: _train(network, optimizer, image, labels, config, watch)))
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processor_share": processor.now(),
        "torch": torch.__version__,
        "preset": config.preset,
        "image_size": side,
        "batch_size": batch_size,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "results": {name: {kind: _medians(times[WARM_UP:]) for kind, times in kinds.items()} for name, kinds in runs.items()},
        "skipped": skipped,
    }


class Stopwatch:
    """Adds up what named parts take. Waits for the device at every end, so that what a GPU still has to do is counted too."""

    def __init__(self, device: torch.device) -> None:
        self._wait: Callable[[], None] = torch.accelerator.synchronize if device.type != "cpu" else lambda: None
        self._spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, stage: str) -> Iterator[None]:
        begin = self._now()
        yield
        self._spent[stage] += self._now() - begin

    def time(self, call: Callable[[], None]) -> Milliseconds:
        """Milliseconds of the parts of a call, and of all of it as "total"."""
        self._spent.clear()
        with self.part("total"):
            call()
        if "encoder" in self._spent:  # what is left of it is the backbone and the fusion behind it
            known = sum(self._spent[stage] for stage in ("prior", "interactions"))
            self._spent["backbone"] = self._spent.pop("encoder") - known
        return {stage: 1e3 * seconds for stage, seconds in self._spent.items()}

    def follow(self, network: Network) -> None:
        """Time the parts of a network whenever they run."""
        parts: dict[str, Iterable[nn.Module]] = {
            "encoder": [network.encoder],
            "pixel decoder": [network.pixel_decoder],
            "ground decoder": [network.decoder],
            "deformable attention": [module for module in network.modules() if isinstance(module, DeformableAttention)],
        }
        if isinstance(network.encoder, EnhancedEncoder):
            parts["prior"] = [network.encoder.prior]
            parts["interactions"] = [*network.encoder.injectors, *network.encoder.extractors]
        for stage, modules in parts.items():
            for module in modules:
                self._hook(module, stage)

    def _hook(self, module: nn.Module, stage: str) -> None:
        begins: list[float] = []

        def before(module: nn.Module, arguments: Any) -> None:
            begins.append(self._now())

        def after(module: nn.Module, arguments: Any, output: Any) -> None:
            self._spent[stage] += self._now() - begins.pop()

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    def _now(self) -> float:
        self._wait()
        return time.perf_counter()


def _possible(device: torch.device, skipped: dict[str, str]) -> Iterator[Backend]:
    names: tuple[Backend, ...] = ("native", "reference")
    for name in names:
        with _implementation(name):
            try:
                yield ops.backend(device)
            except DeviceError as error:
                skipped[name] = str(error)


@contextmanager
def _implementation(name: str) -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def _infer(network: Network, image: Tensor) -> None:
    network.eval()
    with torch.inference_mode():
        network(image)


def _train(network: Network, optimizer: torch.optim.Optimizer, image: Tensor, labels: Tensor, config: RunConfig, watch: Stopwatch) -> None:
    network.train()
    optimizer.zero_grad(set_to_none=True)
    with watch.part("forward"):
        heads = network(image, all_heads=True)
    with watch.part("losses"):
        draws = Draws(config.training.seed, range(len(image)), image.device)
        terms, _ = losses(heads, Targets.of(labels), config.loss, draws)
    with watch.part("backward"):
        (terms.label + terms.mask + terms.box).backward()
    with watch.part("optimizer"):
        optimizer.step()


STAGES = (
    "prior", "backbone", "interactions", "pixel decoder", "ground decoder", "deformable attention",
    "forward", "losses", "backward", "optimizer", "total",
)  # fmt: skip


def _medians(times: list[Milliseconds]) -> Milliseconds:
    stages = [stage for stage in STAGES if any(stage in one for one in times)]
    return {stage: statistics.median(one.get(stage, 0.0) for one in times) for stage in stages}


def rows(result: Timings) -> list[tuple[str, str, list[float]]]:
    """(kind, stage, milliseconds of each implementation in the order of ``results``), for a table."""
    results = result["results"]
    kinds = next(iter(results.values()))
    return [(kind, stage, [one[kind].get(stage, 0.0) for one in results.values()]) for kind in kinds for stage in kinds[kind]]
