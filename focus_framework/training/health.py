"""Whether numbers are still numbers: looked at when a line is logged and before anything is saved, so that a GPU is never waited for
in between."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..errors import FocusError
from ..files.atomic import replacing
from .processes.team import Team

logger = logging.getLogger(__name__)

BAD_BATCHES = "bad-batches.json"


class DivergedError(FocusError):
    """Loss or gradients stopped being numbers."""


@dataclass(frozen=True)
class _Step:
    step: int
    names: Sequence[str]
    values: Tensor
    """`[2 + terms]`: loss, norm of the gradients, terms of the loss."""
    terms: Sequence[str]


class Health:
    """Watches loss and gradients of every step. `limit` bad steps in a row end the run; with `scaled` gradients (fp16) theirs may
    overflow now and then, which the scaler mends, so that only the loss counts."""

    def __init__(self, folder: Path, accelerator: Accelerator, team: Team, *, limit: int, scaled: bool) -> None:
        self.folder, self.accelerator, self.team, self.limit, self.scaled = folder, accelerator, team, limit, scaled
        self._waiting: list[_Step] = []
        self._bad: list[dict[str, Any]] = []
        self._source = ""

    def note(self, step: int, names: Sequence[str], loss: Tensor, norm: Tensor, terms: Mapping[str, Tensor] | None = None) -> None:
        """Remember a step, with the terms that its loss is the sum of; nothing is looked at yet."""
        parts = dict(terms or {})
        self._waiting.append(_Step(step, names, torch.stack([loss, norm, *parts.values()]), tuple(parts)))

    def check(self) -> None:
        """Look at the steps since the last time. Raises `DivergedError` once there were too many bad ones in a row; the names of
        their images then stand in `bad-batches.json`."""
        if not self._waiting:
            return
        values = self.accelerator.reduce(torch.stack([step.values for step in self._waiting]), "mean").cpu()
        for step, (loss, norm, *terms) in zip(self._waiting, values.tolist(), strict=True):
            if math.isfinite(loss) and (self.scaled or math.isfinite(norm)):
                self._bad.clear()
                continue
            self._bad.append({"step": step.step, "loss": str(loss), "gradient_norm": str(norm), "names": list(step.names)})
            wrong = [name for name, value in zip(step.terms, terms, strict=True) if not math.isfinite(value)]
            self._source = f" (of its terms {', '.join(wrong)} alone)" if 0 < len(wrong) < len(step.terms) else ""
            if len(self._bad) >= self.limit:
                self._stop()
            logger.warning("step %d left out: loss %s%s, norm of the gradients %s", step.step, loss, self._source, norm)
        self._waiting.clear()

    def _stop(self) -> None:
        shares = self.team.gathered([bad["names"] for bad in self._bad])
        for bad, *names in zip(self._bad, *shares, strict=True):
            bad["names"] = [name for share in names for name in share]
        last = self._bad[-1]
        if self.team.leads:
            with replacing(self.folder / BAD_BATCHES) as beside:
                beside.write_text(json.dumps(self._bad, indent=1) + "\n", encoding="utf-8")
        raise DivergedError(
            f"the loss is {last['loss']}{self._source} and the gradients' norm {last['gradient_norm']} at step {last['step']}, "
            f"after {len(self._bad)} such step(s) in a row ({BAD_BATCHES} names their images: {', '.join(last['names'][:4])}, ...); "
            "lower --learning-rate, or use --precision fp32. The last checkpoint is kept"
        )


def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether none of them holds what is not a number: that is never saved over a good checkpoint."""
    return all(bool(tensor.detach().isfinite().all()) for tensor in tensors)
