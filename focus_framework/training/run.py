"""A run from its configuration to its report: builds the parts, trains, scores the best checkpoint, writes down what came of it."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from ..checkpoint import describe, load_network, read_description, write_checkpoint
from ..checkpoint.parent import VECTORS, inherit, open_parent
from ..checkpoint.tasks import joined, scores_of, tasks_of
from ..config.layers import Resolved, with_prediction
from ..config.prompts import choose
from ..config.schema import RunConfig
from ..data.dataset import Images, naming_dead_workers
from ..errors import ConfigError, PluginError, WeightsError
from ..files.ownership import claimed
from ..files.reading import spelled_here
from ..inference.device import choose_device, title
from ..inference.model import Model
from ..inference.precision import half_precision
from ..model import ops
from ..model.build import build_network, build_refiner
from ..model.network import Network, prior_width
from ..model.trial import try_network, try_refiner
from ..plugin.interfaces import Prompts
from ..plugin.kit.prompts import with_templates
from ..plugin.registry import Entry, registry
from .calibration import Calibration, fit_temperature
from .conditioning import read_examples, read_prompts, shots
from .data import RunData, load_data
from .loop import BEST, LATEST, Progress, Trainer
from .memory import check_memory
from .precision import decide
from .processes.sharding import asked_by_launcher
from .processes.team import Team, launched
from .record.folder import CONFIG, check_same, held, identity, is_run, new_folder, saving, write_config
from .record.report import SAMPLES, WORST, Tiles, predicted, worst, write_report, write_samples
from .record.state import load_state
from .record.summary import Summary
from .record.trackers import check_trackers
from .update import Refinement, TaskRefiners, Update, share_of_batch
from .validation import readable, score

logger = logging.getLogger(__name__)

STATES = 4
"""How many times the weights are in memory in training: themselves, their gradients, and two moments of the optimizer."""


def train(
    resolved: Resolved,
    tasks: Entry | Sequence[Entry],
    folder: Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    clock: Callable[[], float] = time.monotonic,
) -> Summary | None:
    """Train on `tasks` as the configuration says and keep everything in `folder`, or in a new one below ``runs``; with `resume`, go on
    from the state saved there; with `overwrite`, in a folder that holds other files too. `clock` gives the
    seconds that ``training.minutes`` counts. None in a process that only helps another one.

    Raises a `FocusError` for what the user can mend, before the first step wherever that can be known.
    """
    if folder and (folder / LATEST).exists() and not resume:
        raise ConfigError(f"{folder} holds a run already; resume it with --resume {folder}, or choose another --out")
    tasks = entries(tasks)
    resolved, chosen = decide(resolved)
    config = resolved.config
    accelerator, team = begin(config)
    with team, ExitStack() as stack:
        folder = team.told(folder or new_folder([entry.name for entry in tasks]))
        if resume and not (folder / CONFIG).is_file():
            raise WeightsError(f"{folder} is not the folder of a run: it has no {CONFIG}, which --resume reads")
        if team.leads:
            if not resume:
                stack.enter_context(claimed(folder, "a run", overwrite=overwrite, known=is_run, inputs=_read(config)))
            stack.enter_context(held(folder, keep=resume))
        team.wait()
        if chosen and team.leads:
            logger.info("training in %s", chosen)
        trainer, data = assemble(resolved, tasks, folder, accelerator, team, resume=resume, clock=clock)
        if team.leads:
            references = ",".join(entry.reference for entry in tasks)  # so that a task in a file is found again
            write_config(folder, config.model_copy(update={"task": references}))
        if not trainer.ended:
            batches = data.batches(config, team, first_step=trainer.step, device=accelerator.device)
            with naming_dead_workers():
                trainer.run(batches, on_progress if team.leads else lambda progress: None)
        return _finish(trainer, data, folder, f"{chosen or config.training.precision}") if team.leads else None


def entries(tasks: Entry | Sequence[Entry]) -> tuple[Entry, ...]:
    """One task, or several, as several."""
    return (tasks,) if isinstance(tasks, Entry) else tuple(tasks)


def _read(config: RunConfig) -> list[Path]:
    """The folders that a run reads, as far as its settings say so."""
    texts = (config.data.train, config.data.validation, config.data.root, config.backbone.weights)
    return [path for text in texts if text and (path := Path(spelled_here(text))).exists()]


def assemble(
    resolved: Resolved,
    tasks: Entry | Sequence[Entry],
    folder: Path,
    accelerator: Accelerator,
    team: Team,
    *,
    resume: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Trainer, RunData]:
    """Everything that a run is made of, in the state that was saved in `folder` if it goes on. Writes nothing."""
    config, tasks = resolved.config, entries(tasks)
    check_memory(config)
    torch.manual_seed(config.training.seed)
    data = load_data(config, [entry.get() for entry in tasks])
    itself = identity(config, len(data.samples))
    state = load_state(folder) if resume else None
    if state:
        check_same(state.identity, itself, folder)
    elif resume and team.leads:
        logger.info("the run in %s had saved nothing yet: it starts at its beginning", folder)
    prompts = {entry.name: choose(entry.get(), config.prompts, resolved.sources, entry.distribution) for entry in tasks}
    copies = STATES if accelerator.device.type == "cpu" and not team.shards else 1
    model = Model(config, build_network(config, weights="none" if state else None, copies=copies))
    description = {**describe(config, model.network, tasks, prompts), "data": config.data.train, "ops": ops.backend()}
    description["images"] = {"training": len(data.samples), "validation": data.validation_count}
    before: dict[str, Any] = {}
    parent: dict[str, Tensor] = {}
    if config.init:
        own = description["licence"]
        origin, before, new = _origin(model.network, config, folder, licence=own, resumed=state is not None, leads=team.leads)
        description |= origin
        if config.training.parent_share and not state:
            parent = _weights_but(model.network, {*new, VECTORS})  # what says which task is meant is the run's own
    if config.conditioner.kept:
        _add_kept(description, config, before)
    data.samples.shots = shots(model)
    if not state:
        _fill_vectors(model, prompts, data, before)
    if team.leads:
        logger.info("training on %s, %s, deformable attention: %s", data.summary, accelerator.device, ops.backend())
        if team.size > 1:
            shared = "weights and optimizer state are sharded" if team.shards else "each process holds the whole network"
            logger.info("%d processes; %s", team.size, shared)
    refinement = _build_refiner(config, prompts, model)
    if team.shards:  # before, since sharded parts cannot be called one by one
        _try_plugins(config, model.network, refinement, team)
    update = Update(config, model, accelerator, team, refinement, parent)
    if not team.shards:
        _try_plugins(config, model.network, refinement, team)
    trainer = Trainer(update, data, folder, identity=itself, description=description, clock=clock)
    if state:
        trainer.restore(state)
    return trainer, data


def _fill_vectors(model: Model, prompts: Mapping[str, Sequence[Prompts]], data: RunData, before: Mapping[str, Any]) -> None:
    """The vectors of a run's tasks that are not learned from chance: those of a checkpoint that it starts from are left, unless the
    sentences have become others."""
    known = {entry["name"]: entry["prompts"] for entry in tasks_of(before)} if before else {}
    read_prompts(model, {name: pairs for name, pairs in prompts.items() if _sentences(pairs) != _sentences(known.get(name, []))})
    if model.config.trains_vectors_alone and not set(data.parts) <= set(known):
        read_examples(model, data)


def _sentences(pairs: Sequence[Any]) -> list[tuple[str, str]]:
    told = [pair if isinstance(pair, Mapping) else vars(pair) for pair in pairs]
    return [(pair["foreground"], pair["background"]) for pair in told]


def _add_kept(description: dict[str, Any], config: RunConfig, before: Mapping[str, Any]) -> None:
    """What is said of the tasks that stay as they are in the checkpoint that a run starts from, whose description is `before`."""
    kept = {entry["name"]: entry for entry in tasks_of(before)} if before else {}
    if missing := [name for name in config.conditioner.kept if name not in kept]:
        raise ConfigError(f"conditioner.kept names the task {missing[0]}, which the checkpoint of --init does not know; leave it out")
    description["tasks"] = [*(kept[name] for name in config.conditioner.kept), *description["tasks"]]
    for part in ("validation", "test"):
        scores = {name: scores_of(name, before.get(part, {}), list(kept)) for name in config.conditioner.kept}
        description[part] = joined(scores, config.known_tasks)


def _origin(
    network: Network, config: RunConfig, folder: Path, *, licence: str, resumed: bool, leads: bool
) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """Give a network the weights that its run starts from; what the run remembers of them, the description of what they are of, and the
    names of the tensors that are not from there. A run that goes on has weights of its own and remembers already."""
    if resumed:
        written = read_description(folder / LATEST)
        return {key: written[key] for key in ("parent", "licence") if key in written}, written, ()
    inheritance = inherit(network, open_parent(config.init), config.known_tasks)
    if config.conditioner.kept and inheritance.new:
        kept = ", ".join(config.conditioner.kept)
        raise WeightsError(
            f"{config.init} lacks {inheritance.new[0]} of this network, so that {kept} would not stay what they are; leave out what "
            "changes the network, or say --set conditioner.trains=all"
        )
    if leads:
        logger.info("%s", inheritance)
    licences = dict.fromkeys((inheritance.parent.description["licence"], licence))
    remembered = {"parent": inheritance.as_record(), "licence": "; ".join(filter(None, licences))}
    return remembered, inheritance.parent.description, inheritance.new


def _weights_but(network: Network, names: Collection[str]) -> dict[str, Tensor]:
    """A copy of a network's numbers in floating point, but for the tensors of these names."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items() if tensor.is_floating_point() and name not in names}


