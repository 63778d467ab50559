"""Trying prompts on one image and its mask: what ``focus prompts try`` does on many, for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...config.layers import resolve
from ...config.prompts import choose
from ...errors import ConfigError
from ...evaluation.prompts import candidates, load_judge, score_pairs
from ...plugin.interfaces import PromptJudge, Prompts
from ...plugin.registry import registry
from .models import Served
from .refusals import RefusedError


def open_judge(served: Sequence[Served], options: dict[str, str | None], device: str) -> PromptJudge | None:
    """The refiner that compares prompts, where any of ``--refiner``, ``--clip-model`` and ``--clip-weights`` was given. Raises
    `ConfigError` and `WeightsError`."""
    if not any(options.values()) or options.get("refiner") == "none":
        return None
    task = registry().find_task(served[0].model.task)
    names = {"refiner": "refiner.name", "clip_model": "refiner.options.model", "clip_weights": "refiner.options.weights"}
    given = {names[name]: value for name, value in options.items()}
    resolved = resolve(task.name, defaults=task.get().defaults, options={**given, "training.device": device})
    return load_judge(resolved.config, choose(task.get(), resolved.config.prompts, resolved.sources, task.distribution))


def judge_prompts(
    judge: PromptJudge, served: Served, image: NDArray[np.uint8], mask: NDArray[np.bool_], foreground: str, background: str
) -> list[dict[str, Any]]:
    """The prompts of a model's task, and one more pair where it is given, by how well they tell the foreground of `mask` from the rest,
    the best first. Raises `RefusedError`."""
    if bool(foreground) != bool(background):
        raise RefusedError(400, "prompts are a pair: give both foreground and background, or none of them")
    if not mask.any() or mask.all():
        raise RefusedError(400, "the mask is empty or covers the whole image: there is nothing to tell apart")
    own = [Prompts(foreground, background, source="yours")] if foreground else []
    used = [Prompts(pair["foreground"], pair["background"], source=f"model {served.name}") for pair in served.model.description["prompts"]]
    example = torch.from_numpy(image).permute(2, 0, 1) / 255, torch.from_numpy(mask)
    pairs = candidates(registry().find_task(served.model.task).get(), [*own, *used])
    try:
        scores = score_pairs(judge, [example], pairs)
    except ConfigError as error:  # a sentence is too long
        raise RefusedError(400, str(error)) from None
    return [score.as_json() for score in scores]
