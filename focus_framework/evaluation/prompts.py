"""How well prompt pairs tell true foreground from background on examples: what ``focus prompts try`` prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..config.prompts import read_pairs
from ..config.schema import RunConfig
from ..data.pair import Pair
from ..errors import ConfigError
from ..files.images import read_image, read_mask
from ..inference.device import choose_device
from ..model.build import build_refiner
from ..plugin.interfaces import PromptJudge, Prompts, Task
from ..plugin.kit.prompts import with_templates


@dataclass(frozen=True)
class PairScore:
    """How one prompt pair did on examples. Margins are differences of cosines, in -2..2."""

    prompts: Prompts
    count: int
    foreground_right: float
    """Share of true foreground crops that are nearer to the foreground prompt."""
    background_right: float
    """Share of true background crops that are nearer to the background prompt."""
    margin: float
    """Mean over foreground crops of cosine(foreground prompt) - cosine(background prompt)."""
    spread: float
    """Standard deviation of that margin over the examples."""

    @property
    def rank(self) -> tuple[float, float]:
        """What pairs are sorted by: both shares together, so that a prompt which every crop is near to gains nothing; then margin."""
        return (self.foreground_right + self.background_right) / 2, self.margin

    def as_json(self) -> dict[str, Any]:
        """The row that ``focus prompts try --json`` prints."""
        numbers = {key: getattr(self, key) for key in ("count", "foreground_right", "background_right", "margin", "spread")}
        return {"foreground": self.prompts.foreground, "background": self.prompts.background, "source": self.prompts.source, **numbers}


def load_judge(config: RunConfig, pairs: Sequence[Prompts]) -> PromptJudge:
    """The refiner of `config`, or `clip` where it has none, ready for images `[3, H, W]` in 0..1.

    Raises `ConfigError` where that refiner cannot compare prompts.
    """
    choice = config.refiner if config.refiner.name != "none" else config.refiner.model_copy(update={"name": "clip"})
    refiner = build_refiner(choice, pairs, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    if not isinstance(refiner, PromptJudge):
        raise ConfigError(
            f"refiner {choice.name} does not compare prompts (it has no region_features); choose one that does: --refiner clip"
        )
    cast(torch.nn.Module, refiner).to(choose_device(config.training.device))
    return refiner


def read_examples(pairs: Iterable[Pair]) -> Iterator[tuple[Tensor, Tensor]]:
    """Images `[3, H, W]` in 0..1 and their masks `[H, W]` bool, without those whose mask is empty or covers everything."""
    for pair in pairs:
        picture = read_image(pair.image)
        mask = read_mask(pair.mask, foreground=pair.foreground, size=picture.shape[:2])
        if mask.any() and not mask.all():
            yield torch.from_numpy(picture).permute(2, 0, 1) / 255, torch.from_numpy(mask)


def candidates(task: Task, chosen: Sequence[Prompts], file: Path | None = None) -> tuple[Prompts, ...]:
    """The pairs to compare: those chosen, the task's own, its named alternatives, and those of a file; each once."""
    known = [replace(pair, source=f"task {task.name}") for pair in task.pairs()]
    named = [replace(pair, source=f"choice {choice}") for choice in task.other_prompts for pair in task.pairs(choice)]
    more = read_pairs(file) if file else ()
    unique: dict[tuple[str, str], Prompts] = {}
    for pair in (*chosen, *known, *named, *more):
        unique.setdefault((pair.foreground, pair.background), pair)
    return tuple(unique.values())


def score_pairs(
    judge: PromptJudge,
    examples: Iterable[tuple[Tensor, Tensor]],
    pairs: Sequence[Prompts],
    *,
    templates: Sequence[str] = ("{}",),
) -> list[PairScore]:
    """Score prompt pairs on images whose true masks are known, the best pair first.

    An example is an image `[3, H, W]` as `judge` was built to take it, and its mask `[H, W]` bool. Each pair is put into
    each of `templates` and averaged, as in training. Raises `ConfigError` where there is no example.
    """
    sentences = judge.prompt_features(with_templates(pairs, templates))
    sentences = normalize(sentences.unflatten(0, (len(pairs), len(templates))).mean(1), dim=-1)
    margins = []
    for picture, mask in examples:
        regions = torch.stack((mask, ~mask)).float()[None].to(sentences.device)
        features = judge.region_features(picture[None].to(sentences.device), regions)[0]
        own, other = ((features * side).sum(-1) for side in (sentences, sentences.flip(1)))  # [pairs, 2 regions]
        margins.append((own - other).double().cpu())
    if not margins:
        raise ConfigError("there are no examples to score prompts on: every mask is empty or covers its whole image")
    table = torch.stack(margins)  # [examples, pairs, 2 regions]
    right = (table > 0).double().mean(0)
    mean, spread = table[..., 0].mean(0), table[..., 0].std(0, correction=0)
    numbers = torch.stack((right[:, 0], right[:, 1], mean, spread), 1).tolist()
    scores = [PairScore(pair, len(table), *row) for pair, row in zip(pairs, numbers, strict=True)]
    return sorted(scores, key=lambda score: score.rank, reverse=True)