def _finish(trainer: Trainer, data: RunData, folder: Path, precision: str) -> Summary:
    """Score the best checkpoint on the test images and write the samples and the report; `precision` says why it was that one, too."""
    best = Model(*load_network(folder / BEST)).to(trainer.device).eval()
    written = best.description
    if trainer.config.training.calibrate:
        best = _calibrated(best, data)
    skip = best.config.data.unreadable == "skip"
    tests = {name: part.test for name, part in data.parts.items() if part.test}
    scored = {name: score(best.for_task(name), test, trainer.tasks[name].metrics, skip_unreadable=skip) for name, test in tests.items()}
    known = best.config.known_tasks
    test, baselines = joined(scored, known), joined({name: part.baselines() for name, part in data.parts.items()}, known)
    measured = {"test": written.get("test", {}) | _finite(test), "baselines": _finite(baselines)} if test else {}
    description = {**best.description, **measured}  # what nothing was chosen by, for whoever gets the file alone
    if description != written:  # a run that had ended and is looked at again keeps its file
        with saving(folder):
            write_checkpoint(folder / BEST, best.network.state_dict(), description)
    shown: dict[str, Tiles] = {}
    failures: dict[str, Tiles] = {}
    for name, part in data.parts.items():
        if pictures := part.test or part.validation:
            one, share = best.for_task(name), len(data.parts)
            shown |= predicted(one, pictures, -(-SAMPLES // share))
            failures |= worst(one, pictures, part.task.primary_metric, -(-WORST // share))
    samples = write_samples(folder / "samples", shown) if shown else None
    failed = write_samples(folder / "samples", failures, "worst") if failures else None
    places = (folder, folder / LATEST, folder / BEST)
    skipped = tuple(trainer.skipped.names)
    summary = Summary(*places, trainer.step, trainer.seconds, trainer.best.scores, test, baselines, samples, skipped, failed)
    summary = replace(summary, processor_share=trainer.processor_share, minutes=trainer.config.training.minutes, precision=precision)
    where = {"Data": f"{trainer.config.data.train}: {data.summary}", "Device": title(trainer.device), "Processes": str(trainer.team.size)}
    write_report(summary, trainer.config, best.description, where, shown)
    return summary


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def _calibrated(model: Model, data: RunData) -> Model:
    """The best checkpoint with the temperature that suits the validation images, of each task where it knows several."""
    plain = Model(with_prediction(model.config, {"temperature": 1.0}), model.network).to(model.device).eval()
    fitted = {name: _calibration(plain.for_task(name), part.validation) for name, part in data.parts.items() if part.validation}
    if not fitted:
        return model
    config, description = model.config, dict(model.description)
    if "tasks" in description:
        description["tasks"] = [
            {**entry, "temperature": fitted[entry["name"]].temperature} if entry["name"] in fitted else entry
            for entry in description["tasks"]
        ]
        description["calibration"] = {name: asdict(one) for name, one in fitted.items()}
    else:
        [one] = fitted.values()
        config = with_prediction(config, {"temperature": one.temperature})
        description |= {"config": config.model_dump(mode="json"), "calibration": asdict(one)}
    return Model(config, model.network, description).to(model.device).eval()


def _calibration(model: Model, validation: Images) -> Calibration:
    readable_ones = readable(validation, range(len(validation)), skip=model.config.data.unreadable == "skip")
    fitted = fit_temperature((model.predict(image).probability, mask) for _, (image, mask) in readable_ones)
    told = "temperature %.2f fitted on %d validation images: cross entropy %.3f, without it %.3f"
    logger.info(told, fitted.temperature, fitted.images, fitted.after, fitted.before)
    return fitted


def begin(config: RunConfig) -> tuple[Accelerator, Team]:
    """Device, precision and processes as asked for; what cannot work fails here and not in the middle of the run."""
    device = choose_device(config.training.device)
    check_trackers(config.training.trackers)
    precision = config.training.precision
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 needs a GPU; on a CPU use fp32 or bf16")
    if precision == "bf16" and not half_precision(device):
        logger.warning("%s has no arithmetic in bf16, so training in it may be slower than with --precision fp32", device)
    processes = launched()
    if device.type != "cpu" and device.index is not None:
        if processes > 1:
            raise ConfigError(f"each process takes a GPU of its own; --device {device.type} instead of {device} lets them")
        torch.accelerator.set_device_index(device.index)
    # accelerate keeps one state a process and refuses another precision; a notebook may train twice.
    AcceleratorState._reset_state(reset_partial_state=True)
    if config.training.auto_batch and processes > 1:
        raise ConfigError("--auto-batch works for one process; for several choose the number of micro-batches: --set training.accumulate=N")
    shard = asked_by_launcher() or config.training.shard
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision={"fp32": "no"}.get(precision, precision))
    team = Team(accelerator, shard=shard)
    # DDP's advice on speed, of the convolutions that run channels last.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    if not team.leads:
        logging.getLogger("focus_framework").setLevel(logging.ERROR)  # only the main process logs
    share_of_batch(config, team.size)
    return accelerator, team


def _try_plugins(config: RunConfig, network: Network, refinement: Refinement | None, team: Team) -> None:
    """Try what plugins built before the first step, in the main process; what is wrong ends all of them."""
    size = config.preprocessing.size
    backbone: Any = network.encoder.backbone
    width = prior_width(backbone, config.pixel_decoder) if config.enhancer.name != "none" else None
    wrong = ""
    if team.leads:
        try:
            try_network(network, size, backbone=config.backbone.name, enhancer=config.enhancer.name, width=width)
            if refinement:
                device = next(network.parameters()).device
                try_refiner(refinement.loss, size, name=config.refiner.name, device=device)
        except PluginError as error:
            wrong = str(error)
    if wrong := team.told(wrong):
        raise PluginError(wrong)


def _build_refiner(config: RunConfig, prompts: Mapping[str, Sequence[Prompts]], model: Model) -> Refinement | None:
    """With the prompts of the run's task; of several tasks each has one of its own."""
    choice = config.refiner
    if choice.name == "none":
        return None
    description = registry().get("refiner", choice.name)
    mean, std = (tuple(buffer.flatten().tolist()) for buffer in (model.mean, model.std))
    templates = config.prompts.templates
    losses = [cast(nn.Module, build_refiner(choice, with_templates(pairs, templates), mean=mean, std=std)) for pairs in prompts.values()]
    loss = TaskRefiners(losses, first_task=len(config.conditioner.kept)) if len(losses) > 1 else losses[0]
    return Refinement(loss, description.heads if choice.heads == "default" else choice.heads)
