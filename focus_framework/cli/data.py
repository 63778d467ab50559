"""``focus data``: what is there to train and test on, whether it can be used, and what it looks like."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .common import Progress, complete_plugins, json_option, note, overwrite_option, print_json

if TYPE_CHECKING:
    from ..plugin.interfaces import Task

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def data() -> None:
    """List known data sets; check, look at and make pairs of image and mask."""


def _root_option(command: Command) -> Command:
    option = click.option("--data-root", metavar="DIR", help="Folder of the published data sets [FOCUS_DATA_ROOT, or datasets].")
    return option(command)


def _task_option(command: Command) -> Command:
    option = click.option(
        "--task-plugin", metavar="NAME", shell_complete=complete_plugins("task"), help="The task whose data sets are meant."
    )
    return option(command)


def _task(name: str | None) -> Task | None:
    from ..plugin.registry import registry

    return registry().find_task(name).get() if name else None


@data.command("list")
@_task_option
@_root_option
@json_option
def list_(task_plugin: str | None, data_root: str | None, as_json: bool) -> None:
    """Show the known data sets and where they lie.

    For each: the pairs that are there, those of a complete copy, and the folder, or the first place where it was looked for.

    Example: focus data list --task-plugin salient --data-root benchmarks
    """
    from rich.console import Console
    from rich.table import Table

    from ..data import published

    rows = published.list_datasets(_task(task_plugin), data_root)
    if as_json:
        print_json({"datasets": [row.as_json() for row in rows]})
        return
    below = published.data_root(data_root)
    place = below
    with suppress(OSError):  # the working folder is gone
        place = below.absolute()
    note(f"below {place}:")
    table = Table("data set", "task", "split", box=None)
    table.add_column("pairs", justify="right")
    table.add_column("complete", justify="right")
    table.add_column("folder", overflow="fold")  # a path that is cut short helps nobody
    for row in rows:
        pairs = str(row.pairs) if row.found.images else "not found"
        where = str((row.found.images or row.found.looked[0]).relative_to(below))
        table.add_row(row.found.dataset.name, row.task, row.found.dataset.split, pairs, str(row.found.dataset.count or ""), where)
    Console().print(table)


@data.command()
@click.argument("root", metavar="ROOT", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_task_option
@json_option
def find(root: Path, task_plugin: str | None, as_json: bool) -> None:
    """Find known data sets below ROOT by what is in them.

    The names of files, their number and a few sizes decide; what the folders are called does not matter. Images and masks may lie apart or
    together. The exit code is 1 where nothing was recognised.

    Example: focus data find benchmarks
    """
    from rich.console import Console
    from rich.table import Table

    from ..data.published import find_datasets

    found = find_datasets(root, _task(task_plugin))
    if as_json:
        print_json({"root": root, "found": [one.as_json() for one in found]})
    elif found:
        table = Table("data set", "task", box=None)
        table.add_column("pairs", justify="right")
        table.add_column("complete", justify="right")
        for title in ("images", "masks"):
            table.add_column(title, overflow="fold")
        for one in found:
            copy = one.copy
            places = ["-" if place is None else str(place.relative_to(root)) for place in (copy.images, copy.masks)]
            table.add_row(copy.dataset.name, one.task, str(len(copy.scan.pairs)), str(copy.dataset.count or ""), *places)
        Console().print(table)
        for one in found:
            for remark in one.remarks:
                click.echo(f"{one.copy.dataset.name}: {remark}")
        note(f"use one with: --data {found[0].copy.dataset.name} --data-root {root}")
    if not found:
        note(f"no known data set was recognised in {root}; focus data list shows those that are known")
        click.get_current_context().exit(1)


@data.command()
@click.argument("reference", metavar="D")
@click.option(
    "--good-pairs", type=click.Path(path_type=Path, dir_okay=False), metavar="CSV", help="Write a list of the pairs without problems."
)
@click.option("--all", "show_all", is_flag=True, help="List every problem; otherwise each kind once, with three examples.")
@_task_option
@_root_option
@json_option
def check(reference: str, good_pairs: Path | None, show_all: bool, task_plugin: str | None, data_root: str | None, as_json: bool) -> None:
    """Read every pair of D and say what is wrong: each kind of problem once, with its count and three examples.

    The exit code is 1 where there is a problem.

    D is what --data of focus train takes: the name of a data set, a folder, images=DIR,masks=DIR, a list of pairs.

    Example: focus data check my-folder
    """
    from ..data import check as checking
    from ..data.pairs import scan
    from ..files.ownership import refuse_to_replace

    task = _task(task_plugin)
    if good_pairs:
        begins = ",".join(checking.LIST).encode()
        refuse_to_replace(good_pairs, kind="a list of pairs", suffixes=[".csv"], begins=begins, inputs=[Path(reference)])
    found = scan(reference, task=task, root=data_root)
    with Progress(len(found.pairs), "checked") as progress:
        report = checking.check(reference, task=task, found=found, on_pair=progress.advance)
    if good_pairs:
        checking.write_pairs(good_pairs, report.good)
        note(f"wrote {len(report.good)} pairs to {good_pairs}")
    if as_json:
        problems = [{"kind": problem.kind, "file": problem.file, "detail": problem.detail} for problem in report.problems]
        print_json({"pairs": report.pairs, "problems": problems})
    else:
        for line in checking.lines(report.problems, every=show_all):
            click.echo(line)
        what = "problem" if len(report.problems) == 1 else "problems"
        click.echo(f"{report.pairs} pairs, {len(report.problems)} {what}")
    if report.problems:
        click.get_current_context().exit(1)


@data.command()
@click.argument("reference", metavar="D")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default="preview.png", show_default=True, help="The image to write."
)
@click.option("--count", type=click.IntRange(min=1), default=24, show_default=True, help="Pairs to show, evenly spread over all.")
@click.option("--size", type=click.IntRange(min=16, max=1 << 12), default=160, show_default=True, help="Pixels of an image on the sheet.")
@_task_option
@_root_option
@json_option
def preview(reference: str, out: Path, count: int, size: int, task_plugin: str | None, data_root: str | None, as_json: bool) -> None:
    """Draw a contact sheet of D, images and masks.

    D is what --data of focus train takes, practice for the practice images of a task too.

    Example: focus data preview practice --task-plugin shadow --out sheet.png
    """
    from ..data.preview import write_preview

    task = _task(task_plugin)
    shown, total = write_preview(out, reference, count=count, cell=size, task=task, root=data_root)
    note(f"wrote {shown} of {total} pairs to {out}")
    if as_json:
        print_json({"sheet": out, "shown": shown, "pairs": total})


@data.command()
@click.argument("task", shell_complete=complete_plugins("task"))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write images/ and masks/ in.")
@click.option("--count", type=click.IntRange(min=1), default=100, show_default=True, help="Pairs to make.")
@click.option("--size", type=click.IntRange(min=16, max=1 << 15), default=256, show_default=True, help="Pixels of a side.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--split", type=click.Choice(["train", "validation", "test"]), default="train", show_default=True, help="Images differ between these."
)
@click.option(
    "--engine",
    type=click.Choice(["draw", "render"]),
    default="draw",
    show_default=True,
    help="Draw them, or have a path tracer light scenes: slower, near to photographs.",
)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes that render [as many as there are processors].")
@click.option(
    "--without",
    type=click.Choice(["surfaces", "panoramas", "camera"]),
    multiple=True,
    help="Render without photographed surfaces, panoramas or the camera, to measure what they are worth; repeatable.",
)
@click.option("--from", "photographs", metavar="D", help="Compose them of these photographs and the masks of things in them.")
@overwrite_option
@json_option
def generate(
    task: str,
    out: Path,
    count: int,
    size: int,
    seed: int,
    split: Any,
    engine: str,
    workers: int | None,
    without: tuple[Any, ...],
    photographs: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write practice images of TASK: OUT/images and OUT/masks.

    They are procedurally generated; with --from images=DIR,masks=DIR they are composed of photographs: objects out of focus around, spliced
    in, recoloured into their background, or throwing a shadow, as the task wants it.

    With --engine render a path tracer lights scenes of bodies, photographed surfaces and panoramas (pip install
    'focus-framework[render]'). The same call resumes where it stopped, and OUT/sheet.png shows some of them.

    Example: focus data generate salient --engine render --count 500 --out practice
    """
    from ..data.generate import write_composed, write_practice
    from ..data.pairs import find_pairs
    from ..data.preview import write_preview
    from ..data.rendered import write_rendered
    from ..errors import ConfigError
    from ..files.ownership import claimed
    from ..plugin.registry import registry

    if engine == "render" and photographs:
        raise ConfigError("--from composes photographs and --engine render makes scenes; give one of them")
    if without and engine != "render":
        raise ConfigError("--without leaves out a part of the renderer; give --engine render too, or leave it out")
    found = registry().find_task(task).get()
    pairs = find_pairs(photographs, task=found) if photographs else []
    sources = {parent for pair in pairs for file in (pair.image, pair.mask) for parent in (file.parent, file.parent.parent)}
    with claimed(out, "practice images", inputs=sources, overwrite=overwrite), Progress(count, "made") as progress:
        if photographs:
            write_composed(found, pairs, out, count=count, size=size, seed=seed, on_pair=progress.advance)
        elif engine == "render":
            settings = {"count": count, "size": size, "seed": seed, "split": split, "workers": workers, "without": without}
            made = write_rendered(task, found, out, **settings, on_pair=progress.advance)
            write_preview(out / "sheet.png", f"images={out / 'images'},masks={out / 'masks'}", task=found)
            note(f"rendered {made}, {count - made} were there before; look at {out / 'sheet.png'}")
        else:
            write_practice(found, out, count=count, size=size, seed=seed, split=split, on_pair=progress.advance)
    note(f"wrote {count} pairs to {out}")
    if as_json:
        print_json({"pairs": count, "images": out / "images", "masks": out / "masks"})
