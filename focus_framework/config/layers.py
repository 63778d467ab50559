"""The layers that a run's settings come from, put together, and for every value the layer it came from.

Layers, the stronger later: the fields' own defaults, preset, the checkpoint that ``--init`` names, the task's defaults, a TOML file,
``--set``, the command line.
A setting is named by its dotted path, e.g. ``training.learning_rate``.
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import ConfigError, did_you_mean
from ..files.reading import as_text, read_toml
from ..plugin.installed import installed_backbone
from .schema import PART, RunConfig

logger = logging.getLogger(__name__)

FINETUNE = "finetune"
"""The usual preset of a run that starts from a checkpoint."""
OF_NETWORK = frozenset({"backbone", "enhancer", "pixel_decoder", "decoder", "conditioner", "preprocessing"})
"""Sections that a checkpoint decides where a run starts from it."""
OF_RUN = frozenset({"backbone.frozen", *(f"conditioner.{name}" for name in ("trains", "kept", "shots", "examples"))})
"""Settings in these sections that say nothing of the network."""
AUTO = "auto"
"""The name of a backbone for the one whose weights are installed."""


@dataclass(frozen=True)
class Resolved:
    """A configuration and the layer that each of its values came from, by dotted path."""

    config: RunConfig
    sources: Mapping[str, str]


def presets() -> list[str]:
    """Names of the presets that come with the framework."""
    folder = resources.files("focus_framework.config.presets")
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_preset(name: str) -> dict[str, Any]:
    """A preset's settings by dotted path. ``extends = "other"`` in its file starts from another one."""
    if name not in presets():
        raise ConfigError(f"there is no preset {name!r}; {did_you_mean(name, presets())}")
    table = tomllib.loads((resources.files("focus_framework.config.presets") / f"{name}.toml").read_text("utf-8"))
    base = read_preset(table.pop("extends")) if "extends" in table else {}
    settings = flatten(table)
    return _stack(_outlasting(base, [settings]), settings)


