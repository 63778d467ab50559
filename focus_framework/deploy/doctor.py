"""What is installed and what of it runs: the first thing to look at when something is slow or does not work."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from ..errors import DeviceError
from ..inference.device import choose_device, title
from ..model import ops
from ..plugin.registry import registry
from ..runtime import BUSY, allowed_processors, share_of_a_moment

PACKAGES = ("focus-framework", "focus-framework-ops", "torch", "torchvision", "timm", "open_clip_torch", "kornia", "numpy")


def examine(device: str = "auto") -> dict[str, Any]:
    """Facts about this installation.

    Keys: ``python``, ``platform``, ``packages`` (name to version, None where not installed), ``device`` (``name``, ``asked``, ``error``,
    ``threads``, ``cpus``, ``allowed``: processors that this process may use, ``processor_share``: what a thread gets of one now),
    ``ops`` (`focus_framework.ops.describe`), ``plugins`` (``ok``: how many, ``broken``: name to error) and
    ``problems``: sentences that each end with what to do. A device that cannot be used is one of the problems, not an exception.
    """
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": _device(device),
    }
    found["ops"] = ops.describe(found["device"]["name"])
    entries = registry().entries
    broken = {entry.name: str(entry.error) for entry in entries if entry.error}
    found["plugins"] = {"ok": len(entries) - len(broken), "broken": broken}
    found["problems"] = _problems(found)
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device(asked: str) -> dict[str, Any]:
    found: dict[str, Any] = {"asked": asked, "error": None, "threads": torch.get_num_threads(), "cpus": os.cpu_count()}
    found |= {"allowed": allowed_processors(), "processor_share": share_of_a_moment()}
    try:
        device = choose_device(asked)
    except DeviceError as error:
        return {**found, "name": "cpu", "title": "in its place", "error": str(error)}
    return {**found, "name": str(device), "title": title(device)}


def _problems(found: dict[str, Any]) -> list[str]:
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


def lines(found: dict[str, Any]) -> list[str]:
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
