"""``focus plugins``: what is installed, from which distribution, and what is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .common import json_option, print_json

if TYPE_CHECKING:
    from ..plugin.registry import Entry


@click.group()
def plugins() -> None:
    """List what is installed, from where, and what is broken."""


@plugins.command("list")
@json_option
def list_plugins(as_json: bool) -> None:
    """List all plugins, with the reason where one is broken.

    Example: focus plugins list
    """
    from ..plugin.registry import KINDS, registry

    if as_json:
        print_json({f"{kind}s": [entry.as_json() for entry in registry().of_kind(kind)] for kind in KINDS})
        return
    for kind in KINDS:
        click.echo(f"{kind}s:")
        _print_rows(registry().of_kind(kind))


def _print_rows(entries: list[Entry]) -> None:
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        origin = f"{entry.distribution} {entry.version}"
        text = entry.description.title if entry.description else f"BROKEN: {entry.error}"
        click.echo(f"  {entry.name:{width}}  {text}  ({origin})")
    if not entries:
        click.echo("  none")


@plugins.command("info")
@click.argument("name")
@click.option("--kind", type=click.Choice(["task", "backbone", "enhancer", "refiner"]), help="Where kinds share a name.")
@json_option
def info(name: str, kind: str | None, as_json: bool) -> None:
    """Show the description and options of plugin NAME.

    A task is also found as module:attribute or path/to/file.py.

    Example: focus plugins info shadow
    """
    from ..plugin.facts import facts, find_anywhere

    known = facts(find_anywhere(name, kind))  # type: ignore[arg-type]  # click checked the kind
    if as_json:
        print_json(known)
        return
    for key, value in known.items():
        if isinstance(value, list):
            click.echo(f"{key}:" + ("" if value else " none"))
            for row in value:
                click.echo(f"  {_row(row)}")
        elif value not in (None, "", {}):
            click.echo(f"{key}: {value}")


def _row(row: str | dict[str, Any]) -> str:
    """One line of a list of facts; what is empty is left out."""
    if isinstance(row, str):
        return row
    return ", ".join(
        f"{key}: {value!r}" if key == "default" else f"{key}: {value}" for key, value in row.items() if value not in ("", None)
    )
