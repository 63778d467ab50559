"""The starter's checkpoints and its encoder: FOCUS Framework finds them by entry points. Nothing here imports torch."""

from __future__ import annotations

import json
from pathlib import Path

from focus_framework import Checkpoint, Figures

WEIGHTS = Path(__file__).with_name("weights")
ENCODER = "encoder.safetensors"
LICENCE = "Apache-2.0"


def checkpoints() -> list[Checkpoint]:
    """One a task. All of them need the encoder's file beside them."""
    facts = json.loads((WEIGHTS / "facts.json").read_text("utf-8"))
    return [
        Checkpoint(
            name=f"starter-{task}",
            title="starter, EfficientNet-Lite1, generated images alone",
            task=task,
            reference=str(WEIGHTS / f"{task}.safetensors"),
            size=(WEIGHTS / f"{task}.safetensors").stat().st_size,
            sha256=fact["sha256"],
            licence=LICENCE,
            weights_licence=LICENCE,
            data_licence="CC0-1.0: generated of CC0 surfaces and panoramas; the encoder: ImageNet",
            figures=[Figures(data=row["data"], metrics=row["metrics"], source="focus evaluate") for row in fact["figures"]],
        )
        for task, fact in facts.items()
    ]


def encoder() -> Path:
    """The weights of the encoder, EfficientNet-Lite1 as trained on ImageNet, in timm's names."""
    return WEIGHTS / ENCODER
