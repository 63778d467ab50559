"""Vectors of tasks out of their sentences, encoded by the text half of a CLIP, or, where there is none, learned."""

from __future__ import annotations

from collections.abc import Sequence

import open_clip
import torch
from torch import Tensor

from focus_framework import Prompts
from focus_framework.plugin.kit.conditioning import QueryConditioner
from focus_framework.plugin.kit.image_text import encode_prompts, load_encoder

NONE, AUTO = "none", "auto"


class LearnedVectors(QueryConditioner):
    """A table by task that is trained along: no sentence is read."""

    def __init__(self, tasks: Sequence[str], *, width: int) -> None:
        super().__init__(len(tasks), features=width, width=width, learned=True)
        self.options = {"weights": NONE}


class SentenceVectors(QueryConditioner):
    """Sentences as a text encoder has them, which is frozen and no part of the checkpoint; it is loaded when a sentence is read."""

    def __init__(self, tasks: Sequence[str], *, width: int, model: str, weights: str, features: int) -> None:
        super().__init__(len(tasks), features=features, width=width, learned=False)
        self.options = {"model": model, "weights": weights, "features": features}

    def prompt_vectors(self, tasks: Sequence[Sequence[Prompts]]) -> Tensor:
        """See `focus_framework.plugin.interfaces.ReadsPrompts`."""
        encoder = load_encoder(self.options["model"], self.options["weights"])
        return torch.stack([encode_prompts(encoder, pairs) for pairs in tasks])


def build(
    tasks: Sequence[str], *, width: int, model: str = "ViT-B-16", weights: str = AUTO, features: int = 0
) -> LearnedVectors | SentenceVectors:
    """`model` is open_clip's name of a CLIP, `weights` a file, one of its tags, ``random`` (sentences are told apart and mean nothing),
    ``none`` (a learned vector each instead), or ``auto``: the tag ``openai`` where it lies on this machine already, else ``none``.
    `features` is the length of a vector, 0: what the model gives."""
    if weights == AUTO:
        weights = "openai" if _is_here(model, "openai") else NONE
    if weights == NONE:
        return LearnedVectors(tasks, width=width)
    return SentenceVectors(tasks, width=width, model=model, weights=weights, features=features or _length(model, weights))


def _length(model: str, weights: str) -> int:
    """How many numbers a model makes of a sentence."""
    known = open_clip.get_model_config(model) if ":" not in model else None
    return int(known["embed_dim"]) if known else load_encoder(model, weights).encode_text(["a"]).shape[-1]


def _is_here(model: str, tag: str) -> bool:
    """Whether the hub's cache on this machine has the weights; nobody is asked."""
    from huggingface_hub import try_to_load_from_cache

    repository = str((open_clip.get_pretrained_cfg(model, tag) or {}).get("hf_hub", "")).strip("/")
    files = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    return bool(repository) and any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)
