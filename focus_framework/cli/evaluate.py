"""``focus evaluate``: a model on data sets, or anybody's mask files, against the truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError
from ..files.ownership import refuse_to_replace
from ..plugin.interfaces import METRICS
from .common import Progress, complete_plugins, json_option, note, prediction_options, print_json, tasks_named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..evaluation.comparison import Comparison
    from ..evaluation.report import Section
    from ..evaluation.samples import Missing
    from ..evaluation.tables import Table
    from ..inference.model import Model
    from ..plugin.interfaces import Task

folder = click.Path(exists=True, file_okay=False, path_type=Path)
new_file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--checkpoint", metavar="C", help="A .safetensors file, a released .pth, hf://owner/name, or a known name.")
@click.option("--against", metavar="C", help="Another checkpoint on the same data, and how far the worse of the two is behind.")
@click.option(
    "--predictions",
    multiple=True,
    metavar="[NAME=]DIR",
    help="Mask files in place of a checkpoint; may be given several times, for one table of all methods.",
)
@click.option("--masks", type=folder, metavar="DIR", help="The true masks of --predictions, of the same names.")
@click.option("--resize/--no-resize", default=True, help="Resize maps of another size to their masks (bilinear), or refuse them.")
@click.option(
    "--missing",
    type=click.Choice(["refuse", "skip", "zero"]),
    default="refuse",
    show_default=True,
    help="Masks without a map: an error, left out, or measured against a map of zeros.",
)
@click.option(
    "--task-plugin", metavar="T", shell_complete=complete_plugins("task"), help="The task; by default all that the checkpoint knows."
)
@click.option(
    "--data", multiple=True, metavar="D", help="A known data set or a folder with images/ and masks/; may be given several times."
)
@click.option("--data-root", type=folder, metavar="DIR", help="Where the known data sets lie.")
@click.option(
    "--protocol", default="standard", show_default=True, type=click.Choice(["standard", "release"]), help="The evaluation protocol."
)
@prediction_options
@click.option(
    "--batch-size", default=8, show_default=True, type=click.IntRange(min=1), help="Images together; fewer where memory is short."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--csv", "csv_file", type=new_file, metavar="FILE", help="Also write the table as CSV.")
@click.option("--latex", "latex_file", type=new_file, metavar="FILE", help="Also write the table for LaTeX.")
@click.option("--report", "report_file", type=new_file, metavar="FILE", help="Also write a page of HTML: tables, curves and every image.")
@json_option
def evaluate(
    checkpoint: str | None,
    against: str | None,
    predictions: tuple[str, ...],
    masks: Path | None,
    resize: bool,
    missing: Missing,
    task_plugin: str | None,
    data: tuple[str, ...],
    data_root: Path | None,
    protocol: str,
    prediction: dict[str, Any],
    batch_size: int,
    device: str,
    csv_file: Path | None,
    latex_file: Path | None,
    report_file: Path | None,
    as_json: bool,
) -> None:
    """Measure a checkpoint on data sets, or mask files against the true masks.

    With --checkpoint, the data are --data, or else practice images of the task that were not trained on. With --predictions, the
    truth is --masks or one --data; several --predictions NAME=DIR give one table, and how far each method is behind the best.

    Numbers of the protocol standard equal PySODMetrics and scikit-learn; release is what the authors of FOCUS print (binarised maps).

    Example: focus evaluate --predictions maps/ --masks masks/ --missing skip
    """
    _check_call(checkpoint, against, predictions, masks, data)
    methods = _methods(predictions)
    inputs = [Path(text) for text in (checkpoint, against, *methods.values(), masks, *data) if text]
    for kind, (file, begins) in {
        "a table": (csv_file, b"protocol,data,source,images"),
        "a LaTeX table": (latex_file, b"\\begin{tabular}{llr"),
        "a report": (report_file, b'content="focus-framework'),
    }.items():
        if file:
            refuse_to_replace(file, kind=kind, begins=begins, inputs=inputs)
    from ..evaluation import comparison as comparing
    from ..evaluation.tables import as_csv, as_latex, tables
    from ..plugin.registry import registry

    tasks = [entry.get() for entry in registry().find_tasks(task_plugin)] if task_plugin else []
    if predictions and len(tasks) > 1:
        raise ConfigError("mask files are measured for one task at a time; give one --task-plugin")
    task = tasks[0] if len(tasks) == 1 else None
    seen: dict[str, Any] = {}
    comparisons: list[Comparison] = []
    groups: list[tuple[Task | None, list[Section]]] = []
    if methods:
        keep_scores = report_file is not None or len(methods) > 1
        truth = _Truth(masks or data[0], data_root, missing, resize)
        sections = [_measure_files(*method, truth, task, protocol, keep_scores) for method in methods.items()]
        comparisons = _compare(sections, task)
    else:
        assert checkpoint is not None  # _check_call has seen to it
        models = {name: _load(name, device, prediction) for name in (checkpoint, against) if name}
        model = models[checkpoint]
        seen = {"prediction": model.config.prediction.model_dump()}
        measured = _measured_tasks(model, task_plugin, task)
        for one, name in measured:
            of_task = {key: each.for_task(name) if len(each.tasks) > 1 else each for key, each in models.items()}
            setting = _Setting(data_root, one, protocol, batch_size, report_file is not None or against is not None)
            its = [_measure_model(of_task, key, reference, setting) for reference in data or ("practice",) for key in of_task]
            groups.append((one, its if len(measured) == 1 else [_of_task(section, name) for section in its]))
            comparisons += _compare(groups[-1][1], one)
        sections = [section for _, its in groups for section in its]
        task = groups[0][0] if len(groups) == 1 else None
    groups = groups or [(task, sections)]
    made = [table for one, its in groups for table in tables([section.evaluation for section in its], one.metrics if one else METRICS)]
    if csv_file:
        _write(csv_file, as_csv(made, {one.data: one.columns() for one in comparisons}))
    if latex_file:
        _write(latex_file, as_latex(made) + "".join(f"\n{comparing.as_latex(one)}" for one in comparisons))
    if report_file:
        from ..evaluation.report import render

        _write(report_file, render(sections, made, task.primary_metric if task else "s_measure", comparisons))
    if as_json:
        from ..evaluation.metrics import PROTOCOLS

        if comparisons:
            seen |= {"comparison": comparisons[0].as_json(), "comparisons": [one.as_json() for one in comparisons]}
        print_json({"results": [section.evaluation.as_json() for section in sections], "protocol": asdict(PROTOCOLS[protocol]), **seen})
    else:
        _print(made, sections, comparisons)


def _methods(predictions: Sequence[str]) -> dict[str, Path]:
    """Folders of maps by the name of their method; one alone without a name is this run's."""
    from ..evaluation.tables import OWN

    found: dict[str, Path] = {}
    for given in predictions:
        name, equals, place = given.partition("=")
        path = Path(given if Path(given).is_dir() or not equals else place)
        named = path != Path(given)
        if not path.is_dir():
            raise ConfigError(f"--predictions {given}: there is no folder {path}; give DIR, or NAME=DIR for several methods")
        label = name if named else OWN if len(predictions) == 1 else path.name
        if not label or label in found:
            raise ConfigError(f"--predictions {given}: two methods are called {label!r}; name them with NAME=DIR")
        found[label] = path
    return found


