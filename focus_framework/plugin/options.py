"""Options of plugins: checked against the signature of the plugin's ``build``, in one place for whatever a plugin builds."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from ..errors import ConfigError, did_you_mean


def checked_options(
    kind: str, name: str, build: Callable[..., Any], options: Mapping[str, Any], *, reserved: Collection[str] = ()
) -> dict[str, Any]:
    """The options as `build` declares them: keyword parameters with defaults, of the types they are annotated with. Where it takes
    ``**options`` others are passed on as they are. `reserved` are parameters that the framework sets itself.

    Raises `ConfigError` that names the option, its value and what is allowed.
    """
    parameters = [p for p in inspect.signature(build).parameters.values() if p.default is not p.empty and p.name not in reserved]
    known = {parameter.name: _annotation(parameter, build) for parameter in parameters}
    passed_on = {key: value for key, value in options.items() if key not in known}
    unknown = next((key for key in passed_on if key in reserved or not _takes_any(build)), None)
    if unknown is not None:
        raise ConfigError(f"{kind} {name} has no option {unknown!r}; {did_you_mean(unknown, known)}")
    given = {key: value for key, value in options.items() if key in known}
    fields: Any = {key: (known[key], ...) for key in given}
    model = create_model("Options", __config__=ConfigDict(arbitrary_types_allowed=True, protected_namespaces=()), **fields)
    try:
        # As JSON, since options come from TOML: a list may stand for a tuple and 1 for 1.0, but "1" or true for neither.
        checked = model.model_validate_json(json.dumps(given, default=str), strict=True)  # TOML knows dates
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{kind}.options.{path} = {first['input']!r} of {kind} {name}: {first['msg']}") from error
    return {**passed_on, **{key: getattr(checked, key) for key in given}}


def _takes_any(build: Callable[..., Any]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(build).parameters.values())


def _annotation(parameter: inspect.Parameter, build: Callable[..., Any]) -> Any:
    """The type of a parameter, or `Any` where it says none or one that exists for type checkers alone."""
    declared = parameter.annotation
    if declared is parameter.empty:
        return Any
    if not isinstance(declared, str):
        return declared
    try:
        return eval(declared, getattr(build, "__globals__", {}))  # what typing.get_type_hints does, one parameter at a time
    except NameError:
        return Any
