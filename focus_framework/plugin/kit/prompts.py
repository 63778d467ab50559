"""What any text encoder needs of prompts: sentences put into templates, none longer than it reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from ...errors import ConfigError
from ..interfaces import Prompts

CONTEXT = 77
"""Tokens that CLIP's text encoder reads, marks of start and end included; what comes after is never seen."""


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
