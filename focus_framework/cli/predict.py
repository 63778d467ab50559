"""``focus predict``: masks for images, however many, and for films."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError
from .common import (
    Progress,
    check_named,
    complete_plugins,
    finite,
    first_known,
    json_option,
    note,
    overwrite_option,
    prediction_options,
    print_json,
    tasks_named,
)

if TYPE_CHECKING:
    from ..inference.model import Model

FILMS = (".mp4", ".mov", ".webm")
"""Names of `--out` that mean a film; known here without importing what writes them."""


def _seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """90, 1:30 or 0:01:30.5 as seconds."""
    if value is None:
        return None
    if not re.fullmatch(r"(\d{1,4}:){0,2}\d{1,6}(\.\d{1,9})?", value, re.ASCII):
        raise click.BadParameter(f"{value!r} is no time such as 90, 1:30 or 0:01:30.5", context, parameter)
    return sum(float(part) * 60**place for place, part in enumerate(reversed(value.split(":"))))


@dataclass(frozen=True)
class _Meant:
    """What a call says of the foreground that it means, of which a checkpoint may know several."""

    task_plugin: str | None
    foreground: str | None
    background: str | None
    examples: str | None

    def __post_init__(self) -> None:
        """Raise `ConfigError` where that is not clear."""
        if (self.foreground is None) != (self.background is None):
            missing = "--background-prompt" if self.background is None else "--foreground-prompt"
            raise ConfigError(f"--foreground-prompt and --background-prompt belong together; give {missing} too")
        options = {"--task-plugin": self.task_plugin, "--foreground-prompt": self.foreground, "--examples": self.examples}
        if len(said := [name for name, given in options.items() if given]) > 1:
            raise ConfigError(f"{' and '.join(said)} each say what is foreground; give one of them")

    def of(self, model: Model) -> tuple[Model, tuple[str, ...]]:
        """The model for it, and the names of its tasks where several are meant."""
        if self.foreground and self.background:
            return model.with_prompts(self.foreground, self.background), ()
        if self.examples:
            return model.with_examples(self.examples), ()
        tasks = tasks_named(model, self.task_plugin)
        return (model, tasks) if len(tasks) > 1 else (model.for_task(tasks[0]), ())

    def model_of(self, model: Model) -> Model:
        """The model alone."""
        return self.of(model)[0]


@click.command()
@click.argument("inputs", metavar="IMAGE_OR_FOLDER...", nargs=-1, type=click.Path())
@click.option("--list", "lists", multiple=True, metavar="FILE", help="A file with a path in each line; -: standard input.")
@click.option("--column", metavar="NAME", default="path", show_default=True, help="Column of a --list that is a Parquet file.")
@click.option("--recursive", is_flag=True, help="Search folders inside folders too, and keep their places.")
@click.option("--checkpoint", metavar="C", help="A .safetensors file, a released .pth, hf://owner/name, or a known name.")
@click.option(
    "--task-plugin",
    metavar="T,...",
    shell_complete=complete_plugins("task"),
    help="The task of a checkpoint that knows several, or several in one pass, or all; without --checkpoint the first one the task knows.",
)
@click.option("--out", default="predictions", show_default=True, metavar="PLACE", help="Folder or address to write to; of a film, a file.")
@click.option("--foreground-prompt", metavar="TEXT", help="Instead of a task, where the checkpoint reads sentences: what lies inside.")
@click.option("--background-prompt", metavar="TEXT", help="With it: what lies outside.")
@click.option("--examples", metavar="D", help="Instead of a task, where the checkpoint reads examples: a folder with images/ and masks/.")
@click.option(
    "--save",
    "forms",
    multiple=True,
    default=("mask",),
    metavar="FORM,...",
    help="mask (grey, the default), binary, cutout (RGBA), overlay, rle (one COCO JSON); several at once.",
)
@click.option("--every", type=click.IntRange(min=1), metavar="N", help="Film: look at every N-th frame; its mask stays until the next.")
@click.option("--start", metavar="TIME", callback=_seconds, help="Film: begin there, e.g. 90 or 1:30.")
@click.option("--end", metavar="TIME", callback=_seconds, help="Film: end there.")
@click.option("--smooth", type=click.FloatRange(0, 1), callback=finite, metavar="RATIO", help="Film: against flicker, 0 to 1.")
@click.option("--no-sound", is_flag=True, help="Film: leave the sound out.")
@prediction_options
@click.option(
    "--batch-size", default=8, show_default=True, type=click.IntRange(min=1), help="Images together; fewer where memory is short."
)
@click.option("--engine", type=click.Choice(["here", "ray"]), default="here", show_default=True, help="Predict in this process, or by Ray.")
@click.option("--address", metavar="ADDRESS", help="Ray: of a cluster, e.g. auto or HOST:6379; without it, this machine alone.")
@click.option("--actors", type=click.IntRange(min=1), metavar="N", help="Ray: as many models; one for each device, if not given.")
@click.option("--cpus", type=click.FloatRange(0.1, 1024), callback=finite, metavar="N", help="Ray: processors of an actor, 1 if not given.")
@click.option("--gpus", type=click.FloatRange(0, 64), callback=finite, metavar="N", help="Ray: GPUs of an actor; 0.5: two share one.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--again", is_flag=True, help="Remove what an earlier call predicted in --out, and start over.")
@overwrite_option
@json_option
def predict(
    inputs: tuple[str, ...],
    lists: tuple[str, ...],
    column: str,
    recursive: bool,
    checkpoint: str | None,
    task_plugin: str | None,
    foreground_prompt: str | None,
    background_prompt: str | None,
    examples: str | None,
    out: str,
    forms: tuple[str, ...],
    every: int | None,
    start: float | None,
    end: float | None,
    smooth: float | None,
    no_sound: bool,
    prediction: dict[str, Any],
    batch_size: int,
    engine: str,
    address: str | None,
    actors: int | None,
    cpus: float | None,
    gpus: float | None,
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

    A film is written where OUT ends in .mp4, .mov or .webm: focus predict clip.mp4 --out clip-mask.mp4. It keeps its sound and the times of
    its frames; --save mask, binary, overlay, or cutout in .mov and .webm. Needs the extra video.

    Images and OUT may be addresses such as s3://bucket/photos. With --engine ray the actors of a cluster predict, each with a model of
    its own; OUT/inputs.parquet lists every input. Both need the extra ray.

    With --task-plugin alone, the first checkpoint that the task knows is fetched and kept; focus checkpoint list shows it. Of a checkpoint
    that knows several tasks it says which; several of them (salient,shadow) are predicted in one pass, each into folders of its own,
    OUT/TASK/FORM/STEM.png.

    Example: focus predict photos/ --recursive --checkpoint runs/shadow/best.safetensors --out masks
    """
    if not inputs and not lists:
        raise click.UsageError("Missing argument 'IMAGE_OR_FOLDER...': give an image, a folder, a pattern, or --list FILE")
    check_named(checkpoint, task_plugin)
    meant = _Meant(task_plugin, foreground_prompt, background_prompt, examples)
    from ..inference.many.listing import Listing
    from ..inference.outputs import parse_forms

    chosen_forms = parse_forms(forms)  # before torch is imported: a wrong call is told at once
    of_film = {"every": every, "start": start, "end": end, "smooth": smooth}
    of_ray: dict[str, Any] = {"address": address, "actors": actors, "cpus": cpus, "gpus": gpus}
    ray_given = {name: value for name, value in of_ray.items() if value is not None}
    if engine != "ray" and ray_given:
        raise ConfigError(f"--{next(iter(ray_given))} is for a cluster; say --engine ray")
    if Path(out).suffix.lower() in FILMS and not Path(out).is_dir():
        given = {name: value for name, value in of_film.items() if value is not None}
        if recursive or lists or len(inputs) != 1:
            raise ConfigError(f"--out {out} is a film, which is made of one film; give a folder for images")
        if engine == "ray" or "://" in out:
            raise ConfigError("a film is made in this process and written to a file; leave --engine out, and give --out a name here")
        _film(
            inputs[0],
            checkpoint,
            meant,
            Path(out),
            chosen_forms,
            prediction,
            as_json,
            device=device,
            batch_size=batch_size,
            again=again,
            overwrite=overwrite,
            sound=not no_sound,
            **given,
        )
        return
    if no_sound or any(value is not None for value in of_film.values()):
        raise ConfigError(
            f"--every, --start, --end, --smooth and --no-sound are for films; a film is written where --out ends in {FILMS[0]}"
        )
    if film := next((given for given in inputs if Path(given).suffix.lower() in FILMS and Path(given).is_file()), None):
        raise ConfigError(f"{film} is a film; give --out the name of one, say {Path(film).stem}-mask{FILMS[0]}")
    listing = Listing(inputs, recursive=recursive, lists=lists, column=column)
    from ..inference.many.predicting import predict_many
    from ..inference.model import load

    chosen = str(checkpoint or first_known(str(task_plugin)))
    model, tasks = meant.of(load(chosen, device="cpu" if engine == "ray" else device, **prediction))
    cluster = None
    if engine == "ray":
        from ..inference.many.cluster import Cluster

        cluster = Cluster(
            checkpoint=str(Path(chosen).absolute()) if Path(chosen).exists() else chosen,
            device=device,
            prediction=prediction,
            choose=meant.model_of,
            **ray_given,
        )
    with Progress(1, "predicted") as progress:
        report = predict_many(
            listing,
            model,
            out,
            name=chosen,
            tasks=tasks,
            forms=forms,
            batch_size=batch_size,
            again=again,
            overwrite=overwrite,
            cluster=cluster,
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


def _film(
    source: str,
    checkpoint: str | None,
    meant: _Meant,
    out: Path,
    forms: list[str],
    prediction: dict[str, Any],
    as_json: bool,
    *,
    device: str,
    **options: Any,
) -> None:
    from ..inference.film.predicting import predict_film, troubles
    from ..inference.film.reading import Film
    from ..inference.film.writing import check_form

    form = check_form(out, forms)
    if Path(source).is_file() or not Path(source).exists():  # neither a pipe nor a camera, which are read once
        with Film(source):
            pass
    from ..inference.model import load

    model, several = meant.of(load(str(checkpoint or first_known(str(meant.task_plugin))), device=device, **prediction))
    if several:
        raise ConfigError(f"a film is made for one task; --task-plugin names {', '.join(several)}")
    with Progress(1, "predicted") as progress:
        report = predict_film(source, model, out, form=form, on_frame=_told(progress), **options)
    told = troubles(report.broken_count, report.broken, report.truncated)
    for trouble in told:
        note(f"failed: {source}: {trouble}")
    note(f"{out} was done before; --again does it once more" if report.before else f"wrote {report.frames} frames to {out}")
    if as_json:
        film = {"frames": report.frames, "broken": report.broken_count, "broken_at": report.broken, "truncated": report.truncated}
        failed = [{"input": source, "error": trouble} for trouble in told]
        print_json({"written": [] if report.before else [out], "failed": failed, "before": int(report.before), "film": film})
    if not report.whole:
        click.get_current_context().exit(1)


def _told(progress: Progress) -> Callable[[float, float | None], None]:
    """Tells `progress` of each frame: how far, and how long it will take."""
    begin = time.monotonic()

    def on_frame(seconds: float, total: float | None) -> None:
        left = (time.monotonic() - begin) * (total - seconds) / seconds if total and seconds > 0 else None
        ahead = f" of {total:.1f} s" + (f", {left:.0f} s left" if left is not None else "") if total else " s"
        progress.show(min(seconds / total, 0.999) if total else 0.0, f"{seconds:.1f}{ahead}")

    return on_frame
