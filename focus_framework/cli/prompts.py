"""``focus prompts``: the sentences that describe a task, and how well they tell its foreground from its background."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .common import Progress, complete_plugins, json_option, note, print_json

if TYPE_CHECKING:
    from ..config.schema import RunConfig
    from ..data.pairs import Pair
    from ..plugin.interfaces import Prompts, Task

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def prompts() -> None:
    """Show the prompts of a task, and try prompts on examples."""


def prompt_options(command: Command) -> Command:
    """The options that decide which prompts are used, as `focus train` has them."""
    for option in (
        click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting, e.g. prompts.choice=release."),
        click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration of a run (TOML)."),
        click.option("--background-prompt", metavar="TEXT", help="Sentence for what lies outside the mask."),
        click.option("--foreground-prompt", metavar="TEXT", help="Sentence for what lies inside the mask."),
        click.argument("task", shell_complete=complete_plugins("task")),
    ):
        command = option(command)
    return command


def _chosen(task: str, settings: dict[str, Any], options: dict[str, Any]) -> tuple[Task, RunConfig, tuple[Prompts, ...]]:
    """The task, the configuration that the options give, and the prompts that a run with it would use."""
    from ..config.layers import resolve
    from ..config.prompts import choose
    from ..plugin.registry import registry

    entry = registry().find_task(task)
    found: Task = entry.get()
    options |= {f"prompts.{side}": settings[f"{side}_prompt"] for side in ("foreground", "background")}
    resolved = resolve(found.name, defaults=found.defaults, file=settings["file"], assignments=settings["assignments"], options=options)
    return found, resolved.config, choose(found, resolved.config.prompts, resolved.sources, entry.distribution)


def _counted(files: Iterable[Pair], progress: Progress) -> Iterator[Pair]:
    for file in files:
        yield file
        progress.advance()


@prompts.command()
@prompt_options
@json_option
def show(task: str, as_json: bool, **settings: Any) -> None:
    """Show the prompts that a run of TASK would use, and where each comes from.

    Example: focus prompts show shadow
    """
    found, config, pairs = _chosen(task, settings, {})
    if as_json:
        rows = [{"foreground": pair.foreground, "background": pair.background, "source": pair.source} for pair in pairs]
        templates = config.prompts.templates
        print_json({"task": found.name, "pairs": rows, "templates": templates, "choices": list(found.other_prompts)})
        return
    click.echo(f"{found.name}: {found.title}")
    for pair in pairs:
        click.echo(f"  foreground  {pair.foreground}\n  background  {pair.background}\n        from  {pair.source}")
    if config.prompts.templates != ["{}"]:
        click.echo(f"   templates  {', '.join(config.prompts.templates)}")
    if found.other_prompts:
        click.echo(f"also known: {', '.join(found.other_prompts)} (--set prompts.choice=NAME)")


@prompts.command("try")
@prompt_options
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of images.")
@click.option("--masks", required=True, type=click.Path(path_type=Path), help="Folder of their masks, white is foreground.")
@click.option("--pairs", "pairs_file", type=click.Path(path_type=Path), help="More prompt pairs: a CSV, JSON or TOML file.")
@click.option("--refiner", metavar="NAME", shell_complete=complete_plugins("refiner"), help="What compares; clip if not given.")
@click.option("--clip-model", metavar="NAME", help="A model of open_clip, e.g. ViT-B-16.")
@click.option("--clip-weights", metavar="FILE|TAG|random", help="Its weights.")
@json_option
def try_(
    task: str,
    images: Path,
    masks: Path,
    pairs_file: Path | None,
    refiner: str | None,
    clip_model: str | None,
    clip_weights: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Rank prompt pairs of TASK by how well they tell true foreground from background.

    The pairs are those that a run would use, the task's named alternatives, and those of --pairs. Each image is shown to CLIP
    twice, through its mask and through the rest. "foreground" is the share of foreground crops nearer to the foreground prompt,
    "background" that of background crops nearer to the background prompt, "margin" how much nearer (a difference of cosines) the
    foreground crops are, with its standard deviation. Pairs are sorted by the mean of both shares.

    Example: focus prompts try shadow --images my-folder/images --masks my-folder/masks
    """
    from ..data.pairs import find_pairs
    from ..evaluation.prompts import candidates, load_judge, read_examples, score_pairs

    options = {"refiner.name": refiner, "refiner.options.model": clip_model, "refiner.options.weights": clip_weights}
    found, config, chosen = _chosen(task, settings, options)
    pairs = candidates(found, chosen, pairs_file)
    files = find_pairs(f"images={images},masks={masks}", task=found, root=None)
    judge = load_judge(config, chosen)
    with Progress(len(files), "images") as progress:
        examples = read_examples(_counted(files, progress))
        scores = score_pairs(judge, examples, pairs, templates=config.prompts.templates)
    count = scores[0].count
    if as_json:
        print_json({"task": found.name, "count": count, "pairs": [score.as_json() for score in scores]})
        return
    click.echo("foreground  background  margin           prompts")
    for score in scores:
        shares = f"{100 * score.foreground_right:8.1f} %  {100 * score.background_right:8.1f} %"
        click.echo(f"{shares}  {score.margin:+.4f} ± {score.spread:.4f}  {score.prompts.foreground} ({score.prompts.source})")
        click.echo(f"{'':43}{score.prompts.background}")
    note(f"{count} of {len(files)} images counted; a mask that is empty or covers everything tells nothing")