def _compare(sections: Sequence[Section], task: Task | None) -> list[Comparison]:
    """One for each data set that several methods are measured on."""
    from ..evaluation.comparison import compare

    by_data: dict[str, list[Any]] = {}
    for section in sections:
        by_data.setdefault(section.evaluation.data, []).append(section.evaluation)
    metrics = task.metrics if task else METRICS
    return [compare(evaluations, metrics) for evaluations in by_data.values() if len(evaluations) > 1]


@dataclass(frozen=True)
class _Setting:
    """How checkpoints are measured."""

    data_root: Path | None
    task: Task | None
    protocol: str
    batch_size: int
    keep_scores: bool


@dataclass(frozen=True)
class _Truth:
    """What prediction files are measured against, and how."""

    reference: Path | str
    root: Path | None
    missing: Missing
    resize: bool


def _check_call(checkpoint: str | None, against: str | None, predictions: Sequence[str], masks: Path | None, data: Sequence[str]) -> None:
    if (checkpoint is None) == (not predictions):
        raise ConfigError("give either --checkpoint, to measure a model, or --predictions, to measure mask files")
    if against and not checkpoint:
        raise ConfigError(f"--against {against} goes with --checkpoint; several folders of mask files are given by several --predictions")
    if against and against == checkpoint:
        raise ConfigError(f"--against {against} is the checkpoint itself; give another one")
    if masks and not predictions:
        raise ConfigError("--masks goes with --predictions; the data of a checkpoint are given with --data")
    if predictions and (masks is None) == (len(data) != 1):
        raise ConfigError("give the truth of --predictions: either --masks DIR or one --data")


