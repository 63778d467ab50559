"""``focus predict``: masks for images and folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError
from .common import Progress, complete_plugins, first_known, json_option, note, overwrite_option, prediction_options, print_json


@click.command()
@click.argument("inputs", metavar="IMAGE_OR_FOLDER...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
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
@overwrite_option
@json_option
def predict(
    inputs: tuple[Path, ...],
    checkpoint: str | None,
    task_plugin: str | None,
    out: Path,
    forms: tuple[str, ...],
    prediction: dict[str, Any],
    batch_size: int,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the masks of images, at the images' own size.

    A folder stands for the images in it. A file is named after its image, OUT/STEM.png; with several forms each has a folder of its
    own, OUT/FORM/STEM.png; rle is one file, OUT/rle.json. A second image of the same stem becomes STEM-2.

    With --task-plugin, the first checkpoint that the task knows is fetched and kept; focus checkpoint list shows it.
    """
    if (checkpoint is None) == (task_plugin is None):
        raise ConfigError("give either --checkpoint, a file or a name, or --task-plugin, for the first checkpoint that the task knows")
    from ..inference.outputs import find_sources, parse_forms, write_predictions

    chosen, sources = parse_forms(forms), find_sources(inputs)  # before torch is imported: a wrong call is told at once
    from ..files.ownership import claimed
    from ..inference.model import load

    model = load(checkpoint or first_known(str(task_plugin)), device=device, **prediction)
    with claimed(out, "predictions", inputs=inputs, overwrite=overwrite), Progress(len(sources), "predicted") as progress:
        report = write_predictions(
            model,
            sources,
            out,
            forms=chosen,
            category=model.task,
            batch_size=batch_size,
            on_done=lambda source: progress.advance(source.path.name),
        )
    for path, error in report.failed.items():
        note(f"failed: {path}: {error}" if str(path) not in error else f"failed: {error}")
    note(f"wrote predictions of {len(report.written)} of {len(sources)} images to {out}")
    if as_json:
        print_json(
            {
                "written": list(dict.fromkeys(file for files in report.written.values() for file in files)),
                "failed": [{"input": path, "error": error} for path, error in report.failed.items()],
                "inputs": [{"input": path, "files": files} for path, files in report.written.items()],
            }
        )
    if report.failed:
        click.get_current_context().exit(1)
