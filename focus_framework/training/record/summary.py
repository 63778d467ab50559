"""What a run came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    @property
    def report(self) -> Path:
        """A page on the run."""
        return self.folder / REPORT

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "validation": dict(self.validation), "test": dict(self.test), "baselines": dict(self.baselines)}
