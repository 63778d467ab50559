"""``focus doctor``: what is installed, what of it runs, and what to do about the rest."""

from __future__ import annotations

import click

from .common import json_option, note, print_json


@click.command()
@click.option("--device", default="auto", show_default=True, help="The device to look at: auto, cpu, cuda, cuda:1 or mps.")
@json_option
def doctor(device: str, as_json: bool) -> None:
    """Show versions, device, which deformable attention runs and why, and what is wrong.

    Example: focus doctor
    """
    from ..deploy.doctor import examine, lines

    found = examine(device)
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(lines(found)))
    if found["device"]["error"]:  # asked for, and not there
        note(f"error: {found['device']['error']}")
        click.get_current_context().exit(1)
