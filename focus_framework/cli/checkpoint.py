"""``focus checkpoint``: what a checkpoint holds, and released checkpoints turned into ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .common import complete_plugins, json_option, note, print_json


@click.group()
def checkpoint() -> None:
    """Show what a checkpoint holds; import a released one."""


@checkpoint.command()
@click.argument("file")
@json_option
def inspect(file: str, as_json: bool) -> None:
    """Show task, network, prompts, preprocessing, size and licence of FILE.

    FILE is a checkpoint of ours, one of the authors' released .pth, or hf://owner/name.
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
    """Turn one of the authors' released .pth files into a checkpoint of ours."""
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
        "task": f"{facts['task']}: {facts['title']}",
        "metrics": ", ".join(facts["metrics"]),
        **{kind: facts[kind] for kind in ("backbone", "enhancer", "refiner")},
        "images": f"{size}, mean {pictures['mean']}, std {pictures['std']}",
        "mask rule": facts["prediction"]["rule"],
        "licence": facts["licence"] or "not said",
    }
    for name, value in rows.items():
        click.echo(f"{name:10} {value}")
    for pair in facts["prompts"]:
        click.echo(f"prompts    {pair['foreground']} / {pair['background']}  ({pair['source']})")
    for plugin in facts["plugins"]:
        click.echo(f"plugin     {plugin['kind']} {plugin['name']} of {plugin['distribution']} {plugin['version']}")
