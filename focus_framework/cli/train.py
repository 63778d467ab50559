"""``focus train``: options to settings, and the progress and end of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ..errors import ConfigError
from .common import Progress, complete_plugins, json_option, note, overwrite_option, print_json

if TYPE_CHECKING:
    from ..config.layers import Resolved
    from ..plugin.interfaces import Task
    from ..plugin.registry import Entry
    from ..training.loop import Progress as Step
    from ..training.record.summary import Summary

PRINTED = ("loss", "learning_rate", "images_per_second", "memory_mib", "skipped")
Command = TypeVar("Command", bound=Callable[..., Any])


def _complete_presets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from ..config.layers import presets

    return [CompletionItem(name) for name in presets() if name.startswith(incomplete)]


SETTINGS = {
    "data.train": click.Option(
        ["--data"],
        metavar="D",
        help="A folder with images/ and masks/, images=DIR,masks=DIR, a known data set; of several tasks TASK=D,TASK=D; default: practice "
        "images.",
    ),
    "data.root": click.Option(["--data-root"], metavar="DIR", help="Where the known data sets lie."),
    "data.validation_share": click.Option(
        ["--val-share"], type=float, metavar="0..1", help="Share of the pairs held back for validation where the data has no split for it."
    ),
    "backbone.name": click.Option(
        ["--backbone"],
        metavar="NAME",
        shell_complete=complete_plugins("backbone", "auto"),
        help="A backbone, a network of timm, or auto: one with installed weights.",
    ),
    "backbone.weights": click.Option(["--backbone-weights"], metavar="pretrained|FILE|none", help="What the backbone starts from."),
    "enhancer.name": click.Option(
        ["--enhancer"], metavar="NAME|none", shell_complete=complete_plugins("enhancer", "none"), help="The edge enhancer."
    ),
    "refiner.name": click.Option(
        ["--refiner"], metavar="NAME|none", shell_complete=complete_plugins("refiner", "none"), help="The CLIP refiner."
    ),
    "conditioner.name": click.Option(
        ["--conditioner"],
        metavar="NAME",
        shell_complete=complete_plugins("conditioner"),
        help="What tells a network of several tasks which one is meant: prompt (the default) or example.",
    ),
    "prompts.foreground": click.Option(["--foreground-prompt"], metavar="TEXT", help="Sentence for what lies inside the mask."),
    "prompts.background": click.Option(["--background-prompt"], metavar="TEXT", help="Sentence for what lies outside the mask."),
    "preprocessing.size": click.Option(["--image-size"], type=int, help="Side of the network's input, a multiple of 32."),
    "training.batch_size": click.Option(["--batch-size"], type=int, help="Images a step."),
    "training.steps": click.Option(["--steps"], type=int, help="Length of the run."),
    "training.minutes": click.Option(["--minutes"], type=float, help="Length of the run as a time; the schedule follows it."),
    "training.learning_rate": click.Option(["--learning-rate"], type=float, help="The highest learning rate of the schedule."),
    "training.seed": click.Option(["--seed"], type=int, help="Random seed: the same seed gives the same run."),
    "training.precision": click.Option(["--precision"], metavar="auto|fp32|bf16|fp16", help="Numeric precision; auto tries both."),
    "training.device": click.Option(["--device"], help="auto, cpu, cuda, cuda:1 or mps."),
    "training.checkpoint_every": click.Option(["--checkpoint-every"], type=int, metavar="STEPS", help="Steps between checkpoints."),
    "training.auto_batch": click.Option(
        ["--auto-batch"], is_flag=True, default=None, help="Split each batch into as few micro-batches as fit into memory."
    ),
    "training.compile": click.Option(["--compile"], is_flag=True, default=None, help="Let torch.compile make the network faster."),
    "refiner.options.model": click.Option(["--clip-model"], metavar="NAME", help="The refiner's CLIP, a model of open_clip."),
    "refiner.options.weights": click.Option(["--clip-weights"], metavar="FILE|TAG|random", help="The weights of that CLIP."),
}
"""Settings that have an option of their own. Whether a value fits is for the configuration to say."""


TASK = click.Option(
    ["--task-plugin"],
    metavar="T,...",
    shell_complete=complete_plugins("task"),
    help="A task's name, module:attribute or file.py; several with commas between them, or all, for one network.",
)


@click.command(params=[TASK, *SETTINGS.values()])
@click.option("--init", metavar="C", help="Start from a checkpoint: a file, hf://owner/name or a known name. It decides the network.")
@click.option(
    "--preset",
    shell_complete=_complete_presets,
    help="quick (the default), finetune (with --init the default), paper-large, ...",
)
@click.option("--config", "file", type=click.Path(path_type=Path), help="Settings as TOML, as a run folder's config.toml has them.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any setting, e.g. training.weight_decay=0.1; repeatable.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the run; default: runs/TASK, numbered.")
@click.option("--resume", metavar="RUN", type=click.Path(path_type=Path), help="Resume the run in this folder.")
@click.option("--dry-run", is_flag=True, help="Build everything, do two steps, estimate time and memory, and write nothing.")
@click.option("--show-config", is_flag=True, help="Print all settings and where each came from, and stop.")
@overwrite_option
@json_option
def train(
    task_plugin: str | None,
    init: str | None,
    preset: str | None,
    file: Path | None,
    assignments: tuple[str, ...],
    out: Path | None,
    resume: Path | None,
    dry_run: bool,
    show_config: bool,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train on a task's images, or on its practice images.

    A setting is decided by the command line, else --set, else --config, else the task plugin, else the checkpoint of --init (as far as
    the network is concerned), else the preset.

    Example: focus train --task-plugin shadow --data my-folder --minutes 10 --out runs/mine
    """
    from ..training.plan import plan

    if resume and (file or out):
        raise ConfigError("--resume takes its settings from the run's own folder and writes there; leave out --config and --out")
    given = {setting: options[str(option.name)] for setting, option in SETTINGS.items()} | {"init": init}
    resolved, entries = plan(task_plugin, preset=preset, file=file, assignments=assignments, options=given, resume=resume)
    if show_config:
        _show_config(resolved, as_json)
        return
    if dry_run:
        _rehearse(resolved, entries, as_json)
        return
    from ..runtime import keep_memory
    from ..training.processes.stopping import StoppedError
    from ..training.run import train as run

    keep_memory()  # a step takes and frees the same buffers again and again

    try:
        with Progress(1, "trained") as progress:
            summary = run(resolved, entries, resume or out, resume=bool(resume), overwrite=overwrite, on_progress=_step_shower(progress))
    except StoppedError as stop:  # in order and as asked, so no error
        if stop.leads:
            note(str(stop))
        click.get_current_context().exit(stop.exit_code)
    if summary is None:
        return  # the main process reports the result
    if as_json:
        print_json(summary.as_json())
    else:
        _show_summary(summary, [entry.get() for entry in entries], resolved.config.known_tasks)


