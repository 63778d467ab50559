"""One step: a batch in, better weights out. Works a batch through in parts, on several processes, in any precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..config.schema import RunConfig
from ..errors import ConfigError
from ..inference.model import Model
from ..model.blame import naming_plugins
from ..model.condition import Condition, Examples
from ..model.losses import Targets, losses
from ..model.network import Network, prior_width
from ..model.trial import check_loss, check_network
from .memory import MemoryShortError, checkpoint_activations, is_memory_short, transformer_layers
from .norms import spare_single_values
from .optimizer import build_optimizer, set_rate
from .processes.sharding import share_out, take_optimizer_state, take_state, whole_optimizer_state, whole_state
from .processes.team import Team, synchronise_norms
from .processes.unused import without_gradient
from .randomness import Draws, seed_step

TERMS = ("clip", "label", "mask", "box")


class Refinement(NamedTuple):
    """A refiner's loss in a run."""

    loss: nn.Module
    """What a refiner plugin built, see `plugin.interfaces.RefinerLoss`."""
    heads: Literal["last", "all"]
    """The decoder heads that it reads."""


class TaskRefiners(nn.Module):
    """A refiner for each task of a run, each of which gets the images of its own."""

    def __init__(self, refiners: Sequence[nn.Module], *, first_task: int) -> None:
        super().__init__()
        self.refiners, self.first_task = nn.ModuleList(refiners), first_task

    def forward(self, images: Tensor, mask_logits: Tensor, tasks: Tensor | None = None) -> Tensor:
        """As `plugin.interfaces.RefinerLoss`; `tasks` `[B]` are the numbers of the images' tasks, on the CPU. Without it every task gets
        all images."""
        total = images.new_zeros(())
        for number, refiner in enumerate(self.refiners, self.first_task):
            chosen = torch.arange(len(images)) if tasks is None else (tasks == number).nonzero().flatten()
            if len(chosen):
                own = chosen.to(images.device)
                total = total + refiner(images[own], mask_logits[:, own]) * (len(chosen) / len(images))
        return total if tasks is not None else total / len(self.refiners)


