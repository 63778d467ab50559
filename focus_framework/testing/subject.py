"""The plugin that is tried, and how it is built. Imports no torch before it builds."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..plugin.calls import calling
from ..plugin.interfaces import Prompts, resolve
from ..plugin.options import checked_options
from ..plugin.registry import Entry
from .promise import Broken, NotTried

if TYPE_CHECKING:
    from torch import nn

SIZE = 64
"""Side of the images that networks are tried on."""
WIDTH = 32
"""Channels of the maps that an enhancer is asked for."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PAIRS = (Prompts("an image of the thing alone.", "an image of all that is around the thing."), Prompts("a thing", "no thing"))
CONDITIONED = ("one", "another", "a-third.task")
"""Tasks of the network that a conditioner is built for."""
PATIENCE = 300
"""Seconds after which another process is given up."""
CALLED: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "backbone": (("name",), {"weights": "none"}),
    "enhancer": ((WIDTH,), {"mean": MEAN, "std": STD}),
    "refiner": ((PAIRS,), {"mean": MEAN, "std": STD}),
    "conditioner": ((CONDITIONED,), {"width": WIDTH}),
}
"""Arguments that the framework gives to ``build``, by the kind of plugin."""


@dataclass(frozen=True)
class Subject:
    """One plugin, with the options that its ``build`` is given."""

    entry: Entry
    options: Mapping[str, Any] = field(default_factory=dict)
    thorough: bool = False
    """Whether to try what takes minutes too."""
    member: str = ""
    """Of a family of backbones the network that is built."""

    @property
    def title(self) -> str:
        return f"{self.entry.kind} {self.name}"

    @property
    def name(self) -> str:
        """What ``build`` of a backbone is asked for."""
        return self.member or self.entry.name

    @property
    def builder(self) -> Callable[..., Any]:
        """The plugin's ``build``, imported."""
        with calling(self.title, "the module of build()"):
            return resolve(self.entry.get().build)

    def build(self, *, seed: int = 0, **instead: Any) -> nn.Module:
        """What ``build`` gives, from random weights that follow from `seed`; `instead` replaces arguments, ``width=24`` for instance."""
        import torch

        build, (arguments, named) = self.builder, CALLED[self.entry.kind]
        if self.entry.kind == "backbone":
            if self.entry.get().claims and not self.member:
                raise NotTried(f"{self.name} is a family; name one of its networks")
            arguments = (self.name,)
        else:
            key = {"enhancer": "width", "refiner": "prompts", "conditioner": "tasks"}[self.entry.kind]
            arguments = (instead.pop(key, arguments[0]),)
        options = self.checked(self._told_the_size(build))
        with calling(self.title, "build()"), torch.random.fork_rng():
            torch.manual_seed(seed)
            built = build(*arguments, **{**named, **options, **instead})
        if not isinstance(built, torch.nn.Module):
            raise Broken(f"build() gave {type(built).__name__}, not a torch.nn.Module")
        return built

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options as ``build`` declares them. Raises `ConfigError` for others."""
        reserved = ("weights",) if self.entry.kind == "backbone" else ()
        return checked_options(self.entry.kind, self.name, self.builder, options, reserved=reserved)

    def _told_the_size(self, build: Callable[..., Any]) -> dict[str, Any]:
        """The options, with the size of the images where ``build`` of a backbone wants to know it."""
        wants = self.entry.kind == "backbone" and "image_size" in inspect.signature(build).parameters
        return ({"image_size": SIZE} if wants else {}) | dict(self.options)

    def elsewhere(self, job: str, *arguments: Any) -> Any:
        """What another process answers that finds the plugin by itself, see `elsewhere`."""
        with self.started_elsewhere(job, *arguments) as process:
            return answer(process)

    def started_elsewhere(self, job: str, *arguments: Any) -> subprocess.Popen[str]:
        """That process, which reads the options from its last argument."""
        path = os.pathsep.join(part for part in sys.path if part)
        asked = json.dumps([self.entry.reference, self.entry.kind, self.entry.name, self.member, dict(self.options), *arguments])
        return subprocess.Popen(
            [sys.executable, "-m", "focus_framework.testing.elsewhere", job, asked],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "random", "OMP_NUM_THREADS": "1"},
        )


def answers(processes: Sequence[subprocess.Popen[str]]) -> list[Any]:
    """The JSON of processes that work together. The first that fails ends the others, which would wait for it. Raises as `answer`."""
    with ThreadPoolExecutor(len(processes)) as pool:
        futures = [pool.submit(answer, process) for process in processes]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            for process in processes:
                process.kill()
    return [future.result() for future in futures]


def answer(process: subprocess.Popen[str]) -> Any:
    """The JSON that a process prints. Raises `Broken` with its last words where it fails, `NotTried` where it does not come to an end."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise NotTried(f"another process did not answer within {PATIENCE} s") from None
    if process.returncode:
        lines = [line.strip() for line in err.splitlines() if line.strip()]
        raise Broken(f"in another process: {lines[-1] if lines else f'exit code {process.returncode}'}")
    return json.loads(out.splitlines()[-1])
