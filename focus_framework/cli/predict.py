"""``focus predict``: masks for images, however many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError
from .common import Progress, complete_plugins, first_known, json_option, note, overwrite_option, prediction_options, print_json


@click.command()
@click.argument("inputs", metavar="IMAGE_OR_FOLDER...", nargs=-1, type=click.Path())
@click.option("--list", "lists", multiple=True, metavar="FILE", help="A file with a path in each line; -: standard input.")
@click.option("--recursive", is_flag=True, help="Search folders inside folders too, and keep their places.")
@click.option("--checkpoint", metavar="C", help="A .safetensors file, a released .pth, hf://owner/name, or a known name.")
@click.option(
    "--task-plugin", metavar="T", shell_complete=complete_plugins("task"), help="Instead of --checkpoint: the first one the task knows."
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="predictions", show_default=True, help="Where to write.")
@click.option(
    "--save",
    "forms",
    multiple=True,
    default=("mask",),
    metavar="FORM,...",
    help="mask (grey, the default), binary, cutout (RGBA), overlay, rle (one COCO JSON); several at once.",
)
@prediction_options
@click.option(
    "--batch-size", default=8, show_default=True, type=click.IntRange(min=1), help="Images together; fewer where memory is short."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--again", is_flag=True, help="Remove what an earlier call predicted in --out, and start over.")
@overwrite_option
@json_option
def predict(
    inputs: tuple[str, ...],
    lists: tuple[str, ...],
    recursive: bool,
    checkpoint: str | None,
    task_plugin: str | None,
    out: Path,
    forms: tuple[str, ...],
    prediction: dict[str, Any],
    batch_size: int,
    device: str,
    again: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the masks of images, at the images' own size.

    A folder stands for the images in it, a pattern in quotes ("photos/**/*.jpg") for those that it matches, - for a list of paths on
    standard input. A file is named after its image, OUT/STEM.png; with several forms each has a folder of its
    own, OUT/FORM/STEM.png; rle is one file, OUT/rle.json. A second image of the same stem becomes STEM-2.

    The same command given again predicts only images that are new, changed, failed or not yet done. Another model or other settings
    are refused in the same OUT; --again starts over.

    With --task-plugin, the first checkpoint that the task knows is fetched and kept; focus checkpoint list shows it.

    Example: focus predict photos/ --recursive --checkpoint runs/shadow/best.safetensors --out masks
    """
    if not inputs and not lists:
        raise click.UsageError("Missing argument 'IMAGE_OR_FOLDER...': give an image, a folder, a pattern, or --list FILE")
    if (checkpoint is None) == (task_plugin is None):
        raise ConfigError("give either --checkpoint, a file or a name, or --task-plugin, for the first checkpoint that the task knows")
    from ..inference.many.listing import Listing
    from ..inference.outputs import parse_forms

    parse_forms(forms)  # before torch is imported: a wrong call is told at once
    listing = Listing(inputs, recursive=recursive, lists=lists)
    from ..inference.many.predicting import predict_many
    from ..inference.model import load

    chosen = str(checkpoint or first_known(str(task_plugin)))
    model = load(chosen, device=device, **prediction)
    with Progress(1, "predicted") as progress:
        report = predict_many(
            listing,
            model,
            out,
            name=chosen,
            forms=forms,
            batch_size=batch_size,
            again=again,
            overwrite=overwrite,
            on_done=lambda entry, done, total: progress.show(done / total, f"{done}/{total} {entry.path.name}"),
        )
    for path, error in report.failures():
        note(f"failed: {path}: {error}" if str(path) not in error else f"failed: {error}")
    earlier = f" ({report.before} of them were done before)" if report.before else ""
    note(f"wrote predictions of {report.done} of {report.total} images to {out}{earlier}")
    if as_json:
        print_json(
            {
                "written": list(dict.fromkeys(file for _, files in report.files(written=True) for file in files)),
                "failed": [{"input": path, "error": error} for path, error in report.failures()],
                "inputs": [{"input": path, "files": files} for path, files in report.files()],
                "before": report.before,
            }
        )
    if report.failed:
        click.get_current_context().exit(1)