def resolve(
    task: str,
    *,
    preset: str | None = None,
    parent: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Resolved:
    """Put the layers together.

    `parent` are the settings of a checkpoint's network by dotted path, with its reference under ``init`` (`checkpoint.parent`): they
    replace those of the preset, of which ``finetune`` is then the usual one. `defaults` are `Task.defaults`, `assignments` the
    ``key=value`` of ``--set``, `options` the command line's values by dotted path (None where an option was not given). Raises
    `ConfigError` naming the layer, the setting and what is allowed.
    """
    assignments = list(assignments)
    from_file = _read_file(file) if file else {}
    from_set = dict(parse_assignment(text) for text in assignments)
    given = {key: value for key, value in (options or {}).items() if value is not None}
    named = {"command line": preset, "--set": from_set.pop("preset", None), f"file {file}": from_file.pop("preset", None)}
    preset_source, preset = next(((layer, name) for layer, name in named.items() if name), ("default", FINETUNE if parent else "quick"))
    from_file.pop("task", None)  # the caller has looked it up, see `task_in`
    recipe = read_preset(preset)
    if parent or starting_point(file, assignments, given):  # a network that is there already has its sizes from nowhere else
        recipe = {key: value for key, value in recipe.items() if not _is_of_network(key)}
    layers = {
        f"preset {preset}": recipe,
        f"checkpoint {(parent or {}).get('init', '')}": parent or {},
        f"task {task}": flatten(defaults or {}),
        f"file {file}": from_file,
        "--set": from_set,
        "command line": given,
    }
    layers = {layer: _chosen_backbone(written, bool(parent)) for layer, written in layers.items()}
    values: dict[str, Any] = {"task": task, "preset": preset}
    sources = {"task": "command line", "preset": preset_source}
    stronger = list(layers.values())
    for layer, written in layers.items():
        for key in written:
            _check_known(key, layer)
        _check_layer(task, written, layer)
        settings = _outlasting(written, stronger := stronger[1:])
        values = _stack(values, settings)
        sources = {key: source for key, source in sources.items() if key in values} | dict.fromkeys(settings, layer)
    return Resolved(_validate(values, sources), sources)


def _chosen_backbone(settings: Mapping[str, Any], has_network: bool) -> Mapping[str, Any]:
    """A layer whose backbone is `AUTO` with the one that is installed; without a name, so that the weaker layers' stands, where none is
    or a checkpoint has decided the network."""
    if settings.get("backbone.name") != AUTO:
        return settings
    found = None if has_network else installed_backbone()
    if found:
        logger.info("backbone auto: %s, whose weights are installed", found)
        return {**settings, "backbone.name": found}
    logger.info("backbone auto: %s", "the checkpoint decides" if has_network else "no weights are installed, so the preset decides")
    return {key: value for key, value in settings.items() if key != "backbone.name"}


def task_in(file: Path) -> str | None:
    """The task that a configuration file names, if it names one."""
    return _read_file(file).get("task")


def starting_point(file: Path | None, assignments: Iterable[str], options: Mapping[str, Any]) -> str:
    """The checkpoint that the layers together start from, empty for none."""
    from_set = dict(parse_assignment(text) for text in assignments).get("init")
    given = options.get("init") or from_set or (_read_file(file).get("init") if file else None) or ""
    if not isinstance(given, str):
        raise ConfigError(f"init = {given!r:.80}: a checkpoint is given by its file, hf://owner/name or a known name")
    return given


def network_settings(config: RunConfig) -> dict[str, Any]:
    """What says how the network of a configuration is built and how images are prepared for it, by dotted path."""
    settings = flatten(config.model_dump(exclude_none=True))
    return {key: value for key, value in settings.items() if _is_of_network(key)} | {"backbone.weights": "none"}


def _is_of_network(key: str) -> bool:
    return key.partition(".")[0] in OF_NETWORK and key not in OF_RUN


def with_prediction(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """A checkpoint's configuration with other settings of `PredictionConfig`, by name; None keeps what it says. Raises `ConfigError`."""
    given = {f"prediction.{name}": value for name, value in settings.items() if value is not None}
    for key in given:
        _check_known(key, "option")
    return _validate(flatten(config.model_dump(exclude_none=True)) | given, dict.fromkeys(given, "option")) if given else config


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one dictionary by dotted path. Tables of plugin options are flattened too."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, leaf = path.split(".")
        table = nested
        for parent in parents:
            table = table.setdefault(parent, {})
        table[leaf] = value
    return nested


def to_toml(config: RunConfig) -> str:
    """The configuration as a file that ``--config`` reads."""
    import tomli_w

    return tomli_w.dumps(config.model_dump(exclude_none=True))


@cache
def known_settings() -> tuple[str, ...]:
    """Dotted paths of all settings; ``*.options`` takes any key below it."""

    def walk(section: type[BaseModel], prefix: str) -> Iterable[str]:
        for name, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from walk(inner, f"{prefix}{name}.")
            else:
                yield prefix + name

    return tuple(walk(RunConfig, ""))


def _outlasting(settings: Mapping[str, Any], stronger: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A layer without the weights and options of a plugin that it names and a stronger layer replaces: they were written for that
    one. Options of a layer that names no plugin are for whichever is chosen."""
    kept = dict(settings)
    for kind in ("backbone", "enhancer", "refiner", "conditioner"):
        name = settings.get(f"{kind}.name")
        if name is not None and any(layer.get(f"{kind}.name", name) != name for layer in stronger):
            owned = (f"{kind}.options", f"{kind}.weights")
            kept = {key: value for key, value in kept.items() if not key.startswith(owned)}
    return kept


def _stack(weaker: dict[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    """The stronger layer over the weaker."""
    lengths = {"training.steps", "training.minutes"}  # two ways to say how long: the stronger layer's word replaces either
    kept = {key: value for key, value in weaker.items() if key not in lengths} if lengths & stronger.keys() else weaker
    return kept | dict(stronger)


def _check_known(key: str, layer: str) -> None:
    known = known_settings()
    if key not in known and not any(key.startswith(f"{path}.") for path in known if path.endswith(".options")):
        raise ConfigError(f"{layer}: there is no setting {key!r}; {did_you_mean(key, known)}")


def _check_layer(task: str, written: Mapping[str, Any], layer: str) -> None:
    """Raise `ConfigError` for a wrong value in a layer, though a stronger layer may cover it; what fits together is for the whole."""
    _validate({"task": task, **written}, dict.fromkeys(written, layer), context={PART: True})


def _validate(values: Mapping[str, Any], sources: Mapping[str, str], context: Mapping[str, bool] | None = None) -> RunConfig:
    texts = {key: as_text(value) if isinstance(value, str) else value for key, value in values.items()}
    try:
        return RunConfig.model_validate(nest(texts), context=context)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")  # which pydantic puts before what our own validators say
        of_several = isinstance(first["input"], Mapping) and path not in known_settings()
        if not path or of_several:  # the reason names them
            raise ConfigError(f"configuration: {reason}") from error
        raise ConfigError(f"{sources.get(path, 'configuration')}: {path} = {first['input']!r:.80}: {reason}") from error


def _read_file(path: Path) -> dict[str, Any]:
    return flatten(read_toml(path, error=ConfigError, what="configuration file"))


def parse_assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r}: write it as dotted.key=value, e.g. --set training.learning_rate=1e-4")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        parsed = value  # a bare word: a string
    return key.strip(), parsed
