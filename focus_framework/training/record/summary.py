"""What a run came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime import BUSY, SHORT

REPORT = "report.html"


@dataclass(frozen=True)
class Summary:
    """What a run came to."""

    folder: Path
    checkpoint: Path
    best: Path
    steps: int
    seconds: float
    validation: Mapping[str, float]
    """Scores of the best checkpoint."""
    test: Mapping[str, float]
    """Its scores on test images that nothing was chosen by; empty where the data have none."""
    baselines: Mapping[str, float]
    """The primary metric of non-learned baselines, on the same test images; for practice images."""
    samples: Path | None
    """A contact sheet: image, truth, prediction."""
    skipped: tuple[str, ...] = ()
    """Training images that could not be read."""
    worst: Path | None = None
    """A contact sheet of the images with the worst scores by the primary metric."""
    processor_share: float | None = None
    """How much of the processor time that it wanted the run had; None where that is not known."""
    minutes: float | None = None
    """The time budget, where there was one."""
    precision: str = ""
    """Numeric precision of the network, and why where ``auto`` chose it."""

    @property
    def report(self) -> Path:
        """A page on the run."""
        return self.folder / REPORT

    @property
    def delay(self) -> str:
        """What a busy machine made of the run, to be put behind its length; empty where it was not."""
        if self.processor_share is None or self.processor_share >= BUSY:
            return ""
        said = f"; other work had the processors: this run got {self.processor_share:.0%} of the time it wanted"
        if self.minutes and self.processor_share < SHORT:
            said += f". A length in steps does not depend on that: --steps {round(self.steps / self.processor_share)} in place of --minutes"
        return said

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "validation": dict(self.validation), "test": dict(self.test), "baselines": dict(self.baselines)}