def _task_named(name: str) -> Task | None:
    """The checkpoint's task, or none where its plugin is not installed: then all metrics are shown."""
    from ..errors import PluginError
    from ..plugin.registry import registry

    try:
        return registry().get("task", name)
    except PluginError as error:
        note(f"{error}\nWithout it no published data sets are known, and all metrics are shown.")
        return None


def _load(checkpoint: str, device: str, prediction: Mapping[str, Any]) -> Model:
    from ..inference.model import load

    model = load(checkpoint, device=device, **prediction)
    temperature = model.config.prediction.temperature
    note(f"measuring on {model.device}" + (f"; soft maps have the temperature {temperature:g}" if temperature != 1 else ""))
    return model


def _measure_files(method: str, folder: Path, truth: _Truth, task: Task | None, protocol: str, keep_scores: bool) -> Section:
    from dataclasses import replace

    from ..data.pairs import find_pairs
    from ..evaluation.report import section_of_files
    from ..evaluation.samples import match_predictions, published_figures
    from ..evaluation.scoring import evaluate_files
    from ..evaluation.tables import OWN

    reference = truth.reference
    pairs = find_pairs(reference, task=task, root=truth.root) if isinstance(reference, str) else reference
    matched = match_predictions(folder, pairs, missing=truth.missing, resize=truth.resize)
    if matched.suffix:
        note(f"{folder}: {matched.suffix!r} behind the names of the maps is disregarded")
    with Progress(len(matched.predicted), "measured" if method == OWN else f"{method}: measured") as progress:
        evaluation = evaluate_files(
            matched.predicted,
            data=str(reference),
            protocol=protocol,
            published=published_figures(reference, task) if isinstance(reference, str) else None,
            keep_scores=keep_scores,
            on_done=progress.advance,
        )
    lonely, left_out = len(matched.missing), len(matched.surplus)
    stamped = replace(evaluation, source=method, missing=lonely, missing_as=truth.missing if lonely else "", surplus=left_out)
    return section_of_files(stamped, matched.predicted)


def _measured_tasks(model: Model, task_plugin: str | None, task: Task | None) -> list[tuple[Task | None, str]]:
    """The tasks to measure a model on, and what the model calls them: those that are named, else all that the model knows."""
    if len(model.tasks) == 1 and (task or not task_plugin):
        return [(task or _task_named(model.task), model.task)]
    names = tasks_named(model, task_plugin) if task_plugin else model.tasks
    for name in names:
        model.for_task(name)  # one that it does not know is told before anything is measured
    return [(_task_named(name), name) for name in names]


def _of_task(section: Section, task: str) -> Section:
    """With the task before the name of the data."""
    from dataclasses import replace

    return replace(section, evaluation=replace(section.evaluation, data=f"{task}: {section.evaluation.data}"))


def _measure_model(models: Mapping[str, Model], name: str, reference: str, setting: _Setting) -> Section:
    """One of the models; both see practice images of one size, those of the first."""
    from dataclasses import replace

    from ..evaluation.measure import measure_model

    alone = len(models) == 1
    with Progress(1, f"{reference}: measured" if alone else f"{name}, {reference}: measured") as progress:
        section = measure_model(
            models[name],
            reference,
            task=setting.task,
            data_root=setting.data_root,
            protocol=setting.protocol,
            batch_size=setting.batch_size,
            size=next(iter(models.values())).config.preprocessing.size,
            keep_scores=setting.keep_scores,
            on_done=lambda done, total: progress.show(done / total, f"{done}/{total}"),
        )
    return section if alone else replace(section, evaluation=replace(section.evaluation, source=name))


def _print(made: Sequence[Table], sections: Sequence[Section], comparisons: Sequence[Comparison]) -> None:
    import sys

    from rich.console import Console

    from ..evaluation import comparison as comparing
    from ..evaluation.tables import LABELS, rich_table, title

    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in made:
        console.print(title(table), highlight=False)
        console.print(rich_table(table))
    for comparison in comparisons:
        console.print(comparison.title, highlight=False)
        console.print(comparing.rich_table(comparison))
    for section in sections:
        evaluation = section.evaluation
        for metric, count in evaluation.undefined.items():
            if metric in made[0].metrics:
                note(
                    f"{evaluation.label}: {LABELS[metric]} is undefined for {count} of {evaluation.count} images, which its mean leaves out"
                )


def _write(path: Path, text: str) -> None:
    from ..files.atomic import replacing

    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="surrogateescape")
    note(f"wrote {path}")
