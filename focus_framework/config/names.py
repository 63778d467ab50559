"""Short names of settings: the options of ``focus train`` and the keywords of `focus_framework.train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, did_you_mean

SHORT = {
    "data": "data.train",
    "data_root": "data.root",
    "val_share": "data.validation_share",
    "backbone": "backbone.name",
    "backbone_weights": "backbone.weights",
    "enhancer": "enhancer.name",
    "refiner": "refiner.name",
    "conditioner": "conditioner.name",
    "foreground_prompt": "prompts.foreground",
    "background_prompt": "prompts.background",
    "image_size": "preprocessing.size",
    "batch_size": "training.batch_size",
    "steps": "training.steps",
    "minutes": "training.minutes",
    "learning_rate": "training.learning_rate",
    "seed": "training.seed",
    "precision": "training.precision",
    "device": "training.device",
    "checkpoint_every": "training.checkpoint_every",
    "auto_batch": "training.auto_batch",
    "compile": "training.compile",
    "clip_model": "refiner.options.model",
    "clip_weights": "refiner.options.weights",
}


def by_path(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted path out of keywords: a short name, or a path with two underscores for each dot
    (``training__weight_decay``), or with the dots. Raises `ConfigError` for another one."""
    found = {}
    for name, value in keywords.items():
        path = SHORT.get(name) or name.replace("__", ".")
        if "." not in path:
            raise ConfigError(f"there is no setting {name!r}; {did_you_mean(name, SHORT)}, or section__name for any other")
        found[path] = value
    return found
