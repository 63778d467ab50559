"""``focus checkpoint``: what a checkpoint holds, released checkpoints turned into ours, and those that have a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .common import complete_plugins, fetch_shown, json_option, note, print_json


@click.group()
def checkpoint() -> None:
    """Show what a checkpoint holds; list, fetch, import and share."""


@checkpoint.command()
@click.argument("file")
@json_option
def inspect(file: str, as_json: bool) -> None:
    """Show task, network, prompts, preprocessing, size and licence of FILE.

    FILE is a checkpoint of ours, one of the authors' released .pth, or hf://owner/name.

    Example: focus checkpoint inspect runs/shadow/best.safetensors
    """
    from ..checkpoint.inspection import inspect_checkpoint

    facts = inspect_checkpoint(file)
    if as_json:
        print_json(facts)
    else:
        _print(facts)


@checkpoint.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .safetensors to write.")
@click.option(
    "--task-plugin",
    shell_complete=complete_plugins("task"),
    help="The task it was trained for, where the file's name does not say: a plugin's name, module:attribute or a Python file.",
)
@click.option("--overwrite", is_flag=True, help="Replace what lies at --out.")
@json_option
def import_(file: Path, out: Path, task_plugin: str | None, overwrite: bool, as_json: bool) -> None:
    """Turn one of the authors' released .pth files into a checkpoint of ours.

    Example: focus checkpoint import focus_large_sd.pth --out shadow.safetensors
    """
    from ..checkpoint.importing import import_release
    from ..files.ownership import refuse_to_replace

    refuse_to_replace(out, kind="a checkpoint", suffixes=[".safetensors"], inputs=[file], overwrite=overwrite)
    released = (description := import_release(file, out, task=task_plugin))["released"]
    note(
        f"{file}: {released['keys']} keys of the release, {released['variant']}; {released['used']} used, "
        f"{released['training_only']} serve training only (CLIP refiner, its projections, class weights)"
    )
    if as_json:
        print_json({"checkpoint": out, "task": description["task"]["name"], **released, "parameters": description["parameters"]})
    else:
        click.echo(out)


@checkpoint.command("list")
@click.option(
    "--task", metavar="T", shell_complete=complete_plugins("task"), help="Those of one task: a name, module:attribute or file.py."
)
@json_option
def list_(task: str | None, as_json: bool) -> None:
    """List the checkpoints that tasks and other distributions know, and which are here already.

    The first of a task is what focus predict --task-plugin takes. The figures are those of the protocol that stands beside them.

    Example: focus checkpoint list --task shadow
    """
    from ..checkpoint.home import home
    from ..checkpoint.known import row_of
    from ..plugin.checkpoints import broken_checkpoints, checkpoints_of, known_checkpoints
    from ..plugin.registry import registry

    known = checkpoints_of(registry().find_task(task)) if task else known_checkpoints()
    rows = [row_of(each) for each in known]
    if as_json:
        print_json({"checkpoints": rows, "broken": [vars(each) for each in broken_checkpoints()], "folder": home()})
        return
    for name in dict.fromkeys(row["task"] for row in rows):
        click.echo(f"{name}:")
        for row in (row for row in rows if row["task"] == name):
            _print_known(row)
    for broken in broken_checkpoints():
        click.echo(f"BROKEN: {broken.name} of {broken.distribution}: {broken.error}")
    if not rows:
        click.echo("none")


@checkpoint.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="A repository that only its owner sees.")
@click.option("--no-images", is_flag=True, help="Without the four practice images that the card shows.")
@click.option("--no-pictures", "no_images", is_flag=True, hidden=True)
@json_option
def push(file: Path, repository: str, private: bool, no_images: bool, as_json: bool) -> None:
    """Share the checkpoint FILE on the Hugging Face hub as OWNER/NAME, with a card made from what it knows of itself.

    The token is that of HF_TOKEN or of hf auth login. focus.load("hf://OWNER/NAME") uses the result.

    Example: focus checkpoint push runs/shadow/best.safetensors me/my-shadows --private
    """
    from ..inference.sharing import push_file

    page = push_file(file, repository, private=private, images=not no_images)
    if as_json:
        print_json({"page": page, "reference": f"hf://{repository.removeprefix('hf://')}"})
    else:
        click.echo(page)


def _print_known(row: dict[str, Any]) -> None:
    from ..checkpoint.download import in_words
    from ..evaluation.tables import LABELS

    size = in_words(row["bytes"]) if row["bytes"] else "size not stated"
    here = "here" if row["ready"] else "here, to be imported" if row["file"] else "not here"
    licences = dict.fromkeys(text for text in row["licence"].values() if text)
    click.echo(f"  {row['name']}  {row['title']}, {size}, {here}  ({row['distribution']})")
    click.echo(f"    {row['file'] or row['reference']}; licence: {'; '.join(licences) or 'not stated'}")
    for figures in row["figures"]:
        scores = ", ".join(f"{LABELS.get(name, name)} {value:g}" for name, value in figures["metrics"].items())
        click.echo(f"    {figures['data']} ({figures['protocol']}): {scores}")


@checkpoint.command()
@click.argument("name")
@json_option
def fetch(name: str, as_json: bool) -> None:
    """Fetch the known checkpoint NAME, or the first one of the task NAME, or hf://owner/name.

    The same command resumes an interrupted fetch. What came is compared with its checksum; a released file is imported once.
    It is kept in the folder of the variable FOCUS_HOME, else in the hub's cache.

    Example: focus checkpoint fetch focus_large_sd
    """
    from ..checkpoint import hub
    from ..checkpoint.known import find_known, obtain

    if name.startswith(hub.PREFIX):
        path = fetch_shown(lambda show: hub.fetch(name, show))
    else:
        known = find_known(name)
        path = fetch_shown(lambda show: obtain(known, show))
    if as_json:
        print_json({"name": name, "checkpoint": path, "bytes": path.stat().st_size})
    else:
        click.echo(path)


def _print(facts: dict[str, Any]) -> None:
    released = facts["released"]
    origin = f"release, {released['variant']} ({released['file']})" if released else f"focus-framework {facts['framework_version']}"
    pictures = facts["preprocessing"]
    size = f"{pictures['size']} x {pictures['size']}" if pictures["resize"] == "square" else f"short side {pictures['size']}"
    parent = facts["parent"]
    at = f", step {parent['step']}" if parent and parent["step"] is not None else ""
    rows = {
        "file": f"{facts['file']}, {facts['bytes'] / 1e6:,.1f} MB, {facts['parameters'] / 1e6:,.1f} million parameters",
        "origin": origin,
        **({"parent": f"{parent['reference']} (task {parent['task']}{at}; sha256 {parent['sha256']})"} if parent else {}),
        **({"task": f"{facts['task']}: {facts['title']}", "metrics": ", ".join(facts["metrics"])} if len(facts["tasks"]) == 1 else {}),
        **{kind: facts[kind] for kind in ("backbone", "enhancer", "refiner")},
        **({"conditioner": facts["conditioner"]} if facts["conditioner"] != "none" else {}),
        "images": f"{size}, mean {pictures['mean']}, std {pictures['std']}",
        "mask rule": facts["prediction"]["rule"],
        "licence": facts["licence"] or "not said",
    }
    for name, value in rows.items():
        click.echo(f"{name:10} {value}")
    for task in facts["tasks"]:
        if len(facts["tasks"]) > 1:
            click.echo(f"task       {task['name']}: {task['title']}; {', '.join(task['metrics'])}")
        for pair in task["prompts"]:
            click.echo(f"prompts    {pair['foreground']} / {pair['background']}  ({pair['source']})")
    for plugin in facts["plugins"]:
        click.echo(f"plugin     {plugin['kind']} {plugin['name']} of {plugin['distribution']} {plugin['version']}")
