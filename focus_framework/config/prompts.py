"""Prompts of a run: which are used and where each comes from, whether they can be used, and how well they fit examples."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import ConfigError
from ..plugin.interfaces import PromptJudge, Prompts, Task

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.pairs import Pair
    from .schema import PromptsConfig, RunConfig

CONTEXT = 77
"""Tokens that CLIP's text encoder reads, marks of start and end included; what comes after is never seen."""


def choose(task: Task, config: PromptsConfig, sources: Mapping[str, str] | None = None, plugin: str = "") -> tuple[Prompts, ...]:
    """The pairs that a run uses, each with its source.

    `config` is the run's table ``prompts``, `sources` says which layer each setting came from (`config.Resolved.sources`), and
    `plugin` names the task's distribution. Pairs of the configuration replace the task's; a single sentence replaces that side
    of every pair. Raises `ConfigError` where a sentence is empty or longer than `CONTEXT`, or both sides of a pair are the same.
    """
    if config.pairs and config.choice:
        raise ConfigError(f"prompts.pairs and prompts.choice = {config.choice!r} exclude each other; give one of them")
    origin = (sources or {}).get
    home = f"task {task.name}" + (f" of {plugin}" if plugin else "")
    if config.pairs:
        source = origin("prompts.pairs", "configuration")
        pairs = [Prompts(pair.foreground, pair.background, source) for pair in config.pairs]
    else:
        source = f"{home}, choice {config.choice}" if config.choice else home
        pairs = [replace(pair, source=source) for pair in task.pairs(config.choice)]
    for side in ("foreground", "background"):
        sentence, given = getattr(config, side), origin(f"prompts.{side}", "configuration")
        if sentence or given in ("command line", "--set"):  # a run's own file writes an empty one where none was given
            pairs = [Prompts(**{**_sides(pair), side: sentence}, source=_joined(pair.source, given, side)) for pair in pairs]
    chosen = tuple({(pair.foreground, pair.background): pair for pair in pairs}.values())
    check_length([sentence for pair in with_templates(chosen, config.templates) for sentence in _sides(pair).values()])
    return chosen


def _sides(pair: Prompts) -> dict[str, str]:
    return {"foreground": pair.foreground, "background": pair.background}


def _joined(before: str, given: str, side: str) -> str:
    """The source of a pair whose other side may come from elsewhere: `given (foreground), task shadow`."""
    if before.startswith(f"{given} (foreground), "):  # the background follows: nothing is left of what was there before
        return given
    return f"{given} ({side}), {before}"


def with_templates(pairs: Sequence[Prompts], templates: Sequence[str] = ("{}",)) -> tuple[Prompts, ...]:
    """Each pair put into each template: what a refiner encodes and averages."""
    for template in templates:
        if "{}" not in template:
            raise ConfigError(f"prompt template {template!r} has no {{}}, the place where the prompt goes")
    return tuple(
        Prompts(template.replace("{}", pair.foreground), template.replace("{}", pair.background), pair.source)
        for pair in pairs
        for template in templates
    )


@cache
def _clip_tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def check_length(sentences: Iterable[str], tokenizer: Any = None) -> None:
    """Raise `ConfigError` for a sentence that is longer than what the text encoder reads.

    `tokenizer` is an open_clip tokenizer, by default CLIP's. CLIP's needs torch and is loaded only for a sentence of more bytes
    than tokens are allowed: a token stands for at least one byte.
    """
    for sentence in sentences:
        if tokenizer is None and len(sentence.encode()) + 2 <= CONTEXT:
            continue
        reader = tokenizer or _clip_tokenizer()
        allowed = reader.context_length
        tokens = reader([sentence], context_length=8 * allowed)[0]  # too long a row is cut at 8 times: enough to tell
        count = int((tokens != tokens[-1]).nonzero()[-1]) + 1  # what follows a sentence is padding, all of one kind
        if count > allowed:
            raise ConfigError(f"prompt of {count} tokens, at most {allowed} are read; shorten it: {sentence[:60]!r}...")


def read_pairs(path: Path) -> tuple[Prompts, ...]:
    """Prompt pairs out of a file: CSV with the columns foreground and background, a JSON list of objects with these keys, or TOML
    with ``[[prompts.pairs]]`` as in a run's configuration."""
    readers: dict[str, Callable[[str], Any]] = {
        ".csv": lambda text: list(csv.DictReader(text.splitlines())),
        ".json": json.loads,
        ".toml": lambda text: tomllib.loads(text)["prompts"]["pairs"],
    }
    if path.suffix not in readers:
        raise ConfigError(f"{path}: prompt pairs are read from {', '.join(readers)} files")
    try:
        rows = readers[path.suffix](path.read_text("utf-8"))
        pairs = tuple(Prompts(row["foreground"], row["background"], path.name) for row in rows)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:  # ValueError: what the readers of TOML, JSON and UTF-8 raise
        raise ConfigError(f"{path} does not hold a list of pairs with foreground and background: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not pairs:
        raise ConfigError(f"{path} holds no prompt pairs")
    return pairs


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
        return {**_sides(self.prompts), "source": self.prompts.source, **numbers}


def load_judge(config: RunConfig, pairs: Sequence[Prompts]) -> PromptJudge:
    """The refiner of `config`, or `clip` where it has none, ready for images `[3, H, W]` in 0..1.

    Raises `ConfigError` where that refiner cannot compare prompts.
    """
    import torch

    from ..inference.device import choose_device
    from ..model.build import build_refiner

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
    import torch

    from ..files.images import read_image, read_mask

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
    import torch
    from torch.nn.functional import normalize

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
