"""Everything that a stopped run needs to go on exactly where it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...errors import WeightsError
from ...files.atomic import replacing
from ..best import Best

FILE = Path("training-state") / "state.pt"


@dataclass
class TrainingState:
    """Where a run is. Random streams are not part of it: they follow from seed and sample."""

    identity: dict[str, Any]
    """The settings that a step depends on, see `folder.identity`."""
    step: int
    seconds: float
    update: dict[str, Any]
    """Weights, their average, what the refiner trains along, optimizer and scaler, see `Update.state`."""
    scores: dict[str, float]
    """All scores of the best checkpoint."""
    stale: int
    """Checkpoints since then."""
    skipped: list[str]
    """Images that could not be read."""
    history: list[list[float]] = field(default_factory=list)
    """The primary scores of every checkpoint, see `Best.history`."""
    kept: int = -1
    """Number of the best of them."""
    best: float | None = None
    """In a state of an earlier version, in the place of these two: the best score."""

    def best_so_far(self, metrics: Mapping[str, str]) -> Best:
        """What `Best` knew; `metrics` as there."""
        history, kept = ([[self.best]], 0) if self.best is not None else (self.history, self.kept)
        return Best(metrics, dict(self.scores), self.stale, [list(row) for row in history], kept)


def save_state(folder: Path, state: TrainingState) -> None:
    """One file, so that weights and optimizer are never of different steps; written beside its name and renamed."""
    with replacing(folder / FILE) as beside:
        torch.save(vars(state), beside)


def load_state(folder: Path) -> TrainingState | None:
    """The state of the run in `folder`, None where it has not saved any yet. Raises `WeightsError` where it cannot be read."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return TrainingState(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises whatever the file makes it raise
        raise WeightsError(f"the training state {path} cannot be read: {str(error).splitlines()[0]}") from error
