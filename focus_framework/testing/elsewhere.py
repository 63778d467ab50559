"""The other process of a trial: ``python -m focus_framework.testing.elsewhere JOB JSON`` finds a plugin by itself, prints one answer."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ..plugin.calls import printing_to_stderr
from ..plugin.registry import Entry, Kind, entries_of_file, registry
from .subject import Subject

HEAVY = ("torch", "torchvision", "timm", "cv2", "kornia", "open_clip", "scipy", "numpy")
"""What takes a good part of a second to import."""


def main(job: str, asked: str) -> Any:
    """The answer to one of the questions below."""
    reference, kind, name, member, options, *arguments = json.loads(asked)
    started = time.monotonic()
    entry = found(reference, kind, name)
    if job == "list":
        return {"heavy": [module for module in HEAVY if module in sys.modules], "seconds": time.monotonic() - started}
    subject = Subject(entry, options, member=member)
    if job == "practice":
        from .tasks import checksums

        return checksums(entry.get(), *arguments)
    if job == "learn":
        from .networks import learn_together

        return learn_together(subject, *arguments)
    from .refiners import one_loss

    return one_loss(subject)


def found(reference: str, kind: Kind, name: str) -> Entry:
    """The plugin, as this process has it."""
    if reference.endswith(".py"):
        return next(entry for entry in entries_of_file(Path(reference)) if (entry.kind, entry.name) == (kind, name))
    return registry().find_task(reference) if ":" in reference else registry().find(kind, name)


if __name__ == "__main__":
    with printing_to_stderr():
        told = main(*sys.argv[1:])
    print(f"\n{json.dumps(told)}")
