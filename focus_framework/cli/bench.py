"""``focus bench``: milliseconds of each stage of inference and of a training step, or of an image in several runtimes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import ConfigError
from .common import json_option, note, print_json

if TYPE_CHECKING:
    from ..deploy.bench import Timings
    from ..deploy.runtimes import RuntimeTimings


@click.command()
@click.option("--preset", help="The preset to time: quick, small, paper-large or paper-giant; default: quick.")
@click.option("--checkpoint", metavar="REFERENCE", help="A model to time in place of a preset: what focus predict takes.")
@click.option(
    "--runtimes", metavar="NAME,...", help="Time an image in these runtimes by turns, on the CPU: pytorch, onnxruntime, openvino."
)
@click.option(
    "--image-size",
    type=click.IntRange(min=32, max=1 << 15),
    help="Pixels of a side; default: the preset's or the model's. Rounded up to 32.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Images at a time.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Times each is run; medians are shown.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any other setting of the preset by its dotted name.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@json_option
def bench(
    preset: str | None,
    checkpoint: str | None,
    runtimes: str | None,
    image_size: int | None,
    batch_size: int,
    repeats: int,
    assignments: tuple[str, ...],
    device: str,
    as_json: bool,
) -> None:
    """Measure the speed of each stage of inference and training, with and without the compiled deformable attention.

    With --runtimes it is the speed, the memory and the agreement of whole runtimes: the model is exported, which needs the extra export.

    Example: focus bench --preset quick --repeats 3

    Example: focus bench --checkpoint run/best.safetensors --runtimes pytorch,onnxruntime
    """
    if checkpoint is not None and (preset is not None or assignments):
        raise ConfigError("--checkpoint brings its own settings; leave --preset and --set out")
    if runtimes is not None:
        from ..deploy.runtimes import checked_runtimes

        names = checked_runtimes(runtimes)
        if device not in ("auto", "cpu"):
            raise ConfigError(f"--runtimes are timed on the CPU; leave --device {device} out")
    from ..config.layers import resolve
    from ..inference.device import choose_device

    where = choose_device(device if runtimes is None else "cpu")
    config = resolve("salient", preset=preset or "quick", assignments=assignments).config
    model = None
    if checkpoint is not None:
        from ..inference.model import load

        model = load(checkpoint, device="cpu")
        config = model.for_task(model.task).config
    side = image_size or config.preprocessing.size
    title = f"{checkpoint or config.preset}, {batch_size} x"
    if runtimes is not None:
        from ..deploy.runtimes import bench_runtimes, untrained

        compared = bench_runtimes(model or untrained(config), names, image_size=side, batch_size=batch_size, repeats=repeats, said=note)
        print_json(compared) if as_json else _print_runtimes(compared, title)
        return
    from ..deploy.bench import bench as measure

    result = measure(config, image_size=side, batch_size=batch_size, device=where, repeats=repeats)
    _warn(result)
    print_json(result) if as_json else _print_stages(result, title)


def _warn(result: Timings) -> None:
    from ..runtime import BUSY

    for name, why in result["skipped"].items():
        note(f"{name} left out: {why}")
    if result["processor_share"] is not None and result["processor_share"] < BUSY:
        note(f"the machine is busy: {result['processor_share']:.0%} of the wanted processor time was had; these times hold for that alone")


def _print_stages(result: Timings, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..deploy.bench import rows

    size = f"{result['image_size']}^2, {result['device']}, {result['threads']} threads: milliseconds"
    table = Table(title=f"{title} {size}", title_justify="left")
    for column in ("", "stage", *result["results"]):
        table.add_column(column, justify="right" if column in result["results"] else "left")
    for kind, stage, times in rows(result):
        table.add_row(kind, stage, *(f"{time:.1f}" for time in times), end_section=stage == "total")
    Console().print(table)


def _print_runtimes(result: RuntimeTimings, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    first = next(iter(result["results"]))
    table = Table(title=f"{title} {result['image_size']}^2, {result['threads']} threads, inference", title_justify="left")
    table.add_column("runtime")
    for column in ("ms an image", f"of {first}", "peak MiB", "largest difference"):
        table.add_column(column, justify="right")
    for name, found in result["results"].items():
        memory = found["peak_memory"]
        table.add_row(
            f"{name} {result['versions'][name]}",
            f"{found['milliseconds']:.1f}",
            f"{found['milliseconds'] / result['results'][first]['milliseconds']:.2f}",
            "" if memory is None else f"{memory:.0f}",
            f"{found['largest_difference']:.1e}",
        )
    Console().print(table)
