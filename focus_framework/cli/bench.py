"""``focus bench``: milliseconds of each stage of inference and of a training step."""

from __future__ import annotations

import click

from .common import json_option, note, print_json


@click.command()
@click.option("--preset", default="quick", show_default=True, help="The preset to time: quick, paper-large or paper-giant.")
@click.option("--image-size", type=click.IntRange(min=32, max=1 << 15), help="Pixels of a side; default: the preset's. Rounded up to 32.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Images at a time.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Times each is run; medians are shown.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any other setting by its dotted name.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@json_option
def bench(
    preset: str, image_size: int | None, batch_size: int, repeats: int, assignments: tuple[str, ...], device: str, as_json: bool
) -> None:
    """Measure the speed of each stage of inference and training, with and without the compiled deformable attention.

    Example: focus bench --preset quick --repeats 3
    """
    from ..config.layers import resolve
    from ..deploy.bench import bench as measure
    from ..deploy.bench import rows
    from ..inference.device import choose_device
    from ..runtime import BUSY

    config = resolve("salient", preset=preset, assignments=assignments).config
    side = image_size or config.preprocessing.size
    result = measure(config, image_size=side, batch_size=batch_size, device=choose_device(device), repeats=repeats)
    for name, why in result["skipped"].items():
        note(f"{name} left out: {why}")
    if result["processor_share"] is not None and result["processor_share"] < BUSY:
        note(f"the machine is busy: {result['processor_share']:.0%} of the wanted processor time was had; these times hold for that alone")
    if as_json:
        print_json(result)
        return
    from rich.console import Console
    from rich.table import Table

    size = f"{batch_size} x {result['image_size']}^2"
    table = Table(title=f"{preset}, {size}, {result['device']}, {result['threads']} threads: milliseconds", title_justify="left")
    for column in ("", "stage", *result["results"]):
        table.add_column(column, justify="right" if column in result["results"] else "left")
    for kind, stage, times in rows(result):
        table.add_row(kind, stage, *(f"{time:.1f}" for time in times), end_section=stage == "total")
    Console().print(table)
