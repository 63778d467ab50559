"""What autodoc needs here: types link to public names, and only functions have sections such as ``Args:``."""

from __future__ import annotations

import importlib
import re
from functools import cache

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config, GoogleDocstring

DOORS = ("focus_framework", "focus_framework.ops", "focus_framework.metrics")


@cache
def public_names() -> dict[str, str]:
    """The public name of everything that a door offers, by the name of the place where it is written."""
    found = {}
    for door in DOORS:
        module = importlib.import_module(door)
        for name in module.__all__:
            value = getattr(module, name)
            if hasattr(value, "__qualname__"):
                found[f"{value.__module__}.{value.__qualname__}"] = f"{door}.{name}"
    return found


def link_to_public(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement) -> nodes.Node | None:
    """`focus_framework.plugin.interfaces.Task`, or `Task` alone, is found as `focus_framework.Task`."""
    target = node.get("reftarget", "")
    public = public_names().get(target) or next((name for name in public_names().values() if name.endswith(f".{target}")), None)
    if node.get("refdomain") != "py" or public is None or public == target:
        return None
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, node["reftype"], public, node, content)


def read_sections(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Sections of functions alone: napoleon would take "For a family: ..." below an attribute for its type."""
    if what in ("function", "method"):
        lines[:] = str(GoogleDocstring(lines, Config(), app, what, name, value)).splitlines()


def short_types(
    app: Sphinx, what: str, name: str, value: object, options: object, given: str | None, back: str | None
) -> tuple[str, str] | None:
    """Names of `autodoc_type_aliases` inside of other types, which Sphinx 9 prints as ``TypeAliasForwardRef('Name')``."""
    if given is None:
        return None
    return tuple(re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text or "") for text in (given, back))


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("missing-reference", link_to_public)
    app.connect("autodoc-process-docstring", read_sections)
    app.connect("autodoc-process-signature", short_types)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
