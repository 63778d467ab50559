"""A run from its configuration to its report: builds the parts, trains, scores the best checkpoint, writes down what came of it."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from ..checkpoint import describe, load_network, read_description, write_checkpoint
from ..checkpoint.parent import inherit, open_parent
from ..config.layers import Resolved, with_prediction
from ..config.prompts import choose
from ..config.schema import RunConfig
from ..data.dataset import Images, naming_dead_workers
from ..errors import ConfigError, PluginError, WeightsError
from ..files.ownership import claimed
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
from .calibration import fit_temperature
from .data import RunData, load_data
from .loop import BEST, LATEST, Progress, Trainer
from .memory import check_memory
from .precision import decide
from .processes.sharding import asked_by_launcher
from .processes.team import Team, launched
from .record.folder import CONFIG, check_same, held, identity, is_run, new_folder, saving, write_config
from .record.report import predicted, worst, write_report, write_samples
from .record.state import load_state
from .record.summary import Summary
from .record.trackers import check_trackers
from .update import Refinement, Update, share_of_batch
from .validation import readable, score

logger = logging.getLogger(__name__)

STATES = 4
"""How many times the weights are in memory in training: themselves, their gradients, and two moments of the optimizer."""


def train(
    resolved: Resolved,
    task: Entry,
    folder: Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    clock: Callable[[], float] = time.monotonic,
) -> Summary | None:
    """Train as the configuration says and keep everything in `folder`, or in a new one below ``runs``; with `resume`, go on from the
    state saved there; with `overwrite`, in a folder that holds other files too. `clock` gives the
    seconds that ``training.minutes`` counts. None in a process that only helps another one.

    Raises a `FocusError` for what the user can mend, before the first step wherever that can be known.
    """
    if folder and (folder / LATEST).exists() and not resume:
        raise ConfigError(f"{folder} holds a run already; resume it with --resume {folder}, or choose another --out")
    resolved, chosen = decide(resolved)
    config = resolved.config
    accelerator, team = begin(config)
    with team, ExitStack() as stack:
        folder = team.told(folder or new_folder(task.get()))
        if resume and not (folder / CONFIG).is_file():
            raise WeightsError(f"{folder} is not the folder of a run: it has no {CONFIG}, which --resume reads")
        if team.leads:
            if not resume:
                stack.enter_context(claimed(folder, "a run", overwrite=overwrite, known=is_run, inputs=_read(config)))
            stack.enter_context(held(folder, keep=resume))
        team.wait()
        if chosen and team.leads:
            logger.info("training in %s", chosen)
        trainer, data = assemble(resolved, task, folder, accelerator, team, resume=resume, clock=clock)
        if team.leads:
            write_config(folder, config.model_copy(update={"task": task.reference}))  # so that a task in a file is found again
        if not trainer.ended:
            batches = data.batches(config, team, first_step=trainer.step, device=accelerator.device)
            with naming_dead_workers():
                trainer.run(batches, on_progress if team.leads else lambda progress: None)
        return _finish(trainer, data, folder, f"{chosen or config.training.precision}") if team.leads else None


def _read(config: RunConfig) -> list[Path]:
    """The folders that a run reads, as far as its settings say so."""
    texts = (config.data.train, config.data.validation, config.data.root, config.backbone.weights)
    return [path for text in texts if text and (path := Path(text)).exists()]


def assemble(
    resolved: Resolved,
    task: Entry,
    folder: Path,
    accelerator: Accelerator,
    team: Team,
    *,
    resume: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Trainer, RunData]:
    """Everything that a run is made of, in the state that was saved in `folder` if it goes on. Writes nothing."""
    config, chosen = resolved.config, task.get()
    check_memory(config)
    torch.manual_seed(config.training.seed)
    data = load_data(config, chosen)
    itself = identity(config, len(data.samples.images))
    state = load_state(folder) if resume else None
    if state:
        check_same(state.identity, itself, folder)
    elif resume and team.leads:
        logger.info("the run in %s had saved nothing yet: it starts at its beginning", folder)
    prompts = choose(chosen, config.prompts, resolved.sources, task.distribution)
    copies = STATES if accelerator.device.type == "cpu" and not team.shards else 1
    model = Model(config, build_network(config, weights="none" if state else None, copies=copies))
    description = {**describe(config, model.network, task, prompts), "data": config.data.train, "ops": ops.backend()}
    description["images"] = {"training": len(data.samples.images), "validation": len(data.validation or ())}
    if config.init:
        own = description["licence"]
        description |= _origin(model.network, config, folder, licence=own, resumed=state is not None, leads=team.leads)
    if team.leads:
        logger.info("training on %s, %s, deformable attention: %s", data.summary, accelerator.device, ops.backend())
        if team.size > 1:
            shared = "weights and optimizer state are sharded" if team.shards else "each process holds the whole network"
            logger.info("%d processes; %s", team.size, shared)
    refinement = _build_refiner(config, prompts, model)
    if team.shards:  # before, since sharded parts cannot be called one by one
        _try_plugins(config, model.network, refinement, team)
    update = Update(config, model, accelerator, team, refinement)
    if not team.shards:
        _try_plugins(config, model.network, refinement, team)
    trainer = Trainer(chosen, update, folder, identity=itself, description=description, validation=data.validation, clock=clock)
    if state:
        trainer.restore(state)
    return trainer, data


def _origin(network: Network, config: RunConfig, folder: Path, *, licence: str, resumed: bool, leads: bool) -> dict[str, Any]:
    """Give a network the weights that its run starts from; what the run remembers of them. A run that goes on has weights of its own and
    remembers already."""
    if resumed:
        written = read_description(folder / LATEST)
        return {key: written[key] for key in ("parent", "licence") if key in written}
    inheritance = inherit(network, open_parent(config.init))
    if leads:
        logger.info("%s", inheritance)
    licences = dict.fromkeys((inheritance.parent.description["licence"], licence))
    return {"parent": inheritance.as_record(), "licence": "; ".join(filter(None, licences))}


def _finish(trainer: Trainer, data: RunData, folder: Path, precision: str) -> Summary:
    """Score the best checkpoint on the test images and write the samples and the report; `precision` says why it was that one, too."""
    best = Model(*load_network(folder / BEST)).to(trainer.device).eval()
    written = best.description
    if trainer.config.training.calibrate and data.validation:
        best = _calibrated(best, data.validation)
    config = best.config
    metrics = trainer.task.metrics
    test = score(best, data.test, metrics, skip_unreadable=config.data.unreadable == "skip") if data.test else {}
    baselines = dict(data.baselines(trainer.task.primary_metric))
    measured = {"test": _finite(test), "baselines": _finite(baselines)} if test else {}
    description = {**best.description, **measured}  # what nothing was chosen by, for whoever gets the file alone
    if description != written:  # a run that had ended and is looked at again keeps its file
        with saving(folder):
            write_checkpoint(folder / BEST, best.network.state_dict(), description)
    pictures = data.test or data.validation
    shown = predicted(best, pictures) if pictures else {}
    samples = write_samples(folder / "samples", shown) if shown else None
    failures = worst(best, pictures, trainer.task.primary_metric) if pictures else {}
    failed = write_samples(folder / "samples", failures, "worst") if failures else None
    places = (folder, folder / LATEST, folder / BEST)
    skipped = tuple(trainer.skipped.names)
    summary = Summary(*places, trainer.step, trainer.seconds, trainer.best.scores, test, baselines, samples, skipped, failed)
    summary = replace(summary, processor_share=trainer.processor_share, minutes=trainer.config.training.minutes, precision=precision)
    where = {"Data": f"{config.data.train}: {data.summary}", "Device": title(trainer.device), "Processes": str(trainer.team.size)}
    write_report(summary, trainer.config, best.description, where, shown)
    return summary


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def _calibrated(model: Model, validation: Images) -> Model:
    """The best checkpoint with the temperature that suits the validation images."""
    plain = Model(with_prediction(model.config, {"temperature": 1.0}), model.network).to(model.device).eval()
    readable_ones = readable(validation, range(len(validation)), skip=model.config.data.unreadable == "skip")
    fitted = fit_temperature((plain.predict(image).probability, mask) for _, (image, mask) in readable_ones)
    config = with_prediction(model.config, {"temperature": fitted.temperature})
    description = {**model.description, "config": config.model_dump(mode="json"), "calibration": asdict(fitted)}
    told = "temperature %.2f fitted on %d validation images: cross entropy %.3f, without it %.3f"
    logger.info(told, fitted.temperature, fitted.images, fitted.after, fitted.before)
    return Model(config, model.network, description).to(model.device).eval()


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


def _build_refiner(config: RunConfig, prompts: tuple[Prompts, ...], model: Model) -> Refinement | None:
    choice = config.refiner
    if choice.name == "none":
        return None
    description = registry().get("refiner", choice.name)
    mean, std = (tuple(buffer.flatten().tolist()) for buffer in (model.mean, model.std))
    pairs = with_templates(prompts, config.prompts.templates)
    loss = build_refiner(choice, pairs, mean=mean, std=std)
    return Refinement(cast(nn.Module, loss), description.heads if choice.heads == "default" else choice.heads)
