"""Promises of backbones: four stages at any size, run one by one, in layers whose order is known."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import FocusError
from ..model.encoder import STRIDES
from ..model.trial import check_network
from ..plugin.interfaces import StagedBackbone
from ..training.memory import checkpoint_activations
from .networks import SHAPES, TOLERANCE, deviation, images, loss_of, part, stages, whole
from .promise import Broken, NotTried, promise
from .subject import Subject


@promise("backbone", first=True)
def four_stages_at_any_size(subject: Subject) -> str:
    """Images of any height and width that are multiples of 32, one or several, give tokens `[B, N, width]` and their grid: of strides 4,
    8, 16 and 32 where the backbone is a pyramid, else of one grid."""
    network = whole(subject, plain=True).eval()
    backbone: Any = network.encoder.backbone
    for batch in SHAPES:
        image = images(*batch)
        check_network(network, image, backbone=subject.name, enhancer="none", width=None)
        with torch.no_grad():
            state = backbone.begin(image)
            grids = []
            for stage in range(4):
                tokens, grid = backbone.enter(state, stage)
                backbone.run(state, stage, tokens)
                grids.append(tuple(int(side) for side in grid))
        wanted = [(batch[1] // stride, batch[2] // stride) for stride in STRIDES] if backbone.pyramid else [grids[0]] * 4
        if grids != wanted:
            said = "a pyramid, whose grids" if backbone.pyramid else "no pyramid: its grids"
            raise Broken(
                f"for images of {batch[1]} x {batch[2]} the grids of the stages are {grids}; it says that it is {said} are {wanted}"
            )
    return f"widths {', '.join(map(str, backbone.widths))}" + ("" if backbone.pyramid else ", one grid")


@promise("backbone", first=True)
def a_stage_uses_the_tokens_that_it_is_given(subject: Subject) -> None:
    """What an enhancer changes before a stage changes the stage's output and, on one grid, all that comes after."""
    backbone = cast(StagedBackbone, subject.build().eval())
    with torch.no_grad():
        before = stages(backbone, images(1))
        for changed in range(4):

            def change(stage: int, tokens: Tensor, here: int = changed) -> Tensor:
                return tokens + torch.linspace(0, 1, tokens.shape[-1]) if stage == here else tokens

            after = stages(backbone, images(1), change)
            for stage in range(changed, 4) if not backbone.pyramid else (changed,):
                if deviation(before[stage], after[stage]) == 0:
                    what = "its output" if stage == changed else f"the output of stage {stage}"
                    raise Broken(f"other tokens for run(state, {changed}, tokens) do not change {what}; is the result kept in the state?")


@promise("backbone")
def its_layers_are_told_in_order(subject: Subject) -> str:
    """``parameter_groups`` gives modules of the backbone, from the first to the last, none of whose weights are in two of them."""
    module: Any = subject.build()
    groups = list(module.parameter_groups())
    if not groups or not all(isinstance(group, nn.Module) for group in groups):
        raise Broken("parameter_groups() must give at least one torch.nn.Module")
    own = {id(weight) for weight in module.parameters()}
    seen: set[int] = set()
    for number, group in enumerate(groups):
        weights = {id(weight) for weight in group.parameters()}
        if not weights <= own:
            raise Broken(f"layer {number} of parameter_groups() is no part of the backbone")
        if weights & seen:
            raise Broken(f"layer {number} of parameter_groups() shares weights with one before it")
        seen |= weights
    return f"{len(groups)} layers"


@promise("backbone")
def its_layers_can_be_recomputed(subject: Subject) -> None:
    """Where activations are not kept (``training.checkpoint_activations``) the gradients are the same."""
    gradients = []
    for recompute in (False, True):
        network = whole(subject, plain=True).eval()  # without chance, which recomputing takes care of by itself
        if recompute:
            checkpoint_activations(network)
        loss_of(network, images(1)).backward()
        gradients.append({name: weight.grad for name, weight in part(subject, network).named_parameters() if weight.grad is not None})
    kept, recomputed = gradients
    if not kept:
        raise NotTried("it has no weights that learn")
    for name, gradient in kept.items():
        if name not in recomputed or deviation(gradient, recomputed[name]) > TOLERANCE:
            raise Broken(f"recomputed, the gradient of {name} is another one")


@promise("backbone")
def weights_that_are_not_there_are_refused(subject: Subject) -> None:
    """``build`` says so where the file of weights that it is given does not exist."""
    try:
        subject.build(weights="/no/such/weights.safetensors")
    except FocusError as error:
        if error.__cause__ is None or isinstance(error.__cause__, FocusError | OSError):
            return
        raise Broken(f"a file of weights that does not exist raises {type(error.__cause__).__name__}, not WeightsError") from None
    raise Broken("a file of weights that does not exist is passed over in silence; raise WeightsError")
