"""Everything that a stopped run needs to go on exactly where it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import WeightsError
from ..files import replacing

FILE = Path("training-state") / "state.pt"


@dataclass
class TrainingState:
    """Where a run is. Random streams are not part of it: they follow from seed and step."""

    step: int
    seconds: float
    network: dict[str, Any]
    refiner: dict[str, Any]
    """What the refiner trains along; empty for one that only looks."""
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    best: float | None
    """The best score of the primary metric so far."""
    scores: dict[str, float]
    """All scores of the best checkpoint."""


def save_state(folder: Path, state: TrainingState) -> None:
    """One file, so that weights and optimizer are never of different steps; written beside its name and renamed."""
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as beside:
        torch.save(vars(state), beside)


def load_state(folder: Path) -> TrainingState:
    """The state of the run in `folder`. Raises `WeightsError` where there is none or it cannot be read."""
    path = folder / FILE
    if not path.is_file():
        raise WeightsError(f"{folder} holds no training state ({FILE}); --resume takes the folder of a run that has saved once")
    try:
        return TrainingState(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises whatever the file makes it raise
        raise WeightsError(f"the training state {path} cannot be read: {str(error).splitlines()[0]}") from error
