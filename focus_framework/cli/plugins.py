"""``focus plugins``: what is installed, from which distribution, what is broken, and whether a plugin keeps its promises."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import json_option, note, print_json

if TYPE_CHECKING:
    from ..plugin.registry import Entry, Kind
    from ..testing.promise import Outcome


@click.group()
def plugins() -> None:
    """List what is installed; start a plugin, and try what one promises."""


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
@click.option("--kind", type=click.Choice(["task", "backbone", "enhancer", "refiner", "conditioner"]), help="Where kinds share a name.")
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


@plugins.command("new")
@click.argument("kind", type=click.Choice(["task", "backbone", "enhancer", "refiner", "conditioner"]))
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The folder to write, missing or empty; by default focus-KIND-NAME here.",
)
@json_option
def new_plugin(kind: Kind, name: str, out: Path | None, as_json: bool) -> None:
    """Write a package with a plugin of this KIND called NAME, which works as it is and is meant to be changed.

    It has one short file, an entry point, a test of every promise of the interface, and a README with the commands that come next.

    Example: focus plugins new task puddles
    """
    from ..plugin.starting import write_package

    written = write_package(kind, name, out)
    if as_json:
        print_json({"written": written})
        return
    for path in written:
        click.echo(path)
    note(f"next: pip install --no-build-isolation --no-deps --editable {written[0].parent}")


@plugins.command("check")
@click.argument("reference", metavar="NAME|FILE")
@click.option("--kind", type=click.Choice(["task", "backbone", "enhancer", "refiner", "conditioner"]), help="Where kinds share a name.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="An option for its build, e.g. --set embed_dim=32.")
@click.option("--thorough", is_flag=True, help="Also try what takes minutes: torch.compile, rendered images.")
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), help="Also write a contact sheet of a task's practice images.")
@json_option
def check_plugin(
    reference: str, kind: Kind | None, assignments: tuple[str, ...], thorough: bool, sheet: Path | None, as_json: bool
) -> None:
    """Try every promise of the interface of a plugin, or of all that a Python file offers.

    A promise is kept, broken, or not tried, each with a word of why. Networks are built from random weights.

    Example: focus plugins check shadow --sheet practice.png
    """
    from ..config.layers import parse_assignment
    from ..testing.checking import Tried, check, subjects, write_sheet

    found = subjects(reference, kind, dict(parse_assignment(text) for text in assignments), thorough=thorough)
    if sheet:
        write_sheet(sheet, found)
        note(f"wrote {sheet}")
    reports = []
    for subject in found:
        if not as_json:
            click.echo(f"{subject.title}  ({subject.entry.distribution})")
        outcomes = []
        for outcome in check(subject):
            outcomes.append(outcome)
            if not as_json:
                _print_outcome(outcome)
        reports.append(Tried(subject, tuple(outcomes)))
    broken, kept, left = (sum(report.count(state) for report in reports) for state in ("broken", "kept", "not tried"))
    if as_json:
        print_json({"plugins": [report.as_json() for report in reports], "broken": broken, "kept": kept, "not_tried": left})
    else:
        click.echo(f"{kept} kept, {broken} broken, {left} not tried")
    if broken:
        raise click.exceptions.Exit(1)


def _print_outcome(outcome: Outcome) -> None:
    state = "BROKEN" if outcome.state == "broken" else outcome.state
    click.echo(f"  {state:9}  {outcome.promise}" + (f": {outcome.detail}" if outcome.detail else ""))
