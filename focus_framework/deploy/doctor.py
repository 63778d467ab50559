"""What is installed and what of it runs: the first thing to look at when something is slow or does not work."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypedDict

import torch

from ..errors import DeviceError
from ..inference.device import choose_device, title
from ..model import ops
from ..plugin.registry import registry
from ..runtime import BUSY, allowed_processors, share_of_a_moment

PACKAGES = ("focus-framework", "focus-framework-ops", "torch", "torchvision", "timm", "open_clip_torch", "kornia", "numpy")


class DeviceFacts(TypedDict):
    """The device that work would run on."""

    asked: str
    name: str
    title: str
    error: str | None
    """Why the one that was asked for cannot be used; "cpu" stands in for it then."""
    threads: int
    cpus: int | None
    allowed: int
    """Processors that this process may use."""
    processor_share: float | None
    """What a thread gets of one now."""


class PluginFacts(TypedDict):
    """How many plugins work, and which do not."""

    ok: int
    broken: dict[str, str]
    """Name to error."""


class Findings(TypedDict):
    """What ``focus doctor --json`` prints."""

    python: str
    platform: str
    packages: dict[str, str | None]
    """Name to version, None where not installed."""
    device: DeviceFacts
    ops: dict[str, Any]
    """`focus_framework.ops.describe`"""
    plugins: PluginFacts
    problems: list[str]
    """Sentences that each end with what to do."""


def examine(device: str = "auto") -> Findings:
    """Facts about this installation. A device that cannot be used is one of the problems, not an exception."""
    entries = registry().entries
    broken = {entry.name: str(entry.error) for entry in entries if entry.error}
    where = _device(device)
    found: Findings = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": where,
        "ops": ops.describe(where["name"]),
        "plugins": {"ok": len(entries) - len(broken), "broken": broken},
        "problems": [],
    }
    found["problems"] += _problems(found)
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device(asked: str) -> DeviceFacts:
    found: DeviceFacts = {
        "asked": asked,
        "name": "cpu",
        "title": "in its place",
        "error": None,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "allowed": allowed_processors(),
        "processor_share": share_of_a_moment(),
    }
    try:
        device = choose_device(asked)
    except DeviceError as error:
        return {**found, "error": str(error)}
    return {**found, "name": str(device), "title": title(device)}


def _problems(found: Findings) -> list[str]:
    problems = [found["device"]["error"]] if found["device"]["error"] else []
    chosen = found["ops"]
    if chosen["backend"] == "reference" and chosen["requested"] != "reference":
        problems.append(f"deformable attention runs in plain PyTorch, slowly: {chosen['reason']}; run: {chosen['change']}")
    share = found["device"]["processor_share"]
    if share is not None and share < BUSY:
        problems.append(
            f"the machine is busy: a thread gets {share:.0%} of a processor now; measured times hold for that alone, and a training run's "
            "length is better given by --steps than by --minutes"
        )
    for name, error in found["plugins"]["broken"].items():
        problems.append(f"plugin {name} is broken: {error}; see: focus plugins info {name}")
    return problems


def lines(found: Findings) -> list[str]:
    """The findings of `examine` as text, one line a fact."""
    device, chosen = found["device"], found["ops"]
    packages = [f"{name} {number or '(not installed)'}" for name, number in found["packages"].items()]
    native = f"{chosen['version']}, {_build(chosen['build'])}" if chosen["version"] else chosen["error"] or "not installed"
    threads = f"{device['threads']} threads, {device['allowed']} of {device['cpus']} processors"
    return [
        f"python          {found['python']} on {found['platform']}",
        f"packages        {', '.join(packages)}",
        f"device          {device['name']} ({device['title']}), {threads}",
        f"attention op    {chosen['backend']}: {chosen['reason']}",
        f"  to change it  {chosen['change']}",
        f"  compiled op   {native}",
        f"plugins         {found['plugins']['ok']} work, {len(found['plugins']['broken'])} broken",
        *(f"problem         {problem}" for problem in found["problems"]),
    ]


def _build(build: dict[str, str]) -> str:
    cuda = f"CUDA {build['cuda']}" if build["cuda"] else "without CUDA"
    return f"{build['instructions']} instructions, {cuda}"