class Update:
    """Network, refiner and optimizer of a run. `parent` are the weights that the run starts from, by their names in the network, of which
    ``training.parent_share`` goes into those that are scored and saved."""

    def __init__(
        self,
        config: RunConfig,
        model: Model,
        accelerator: Accelerator,
        team: Team,
        refiner: Refinement | None,
        parent: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.config, self.model, self.accelerator, self.team = config, model, accelerator, team
        self.parent = dict(parent or {})
        self.refiner: nn.Module | None = refiner.loss if refiner else None
        self.refined_heads = refiner.heads if refiner else "last"
        self.modules = nn.ModuleDict({"network": model.network, **({"refiner": self.refiner} if self.refiner else {})})
        plan, device = config.training, accelerator.device
        if team.size > 1:
            synchronise_norms(self.modules, device)
        spare_single_values(self.modules)
        self.average = AveragedModel(model.network, multi_avg_fn=get_ema_multi_avg_fn(plan.ema)) if plan.ema else None
        if plan.checkpoint_activations:  # after the average was copied off: only what is trained needs it
            checkpoint_activations(model.network)
        if team.shards:
            self._share_out()
        model.to(device).train()
        if self.average:
            self.average.module.to(device)
        if self.refiner:
            self.refiner.to(device)
        others = list(self.refiner.parameters()) if self.refiner else []
        self.optimizer = build_optimizer(model.network, others, config)
        mixed = isinstance(self.refiner, TaskRefiners) and any(parameter.requires_grad for parameter in others)
        unused = mixed or bool(team.size > 1 and not team.shards and without_gradient(model.network, config.preprocessing.size))
        if team.size > 1 and not team.shards and team.told(unused):
            # Else each process would wait for gradients that never come; looking for them takes time in every step.
            accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        # What is sharded averages its gradients by itself; the rest is wrapped so that it does.
        self.network = accelerator.prepare_model(model.network, evaluation_mode=team.shards)
        alone = team.shards or not any(parameter.requires_grad for parameter in others)  # without gradients there is nothing to average
        self._shared_refiner = self.refiner and accelerator.prepare_model(self.refiner, evaluation_mode=alone)
        self.prepared = accelerator.prepare_optimizer(self.optimizer)
        if plan.compile:
            self.network = torch.compile(self.network)
        self.trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.parts = plan.accumulate

    def _share_out(self) -> None:
        """Leave this process its part of all parameters, before any whole copy of them is on its device."""
        device, size = self.accelerator.device, self.team.size
        for network in dict.fromkeys((self.model.network, self.best_network)):
            share_out(network, transformer_layers(network), device, size)
        if self.refiner and any(parameter.requires_grad for parameter in self.refiner.parameters()):
            share_out(self.refiner, (), device, size)

    @property
    def best_network(self) -> Network:
        """What is scored and saved where nothing has to be put together: the averaged network where there is one."""
        return cast(Network, self.average.module) if self.average else self.model.network

    @property
    def assembles(self) -> bool:
        """Whether what is scored has to be put together from `weights`: of shards, or with a share of the parent."""
        return self.team.shards or bool(self.parent)

    def state(self) -> dict[str, Any]:
        """Everything that changes from step to step. All processes have to ask; the leading one gets it."""
        scaler = self.accelerator.scaler
        return {
            "network": whole_state(self.model.network),
            "average": whole_state(self.average) if self.average else {},
            "parent": self.parent,
            "refiner": whole_state(self.refiner) if self.refiner else {},
            "optimizer": whole_optimizer_state(self.modules, self.optimizer),
            "scaler": scaler.state_dict() if scaler is not None else {},
        }

    def weights(self, state: Mapping[str, Any]) -> dict[str, Tensor]:
        """Those of `state` that are scored and saved: the averaged network's where there is one, on their way back to the parent by its
        share."""
        own = dict(state["network"])
        if self.average:
            own = {name.removeprefix("module."): tensor for name, tensor in state["average"].items() if name != "n_averaged"}
        return towards(own, state["parent"], self.config.training.parent_share)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave; that of an earlier version has no parent."""
        take_state(self.model.network, state["network"])
        if self.average:
            take_state(self.average, state["average"])
        self.parent = dict(state.get("parent", {}))
        if self.refiner:
            take_state(self.refiner, state["refiner"])
        take_optimizer_state(self.modules, self.optimizer, state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def __call__(self, batch: Mapping[str, Any], step: int, rate: float) -> dict[str, Tensor]:
        """Do step `step` with this process's share of its batch; the terms of the loss, means over the share, as scalars on the
        device. A step whose gradients are not finite leaves the weights as they are. Raises `MemoryShortError`."""
        set_rate(self.optimizer, rate)
        self.prepared.zero_grad(set_to_none=True)
        try:
            with naming_plugins(self.parts_of_plugins, passing=self.team.is_loss, otherwise=lambda: self._look_at_plugins(batch)):
                terms = self.gradients(batch, step)
        except (RuntimeError, MemoryError) as error:
            if not is_memory_short(error):
                raise
            raise MemoryShortError(
                f"{self.accelerator.device} ran out of memory at step {step + 1}; lower --batch-size or --image-size, let --auto-batch "
                "split the batch into micro-batches, or --set training.checkpoint_activations=true"
            ) from error
        norm = self.accelerator.clip_grad_norm_(self.trained, self.config.training.gradient_norm)
        terms["gradient_norm"] = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if self.accelerator.scaler is None:  # a fused optimizer leaves the step out by itself, without a look from the host
            self.optimizer.found_inf = (~terms["gradient_norm"].isfinite()).float()  # type: ignore[attr-defined]
        self.prepared.step()
        if self.average:
            self.average.update_parameters(self.model.network)
        return terms

    @property
    def parts_of_plugins(self) -> dict[str, object]:
        """What plugins built, by kind and name."""
        return self.model.parts_of_plugins | ({f"refiner {self.config.refiner.name}": self.refiner} if self.refiner else {})

    def _look_at_plugins(self, batch: Mapping[str, Any]) -> None:
        """After an error of the step: raise `PluginError` where a plugin gives something else than it promised."""
        if self.team.shards:  # sharded parts cannot be called one by one
            return
        network, config = self.model.network, self.config
        backbone: Any = network.encoder.backbone
        width = prior_width(backbone, config.pixel_decoder) if config.enhancer.name != "none" else None
        pixels = self.model.normalise(batch["image"].to(self.accelerator.device))
        check_network(network, pixels, backbone=config.backbone.name, enhancer=config.enhancer.name, width=width)

    def gradients(self, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        """Leave the gradients of a batch in the parameters, and return the terms of the loss."""
        device = self.accelerator.device
        tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
        moved = {name: value if name == "task" else value.to(device, non_blocking=True) for name, value in tensors.items()}
        labels = moved["mask"]
        share = len(labels)
        parts = [dict(zip(moved, values, strict=True)) for values in zip(*(v.chunk(self.parts) for v in moved.values()), strict=True)]
        first = (step * self.team.size + self.team.rank) * share
        usual = self._usual_masks(labels)
        found = []
        for index, part in enumerate(parts):
            size = len(part["mask"])
            start = first + index * size
            last = index == self.parts - 1
            with nullcontext() if last else self.accelerator.no_sync(self.network):
                terms = self._forward(part, Targets.of(part["mask"]), range(start, start + size), usual)
                self.accelerator.backward(terms["loss"] / self.parts)
            found.append({name: value.detach() for name, value in terms.items()})
        return {name: torch.stack([terms[name] for terms in found]).mean() for name in found[0]}

    def _usual_masks(self, labels: Tensor) -> Tensor | None:
        """How many masks a part of the batch has on average, over all parts and processes; None where there is one part."""
        if self.parts * self.team.size == 1:
            return None
        present = Targets.of(labels).present.sum() / self.parts
        return self.accelerator.reduce(present, "mean")

    def _forward(self, part: Mapping[str, Tensor], targets: Targets, samples: range, usual: Tensor | None) -> dict[str, Tensor]:
        plan, config = self.config.training, self.config.loss
        seed_step(plan.seed, samples.start)
        pixels = self.model.normalise(part["image"])
        with self.accelerator.autocast():
            heads = self.network(pixels, all_heads=True, **self._condition(part))
            matched, ordered = losses(heads, targets, config, Draws(plan.seed, samples, pixels.device))
            terms = matched._asdict()
            terms["clip"] = self._refine(pixels, ordered.mask_logits, part.get("task"))
        if usual is not None:  # each term is a mean over the part's own masks; the mean over the batch's is wanted
            here, size = targets.present.sum(), targets.present.numel()
            terms["mask"] = terms["mask"] * here / usual
            terms["box"] = terms["box"] * here / usual
            terms["label"] = terms["label"] * _weight(here, size, config.no_object) / _weight(usual, size, config.no_object)
        return {"loss": torch.stack([terms[name] for name in TERMS]).sum(), **terms}

    def _condition(self, part: Mapping[str, Tensor]) -> dict[str, Condition]:
        """What a network of several tasks is told of the images; nothing for one without a conditioner."""
        if self.config.conditioner.name == "none":
            return {}
        if "example_images" in part:
            return {"condition": Condition(examples=Examples(self.model.normalise(part["example_images"]), part["example_masks"]))}
        return {"condition": Condition(tasks=part["task"].to(self.accelerator.device))}

    def _refine(self, images: Tensor, mask_logits: Tensor, tasks: Tensor | None) -> Tensor:
        if self._shared_refiner is None:
            return images.new_zeros(())
        heads = mask_logits if self.refined_heads == "all" else mask_logits[-1:]
        mixed = (tasks,) if isinstance(self.refiner, TaskRefiners) else ()
        loss = self._shared_refiner(images, heads, *mixed)
        check_loss(loss, self.config.refiner.name)
        return self.config.loss.clip * loss * len(heads)


def towards(weights: Mapping[str, Tensor], parent: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """`weights` with `share` (0 to 1) of those of `parent` in them; what the parent has not stays as it is (WiSE-FT: Wortsman et al. 2022,
    "Robust fine-tuning of zero-shot models")."""
    return {**weights, **{name: weights[name].lerp(tensor.to(weights[name]), share) for name, tensor in parent.items()}}


def _weight(present: Tensor, size: int, no_object: float) -> Tensor:
    """The sum of the class weights in the label loss."""
    return present + no_object * (size - present)


def share_of_batch(config: RunConfig, processes: int) -> int:
    """Images that each process takes of a step's batch. Raises `ConfigError` where it cannot be divided."""
    plan = config.training
    pieces = processes * plan.accumulate
    if plan.batch_size % pieces:
        raise ConfigError(
            f"a batch of {plan.batch_size} cannot be shared by {processes} process(es) in {plan.accumulate} part(s) each; "
            f"make --batch-size a multiple of {pieces}"
        )
    return plan.batch_size // processes
