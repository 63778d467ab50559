"""``focus export``: a checkpoint as a file that gives the same masks without this framework."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ..errors import ConfigError
from .common import complete_plugins, json_option, note, one_task, print_json


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """(height, width)"""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", value)
    if not found:
        raise click.BadParameter(f"{value!r} is no size such as 512, or 640x480 for width x height")
    return int(found[2] or found[1]), int(found[1])


@click.command()
@click.argument("checkpoint")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file to write, .onnx or .pt2.")
@click.option(
    "--task-plugin",
    metavar="T",
    shell_complete=complete_plugins("task"),
    help="The task of a checkpoint that knows several; default: its first.",
)
@click.option("--format", "form", type=click.Choice(["onnx", "pt2"]), help="Default: as --out ends.")
@click.option("--precision", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True, help="Of weights and products.")
@click.option(
    "--size", callback=_size, metavar="PIXELS|WxH", help="Fix the network's input, for runtimes that want it; default: any multiple of 32."
)
@click.option("--with-preprocessing", is_flag=True, help="The file takes bytes, RGB, and normalises them itself.")
@click.option("--overwrite", is_flag=True, help="Replace what lies at --out.")
@json_option
def export(
    checkpoint: str,
    out: Path,
    task_plugin: str | None,
    form: str | None,
    precision: str,
    size: tuple[int, int] | None,
    with_preprocessing: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a checkpoint as a file that gives the same masks without this framework. Needs the extra export.

    The file is run before it is left, at three sizes with 1, 2 and 3 images, and its masks are compared with those of the checkpoint; the
    figures are printed and written to OUT.json. A file that differs is not left.

    Example: focus export run/best.safetensors --out model.onnx
    """
    if form and out.suffix.lower() != f".{form}":
        raise ConfigError(f"--out {out} does not end in .{form}, which --format {form} asks for")
    from ..files.ownership import refuse_to_replace

    report = out.with_name(f"{out.name}.json")
    for path, suffixes in ((out, [".onnx", ".pt2"]), (report, [".json"])):
        refuse_to_replace(path, kind="an exported file", suffixes=suffixes, inputs=[Path(checkpoint)], overwrite=overwrite)
    from ..deploy.export.making import checked_call, checked_size
    from ..deploy.export.making import export as make

    checked_call(out, precision)
    checked_size(size)
    from ..inference.model import load

    model = one_task(load(checkpoint, device="cpu"), task_plugin, "exported")
    made = make(model, out, precision=precision, size=size, with_preprocessing=with_preprocessing, said=note)  # type: ignore[arg-type]
    if as_json:
        print_json(
            {"file": made.path, "report": made.report, "bytes": made.path.stat().st_size, "check": made.comparisons, "facts": made.facts}
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{out.name} beside the checkpoint", title_justify="left")
    for column in ("images", "width x height", "largest difference", "mean", "mask pixels that differ"):
        table.add_column(column, justify="right")
    for row in made.comparisons:
        table.add_row(
            str(row.batch),
            f"{row.width} x {row.height}",
            f"{row.largest_difference:.1e}",
            f"{row.mean_difference:.1e}",
            f"{row.different_pixels:.3%}",
        )
    Console().print(table)
    note(f"wrote {made.path} ({made.path.stat().st_size / 1e6:.1f} MB) and the figures, {made.report}")