def _rehearse(resolved: Resolved, entries: Sequence[Entry], as_json: bool) -> None:
    """What the run would take."""
    from ..training.rehearsal import rehearse

    found = rehearse(resolved, entries)
    if found is None:
        return  # the main process reports
    if as_json:
        print_json(found.as_json())
        return
    for line in found.notes:
        click.echo(f"backbone: {line}")
    click.echo(f"{found.images} images, {found.parameters / 1e6:.1f} M trained parameters on {found.device}")
    click.echo(f"{found.seconds_a_step:.2f} s a step; {found.steps} steps in about {timedelta(seconds=round(found.seconds))}")
    click.echo(f"precision {found.precision}")
    click.echo(f"memory: {found.memory_mib} MiB; nothing was written")


def _show_config(resolved: Resolved, as_json: bool) -> None:
    """Every setting with its value and the layer it came from."""
    from ..config.layers import flatten

    settings = flatten(resolved.config.model_dump())
    sources = {key: resolved.sources.get(key, "default") for key in settings}
    if as_json:
        print_json({"config": resolved.config.model_dump(), "sources": sources})
        return
    lines = [f"{key} = {_toml(value)}" for key, value in settings.items()]
    width = min(60, max(len(line) for line in lines))
    for line, source in zip(lines, sources.values(), strict=True):
        click.echo(f"{line:{width}}  # {source}")


def _toml(value: Any) -> str:
    return "(not set)" if value is None else json.dumps(value, ensure_ascii=False)


def _step_shower(progress: Progress) -> Callable[[Step], None]:
    """Shows a step with the latest numbers known."""
    latest: dict[str, Any] = {}

    def show(step: Step) -> None:
        latest.update(step.record or {})
        told = [name for name in latest if name in PRINTED or name.startswith("validation_")]
        numbers = [f"{name} {latest[name]:.4g}" for name in told if latest[name] is not None]
        left = timedelta(seconds=round(step.seconds_left))
        progress.show(step.share, "  ".join([f"step {step.step}", *numbers, f"left {left}"]))

    return show


def _show_summary(summary: Summary, tasks: Sequence[Task], known: Sequence[str]) -> None:
    """The scores of the run's tasks, of those `known` to its network, then what lies where."""
    from ..checkpoint.tasks import label, scores_of
    from ..evaluation.baselines import best_baseline
    from ..evaluation.tables import number

    columns = {title: scores for title, scores in (("validation", summary.validation), ("test", summary.test)) if scores}
    rows = [("metric", *columns, *(["non-learned"] if summary.baselines else []))]
    for task in tasks:
        own = [scores_of(task.name, scores, known) for scores in columns.values()]
        baselines = scores_of(task.name, summary.baselines, known)
        for metric in task.metrics:
            cells = [number(metric, scores) if metric in scores else "" for scores in own]
            if baselines and metric == task.primary_metric:  # on the test images; the report has all
                best = best_baseline(baselines, metric)
                cells.append(f"{number(metric, {metric: baselines[best]})} ({best})")
            rows.append((label(task.name, metric, known), *cells))
    width = max(20, *(len(name) for name, *_ in rows))
    for name, *row in rows:
        click.echo(f"{name:{width}} {' '.join(f'{cell:>11}' for cell in row)}".rstrip())
    click.echo(f"{summary.steps} steps in {summary.seconds:.0f} s{summary.delay}")
    places = {
        "best checkpoint": summary.best,
        "latest": summary.checkpoint,
        "look at": summary.samples,
        "worst images": summary.worst,
        "report": summary.report,
    }
    for what, path in places.items():
        if path:
            click.echo(f"{what}: {path}")
