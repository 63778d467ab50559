"""The configuration reference, written from the fields while the site is built: settings, types, defaults, what is allowed, presets."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx

from focus_framework.cli.train import SETTINGS
from focus_framework.config.layers import presets, read_preset
from focus_framework.config.schema import RunConfig

SETTINGS_HERE, PRESETS_HERE = "<!-- settings -->", "<!-- presets -->"
BOUNDS = {"gt": "above {}", "ge": "at least {}", "lt": "below {}", "le": "at most {}", "multiple_of": "a multiple of {}"}


def sections(section: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """A table of the configuration and those in it, with their dotted paths."""
    yield path, section
    for name, field in section.model_fields.items():
        if is_section(field.annotation):
            yield from sections(field.annotation, f"{path}.{name}".lstrip("."))


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def type_name(annotation: Any) -> str:
    """A type as a reader of a TOML file knows it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return type_name(next(one for one in inner if one is not type(None)))
    if hasattr(annotation, "__metadata__"):  # Annotated[...]
        return type_name(inner[0])
    if origin is list:
        return f"list of {type_name(inner[0])}"
    if is_section(annotation):
        return "tables of " + ", ".join(f"`{name}`" for name in annotation.model_fields)
    return {"str": "text", "bool": "true or false", "int": "whole number", "float": "number", "dict": "table"}[
        (origin or annotation).__name__
    ]


def bounds(metadata: list[Any]) -> Iterator[str]:
    """What pydantic checks of a value, in words."""
    for check in metadata:
        for name, words in BOUNDS.items():
            if (limit := getattr(check, name, None)) is not None:
                yield words.format(limit)
        if getattr(check, "min_length", None):
            yield "not empty"


def allowed(field: FieldInfo) -> str:
    of_items = [check for one in get_args(field.annotation) for check in getattr(one, "__metadata__", ())]
    inner = [found for check in of_items for found in bounds(getattr(check, "metadata", [check]))]
    return ", ".join([*bounds(field.metadata), *(f"each {one}" for one in inner)])


def default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "must be given"
    return "not set" if value is None else f"`{toml(value)}`"


def toml(value: Any) -> str:
    """A value as it stands in a TOML file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "[" + ", ".join(toml(one) for one in value) + "]"
    return str(value)


def row(name: str, field: FieldInfo) -> str:
    option = SETTINGS.get(name)
    meaning = "; ".join(part for part in (field.description, option and f"option `{option.opts[0]}`") if part)
    kind = ", ".join(part for part in (type_name(field.annotation), allowed(field)) if part)
    cells = (f"`{name}`", meaning, kind, default(field))
    return "| " + " | ".join(one.replace("|", r"\|") for one in cells) + " |"


def table(path: str, section: type[BaseModel]) -> str:
    """A heading, the section's sentence, and its own settings."""
    fields = {name: field for name, field in section.model_fields.items() if not is_section(field.annotation)}
    inherited = {base.__doc__ for base in section.__mro__[1:]}
    about = (
        "" if section.__doc__ in inherited else " ".join((section.__doc__ or "").split()).replace("docs/method.md", "[Method](method.md)")
    )
    rows = [row(f"{path}.{name}".lstrip("."), field) for name, field in fields.items()]
    head = ["| setting | meaning | value | default |", "|---|---|---|---|"]
    return "\n".join([f"## {path or 'Top of the file'}", "", about, "", "```{table}", ":class: settings", "", *head, *rows, "```", ""])


def preset_table(name: str) -> str:
    settings = read_preset(name)
    rows = [f"| `{key}` | `{toml(value)}` |" for key, value in sorted(settings.items())]
    return "\n".join([f"### {name}", "", "| setting | value |", "|---|---|", *rows, ""])


def fill(app: Sphinx, page: str, source: list[str]) -> None:
    if SETTINGS_HERE in source[0]:
        source[0] = source[0].replace(SETTINGS_HERE, "\n".join(table(path, section) for path, section in sections(RunConfig)))
    if PRESETS_HERE in source[0]:
        source[0] = source[0].replace(PRESETS_HERE, "\n".join(preset_table(name) for name in presets()))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
