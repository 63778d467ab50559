"""What a checkpoint's header may say: the models of a configuration, and what else stands beside it, checked before anything is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..config.schema import MAX_TEMPERATURE, MIN_TEMPERATURE, PreprocessingConfig, RunConfig, Section
from ..errors import WeightsError
from ..model.bounds import DEEP
from ..version import __version__

Channels = Annotated[list[float], Field(min_length=3, max_length=3)]
Deviations = Annotated[list[Annotated[float, Field(ge=1e-6)]], Field(min_length=3, max_length=3)]
Count = Annotated[int, Field(ge=0)]


class _Loose(BaseModel):
    """A part that later versions may add to."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Task(_Loose):
    name: str = Field(min_length=1, max_length=200)
    title: str = Field(max_length=1000)
    metrics: list[str]
    primary_metric: str = Field(max_length=200)


class _Pair(_Loose):
    foreground: str
    background: str
    source: str = ""


class _KnownTask(_Task):
    prompts: list[_Pair]
    temperature: float | None = Field(None, ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)


class _Plugin(_Loose):
    kind: str
    name: str
    distribution: str
    version: str


class _Preprocessing(PreprocessingConfig):
    mean: Channels
    std: Deviations


class Header(_Loose):
    """The description in a checkpoint."""

    framework_version: str = Field(max_length=100)
    task: _Task
    tasks: list[_KnownTask] = []
    config: RunConfig
    prompts: list[_Pair]
    preprocessing: _Preprocessing
    parameters: Count
    plugins: list[_Plugin]
    licence: str = Field(max_length=1000)


def checked(description: Mapping[str, Any], path: str | Path) -> RunConfig:
    """The configuration in a description, all of which is valid. Raises `WeightsError` that names the file, the field and its value."""
    try:
        header = Header.model_validate(description)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "its description"
        reason = first["msg"].removeprefix("Value error, ")
        value = "" if first["type"] == "missing" or isinstance(first["input"], Mapping) else f" = {first['input']!r:.80}"
        written = description.get("framework_version") if isinstance(description, Mapping) else None
        by = f"; it was written by focus-framework {written:.40}, this is {__version__}" if isinstance(written, str) else ""
        raise WeightsError(f"the header of {path} does not fit this version: {field}{value}: {reason}{by}") from error
    config, stored = header.config, header.preprocessing
    for name in PreprocessingConfig.model_fields:
        if getattr(stored, name) != getattr(config.preprocessing, name):
            raise WeightsError(
                f"the header of {path} contradicts itself: preprocessing.{name} = {getattr(stored, name)!r:.40}, "
                f"config.preprocessing.{name} = {getattr(config.preprocessing, name)!r:.40}"
            )
    told = [task.name for task in header.tasks]
    if header.tasks and told != list(config.known_tasks):
        raise WeightsError(f"the header of {path} contradicts itself: tasks {', '.join(told)!r:.80}, config.task = {config.task!r:.80}")
    return config


def refuse_beyond(config: RunConfig, tensors: Mapping[str, tuple[int, ...]], path: str | Path) -> None:
    """Raise `WeightsError` for a size of the network that the tensors cannot fill: building it would take hours, or all memory."""
    weights = sum(_product(shape) for shape in tensors.values())
    parts: list[Section] = [config.backbone, config.enhancer, config.conditioner, config.pixel_decoder, config.decoder]
    for part, table in zip(
        ("backbone.options", "enhancer.options", "conditioner.options", "pixel_decoder", "decoder"), _tables(parts), strict=True
    ):
        for key, value in table.items():
            numbers = value if isinstance(value, list) else [value]
            if key in DEEP:
                numbers, most, what = [sum(n for n in numbers if isinstance(n, int))], len(tensors), "tensors"
            else:
                most, what = weights, "weights"
            for number in numbers:
                if isinstance(number, int) and abs(number) > max(most, 1 << 16 if what == "weights" else 64):
                    raise WeightsError(f"the header of {path} says config.{part}.{key} = {value!r:.40}, but the file has {most} {what}")


def _tables(parts: list[Section]) -> list[dict[str, Any]]:
    return [dict(getattr(part, "options", None) or {}) if hasattr(part, "options") else part.model_dump() for part in parts]


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
