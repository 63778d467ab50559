"""``focus explain``: what a network sees on the way from an image to its mask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError
from .common import Progress, check_named, complete_plugins, first_known, json_option, note, one_task, overwrite_option, print_json

if TYPE_CHECKING:
    from ..evaluation.explained import Explained
    from ..inference.model import Model


def _points(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[float, float]]:
    points = []
    for value in values:
        try:
            x, y = (float(part) for part in value.split(","))
        except ValueError:
            raise click.BadParameter(f"{value!r} is no point such as 120,80: x and y in pixels of the image") from None
        points.append((x, y))
    return points


@click.command()
@click.argument("inputs", metavar="IMAGE_OR_FOLDER...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--checkpoint", metavar="C", help="A .safetensors file, a released .pth, hf://owner/name, or a known name.")
@click.option(
    "--task-plugin",
    metavar="T",
    shell_complete=complete_plugins("task"),
    help="The task of a checkpoint that knows several; without --checkpoint the first one the task knows.",
)
@click.option("--against", metavar="C", help="Another checkpoint, to be shown beside the first.")
@click.option(
    "--masks", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of true masks, to show errors by kind."
)
@click.option("--point", "points", multiple=True, metavar="X,Y", callback=_points, help="Show where attention looks from this pixel.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="explained", show_default=True, help="Where to write.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@overwrite_option
@json_option
def explain(
    inputs: tuple[Path, ...],
    checkpoint: str | None,
    task_plugin: str | None,
    against: str | None,
    masks: Path | None,
    points: list[tuple[float, float]],
    out: Path,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Show what the network sees on the way from an image to its mask.

    Writes one page, OUT/explained.html, and a sheet for each image, OUT/STEM.png: edge image, the enhancer's maps, features of each
    stage as colours, masks and class probabilities of every head, where queries may look, where deformable attention samples, and
    the mask by each rule of joint prediction. The page shows samples for any place that is clicked.

    Example: focus explain photo.jpg --task-plugin shadow --point 120,80
    """
    check_named(checkpoint, task_plugin)
    from ..inference.many.listing import Listing

    paths = [found.path for found in Listing(inputs)]  # before torch is imported: a wrong call is told at once
    import numpy as np

    from ..evaluation.explained import colours_of, explain_images, render, sheets_of
    from ..files.atomic import replacing
    from ..files.images import write_image
    from ..files.ownership import claimed
    from ..inference.model import load

    first = str(checkpoint or first_known(str(task_plugin)))
    models = {_short(name): load(name, device=device) for name in (first, against) if name}
    models = {name: _of_task(model, task_plugin, own=number > 0) for number, (name, model) in enumerate(models.items())}
    if against and len(models) == 1:
        raise ConfigError(f"--against {against}: this is the checkpoint itself; give another one")
    with claimed(out, "explanations", inputs=[*inputs, *([masks] if masks else [])], overwrite=overwrite):
        with Progress(len(paths), "explained") as progress:
            explained = explain_images(models, paths, masks=masks, points=points, on_done=progress.advance)
        colours = colours_of(explained)
        for one in explained:
            write_image(out / f"{one.name}.png", np.asarray(sheets_of(one, colours)))
        with replacing(out / "explained.html") as beside:
            beside.write_text(render(explained, colours), encoding="utf-8", errors="surrogateescape")
    note(f"wrote {out / 'explained.html'} and {len(explained)} sheet{'s' if len(explained) > 1 else ''} beside it")
    if as_json:
        print_json({"page": out / "explained.html", "images": [_described(one, out) for one in explained]})


def _of_task(model: Model, task_plugin: str | None, *, own: bool) -> Model:
    """The task that is named; with `own`, of a network that has one task that one, whatever is named."""
    return model if own and len(model.tasks) == 1 else one_task(model, task_plugin, "explained")


def _short(checkpoint: str) -> str:
    """A name to show: the last two parts of a path, so that runs/a/best.safetensors differs from runs/b/best.safetensors."""
    return "/".join(Path(checkpoint).parts[-2:])


def _described(one: Explained, out: Path) -> dict[str, object]:
    errors = {name: made for name in one.by_network if (made := one.errors(name))}
    return {
        "name": one.name,
        "sheet": out / f"{one.name}.png",
        "errors": {name: {"shares": made.shares, "parts": made.parts, "parts_found": made.found} for name, made in errors.items()},
    }
