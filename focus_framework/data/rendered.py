"""Rendered practice images on the disk: one process for each core, resumed where an earlier call stopped."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError
from ..files.atomic import replacing
from ..files.images import write_image
from ..plugin.interfaces import Task
from ..plugin.kit.practice import Split, practice_pair
from ..plugin.kit.render.ablation import Leavable, leaving_out
from ..runtime import allowed_processors

RECORD = "rendered.json"
"""The file beside the images that says what decided them, so that a folder is never filled by two recipes."""


def write_rendered(
    reference: str,
    task: Task,
    out: Path,
    *,
    count: int,
    size: int,
    seed: int = 0,
    split: Split = "train",
    workers: int | None = None,
    without: Collection[Leavable] = (),
    on_pair: Callable[[], None] = lambda: None,
) -> int:
    """Render the first `count` practice images of a task as ``images/00000.png``, ``masks/00000.png`` and so on, and return how
    many were not there before. Seed, split, size and number alone decide each image, whatever the number of `workers`,
    and what of the renderer is left out (`without`).

    `reference` is how the task is found again in another process: its name, or its file. Raises `ConfigError` where the folder was
    filled with other settings, `PluginError` where the task renders nothing, `DataError` where Mitsuba is not installed.
    """
    from ..plugin.kit.render.engine import mitsuba

    if task.render is not None:
        mitsuba()  # says what is missing before a process is started
    recipe = {"task": task.name, "size": size, "seed": seed, "split": split}
    _same_recipe(out, recipe | ({"without": ", ".join(sorted(set(without)))} if without else {}))
    missing = [index for index in range(count) if not all(path.is_file() for path in _files(out, index))]
    for _ in range(count - len(missing)):
        on_pair()
    for _ in _rendered(reference, task, out, missing, workers or allowed_processors(), seed=seed, split=split, size=size, without=without):
        on_pair()
    return len(missing)


def _rendered(reference: str, task: Task, out: Path, missing: list[int], workers: int, **settings: Any) -> Iterator[int]:
    if workers == 1 or len(missing) < 2:
        for index in missing:
            yield _render_one(task, out, index, **settings)
        return
    # spawned, not forked: the caller may have threads, of torch or of a progress bar
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(missing)), mp_context=context, initializer=_start, initargs=(reference,)) as pool:
        jobs = [pool.submit(_render_in_process, out, index, settings) for index in missing]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BrokenProcessPool as error:
            raise DataError("a process that rendered was ended from outside; run the same command again to resume") from error
        finally:
            for job in jobs:
                job.cancel()


_task: Task | None = None
"""The task of a rendering process."""


def _start(reference: str) -> None:
    from ..plugin.registry import registry

    global _task
    _task = registry().find_task(reference).get()


def _render_in_process(out: Path, index: int, settings: dict[str, Any]) -> int:
    assert _task is not None  # `_start` ran before
    return _render_one(_task, out, index, **settings)


def _render_one(task: Task, out: Path, index: int, *, seed: int, split: Split, size: int, without: Collection[Leavable] = ()) -> int:
    with leaving_out(without):
        image, mask = practice_pair(task, seed=seed, split=split, index=index, size=size, engine="render")
    image_file, mask_file = _files(out, index)
    write_image(mask_file, mask.astype("uint8") * 255)
    write_image(image_file, image)  # last: a reader who sees the image finds its mask
    return index


def _files(out: Path, index: int) -> tuple[Path, Path]:
    name = f"{index:05d}.png"
    return out / "images" / name, out / "masks" / name


def _same_recipe(out: Path, recipe: dict[str, Any]) -> None:
    """Note what decides the images of a folder. Raises `ConfigError` where it was filled with something else."""
    record = out / RECORD
    if record.is_file():
        try:
            before = json.loads(record.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {record}: {error}; remove the folder, or choose another --out") from error
        if before != recipe:
            was = ", ".join(f"{name} {before.get(name, 'nothing')}" for name in recipe | before if before.get(name) != recipe.get(name))
            raise ConfigError(f"{out} holds rendered images of {was}; choose another --out, or the same settings to resume")
        return
    if any(_files(out, 0)[0].parent.glob("*")):
        raise ConfigError(f"{out} holds practice images that were not rendered; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    with replacing(record) as beside:
        beside.write_text(json.dumps(recipe) + "\n", encoding="utf-8")
