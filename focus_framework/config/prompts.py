"""Prompts of a run: which are used and where each comes from."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files.reading import read_text
from ..plugin.interfaces import Prompts, Task
from ..plugin.kit.prompts import check_length, with_templates
from .schema import PromptsConfig

SIDES = ("foreground", "background")


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
    replaced = {}
    for side in SIDES:
        sentence, source = getattr(config, side), origin(f"prompts.{side}", "configuration")
        if sentence or source in ("command line", "--set"):  # a run's own file writes an empty one where none was given
            replaced[side] = (sentence, source)
    pairs = [_with_sides(pair, replaced) for pair in pairs]
    chosen = tuple({(pair.foreground, pair.background): pair for pair in pairs}.values())
    check_length([sentence for pair in with_templates(chosen, config.templates) for sentence in (pair.foreground, pair.background)])
    return chosen


def _with_sides(pair: Prompts, replaced: Mapping[str, tuple[str, str]]) -> Prompts:
    """The pair with the sentences of some sides replaced; its source names where each side comes from."""
    if not replaced:
        return pair
    sentences = {"foreground": pair.foreground, "background": pair.background}
    sources = dict.fromkeys(SIDES, pair.source)
    for side, (sentence, source) in replaced.items():
        sentences[side], sources[side] = sentence, source
    origins = [f"{sources[side]} ({side})" for side in replaced] + [pair.source] * (len(replaced) < 2)
    same = len(set(sources.values())) == 1
    return Prompts(**sentences, source=sources["foreground"] if same else ", ".join(origins))


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
        rows = readers[path.suffix](read_text(path, error=ConfigError))
        pairs = tuple(Prompts(row["foreground"], row["background"], path.name) for row in rows)
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply for a list of pairs") from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:  # ValueError: what the readers of TOML, JSON and UTF-8 raise
        raise ConfigError(f"{path} does not hold a list of pairs with foreground and background: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{error}" if str(path) in str(error) else f"{path}: {error}") from error
    if not pairs:
        raise ConfigError(f"{path} holds no prompt pairs")
    return pairs
