"""Promises of everything that builds a network, the whole network around it, and what the trials of networks have in common."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from ..config.schema import DecoderConfig, EnhancerConfig, PixelDecoderConfig
from ..model.encoder import EnhancedEncoder, PlainEncoder
from ..model.network import Network
from ..model.trial import built_backbone
from ..plugin.interfaces import Prior, StagedBackbone
from .promise import Broken, NotTried, promise
from .subject import MEAN, SIZE, STD, WIDTH, Subject, answers

SHAPES = ((2, 64, 64), (1, 96, 160), (1, 32, 64))
"""Images, height and width of the batches that networks are tried on; all multiples of 32."""
TOLERANCE = 1e-3
"""Largest deviation of what is computed in another order, as a share of the largest value."""
HALF = 0.1
"""Deviation of bfloat16, which has 8 bits, as a share of the norm. Built-in networks stay below 0.03."""
LEARNING = 0.9
"""Share of the weights that have to get a gradient; networks of others have layers that a mask does not need."""


@promise("backbone", "enhancer", "refiner", first=True)
def it_builds_without_weights(subject: Subject) -> str:
    """``build`` gives a ``torch.nn.Module`` with all that the interface names, from random weights and without a connection."""
    module = subject.build()
    if subject.entry.kind == "backbone":
        built_backbone(subject.name, module)
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f} M weights"


@promise("backbone", "enhancer")
def the_same_images_give_the_same_features(subject: Subject) -> None:
    """In evaluation mode nothing is left to chance."""
    module, image = subject.build().eval(), images(2)
    once, again = features(subject, module, image), features(subject, module, image)
    for number, (one, other) in enumerate(zip(once, again, strict=True)):
        if not torch.equal(one, other):
            raise Broken(
                f"map {number} of the same images differs between two calls in evaluation mode; is there a dropout that never ends?"
            )


@promise("backbone", "enhancer")
def images_of_a_batch_do_not_mix(subject: Subject) -> None:
    """In evaluation mode an image has the same features alone as beside others."""
    module, image = subject.build().eval(), images(2)
    together = features(subject, module, image)
    alone = features(subject, module, image[:1])
    for number, (one, other) in enumerate(zip(together, alone, strict=True)):
        if (found := deviation(one[:1], other)) > TOLERANCE:
            raise Broken(f"map {number} of an image differs by {found:.1%} when another image is in the batch")


@promise("backbone", "enhancer")
def gradients_reach_what_must_learn(subject: Subject) -> str:
    """One step's gradients reach the weights, finite, of the first layer too, alone and inside the whole network."""
    whole_network = whole(subject, plain=False).train()
    module = part(subject, whole_network)
    for number, norm in enumerate(part for part in whole_network.modules() if hasattr(part, "gamma")):
        nn.init.constant_(cast(Any, norm).gamma, 0.1 * (number + 1))  # an injector starts from nothing
    loss_of(whole_network, images(2)).backward()
    weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    if not weights:
        return "nothing to learn"
    reached = {name: weight.grad for name, weight in weights.items() if weight.grad is not None}
    if wrong := [name for name, gradient in reached.items() if not bool(gradient.isfinite().all())]:
        raise Broken(f"the gradient of {wrong[0]} is NaN or infinite")
    if not any(bool(gradient.abs().any()) for gradient in reached.values()):  # single zeros are the way in which many layers start
        raise Broken("all gradients are zero; is something detached?")
    share = sum(gradient.numel() for gradient in reached.values()) / sum(weight.numel() for weight in weights.values())
    missed = [name for name in weights if name not in reached]
    if share < LEARNING:
        raise Broken(
            f"only {share:.0%} of the weights get a gradient, none gets {', '.join(missed[:3])}; is something detached, or never called?"
        )
    return f"{share:.0%} of the weights" + (f"; none for {', '.join(missed[:3])}" if missed else "")


@promise("backbone", "enhancer")
def its_state_can_be_saved_and_loaded(subject: Subject) -> None:
    """What ``state_dict`` holds makes a network that was built anew, from other random weights, the same network."""
    first, second = subject.build(seed=0), subject.build(seed=1)
    state = {name: tensor.detach().clone().contiguous() for name, tensor in first.state_dict().items()}
    try:
        second.load_state_dict(load_tensors(save_tensors(state)))
    except RuntimeError as error:
        raise Broken(f"a network built anew does not take the state: {str(error).splitlines()[-1].strip()}") from None
    image = images(1)
    for number, (one, other) in enumerate(
        zip(features(subject, first.eval(), image), features(subject, second.eval(), image), strict=True)
    ):
        if deviation(one, other) > 0:
            raise Broken(
                f"with the same state, map {number} differs by {deviation(one, other):.1%}; something random is no part of state_dict"
            )


@promise("backbone", "enhancer")
def bfloat16_stays_near(subject: Subject) -> str:
    """Under ``torch.autocast`` in bfloat16 the features are finite and near those of float32."""
    module, image = subject.build().eval(), images(2)
    exact = features(subject, module, image)
    with torch.autocast("cpu", torch.bfloat16):
        half = features(subject, module, image)
    worst = 0.0
    for number, (one, other) in enumerate(zip(exact, half, strict=True)):
        if not bool(other.isfinite().all()):
            raise Broken(f"map {number} is NaN or infinite in bfloat16")
        found = float((one.float() - other.float()).norm() / one.float().norm().clamp_min(1e-12))
        if found > HALF:
            raise Broken(f"map {number} differs by {found:.0%} in bfloat16")
        worst = max(worst, found)
    return f"deviation {worst:.1%}"


@promise("backbone", "enhancer")
def two_processes_learn_the_same(subject: Subject) -> str:
    """Two processes that train together, each with other images, have the same weights after two steps."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        raise NotTried("this torch has no gloo")
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        told = answers([subject.started_elsewhere("learn", rank, str(meeting)) for rank in range(2)])
    if told[0]["weights"] != told[1]["weights"]:
        raise Broken("after two steps together the weights of two processes differ")
    return "with weights that never get a gradient" if told[0]["unused"] else ""


@promise("backbone", "enhancer")
def the_network_compiles(subject: Subject) -> str:
    """``torch.compile`` makes a network that gives the same masks."""
    if not any(map(shutil.which, ("g++", "clang++", "c++", "cl"))):
        raise NotTried("there is no C++ compiler")
    if not subject.thorough:
        raise NotTried("takes minutes; --thorough tries it")
    network, image = whole(subject, plain=True).eval(), images(1)
    with torch.no_grad():
        plain = network(image).mask_logits
        fast = torch.compile(network)(image).mask_logits
    if (found := deviation(plain, fast)) > 10 * TOLERANCE:
        raise Broken(f"compiled, the masks differ by {found:.1%}")
    return f"deviation {deviation(plain, fast):.0e}"


def images(count: int, height: int = SIZE, width: int = SIZE) -> Tensor:
    """Normalised images `[count, 3, height, width]`, always the same ones."""
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def features(subject: Subject, module: nn.Module, image: Tensor) -> list[Tensor]:
    """Outputs of the four stages, or the four maps."""
    if subject.entry.kind == "backbone":
        return stages(cast(StagedBackbone, module), image)
    return list(cast(Prior, module)(image))


def stages(backbone: StagedBackbone, image: Tensor, change: Callable[[int, Tensor], Tensor] = lambda stage, tokens: tokens) -> list[Tensor]:
    """The outputs of the four stages, whose tokens `change` may replace, as an enhancer does."""
    state, outputs = backbone.begin(image), []
    for stage in range(4):
        tokens, _ = backbone.enter(state, stage)
        outputs.append(backbone.run(state, stage, change(stage, tokens)))
    return outputs


def deviation(one: Tensor, other: Tensor) -> float:
    """The largest difference as a share of the largest value."""
    return float((one.float() - other.float()).abs().max() / one.float().abs().max().clamp_min(1e-12))


def whole(subject: Subject, *, plain: bool) -> Network:
    """A small network around the plugin; around a backbone `plain` or with a prior."""
    torch.manual_seed(0)
    decoder = PixelDecoderConfig(width=32, layers=1, heads=4, feedforward=32)
    if subject.entry.kind == "backbone":
        backbone: Any = built_backbone(subject.name, subject.build())
        width = backbone.widths[-1] if not backbone.pyramid else decoder.width
        prior: Any = None if plain else StandInPrior(width)
    else:
        backbone, prior = StandInBackbone(), subject.build(width=WIDTH)
    return Network(
        backbone, prior, enhancer=EnhancerConfig(), pixel_decoder=decoder, decoder=DecoderConfig(layers=1, heads=4, feedforward=32)
    )


def part(subject: Subject, network: Network) -> nn.Module:
    """What the plugin built of a network."""
    encoder: PlainEncoder | EnhancedEncoder = network.encoder
    return cast(nn.Module, encoder.backbone if subject.entry.kind == "backbone" else getattr(encoder, "prior"))  # noqa: B009 - one of two types has it


def loss_of(network: nn.Module, image: Tensor) -> Tensor:
    """A number that depends on all that the network gives."""
    return torch.stack([output.float().square().mean() for output in network(image, all_heads=True)]).sum()


class StandInBackbone(nn.Module):
    """Four strided convolutions: a pyramid for an enhancer to work with."""

    widths = (WIDTH,) * 4
    heads, pyramid, mean, std = 4, True, MEAN, STD

    def __init__(self) -> None:
        super().__init__()
        sizes = zip((3, WIDTH, WIDTH, WIDTH), (4, 2, 2, 2), strict=True)
        self.layers = nn.ModuleList(nn.Sequential(nn.Conv2d(given, WIDTH, 3, stride, 1), nn.GELU()) for given, stride in sizes)

    def begin(self, image: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.layers:
            image = layer(image)
            maps.append(image)
        return maps

    def enter(self, state: list[Tensor], stage: int) -> tuple[Tensor, tuple[int, int]]:
        return state[stage].flatten(2).transpose(1, 2), (state[stage].shape[2], state[stage].shape[3])

    def run(self, state: list[Tensor], stage: int, tokens: Tensor) -> Tensor:
        return tokens

    def parameter_groups(self) -> list[nn.Module]:
        return list(self.layers)


class StandInPrior(nn.Module):
    """The image itself at the four strides, for a backbone to work with."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(3, width, 1) for _ in range(4))

    def forward(self, image: Tensor) -> list[Tensor]:
        return [project(nn.functional.avg_pool2d(image, stride)) for project, stride in zip(self.project, (4, 8, 16, 32), strict=True)]


def learn_together(subject: Subject, rank: int, meeting: str) -> dict[str, Any]:
    """Two steps as one of two processes that meet at a file: what came of the weights."""
    import hashlib

    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    from ..training.processes.team import synchronise_norms
    from ..training.processes.unused import without_gradient

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    network = whole(subject, plain=False).train()
    unused = without_gradient(network, SIZE)
    synchronise_norms(network, torch.device("cpu"))
    together = DistributedDataParallel(network, find_unused_parameters=bool(unused))
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    for step in range(2):
        optimizer.zero_grad()
        image = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(10 * step + rank))
        loss_of(together, image).backward()
        optimizer.step()
    weights = hashlib.sha256(b"".join(weight.detach().numpy().tobytes() for weight in network.parameters())).hexdigest()
    distributed.barrier()
    distributed.destroy_process_group()
    return {"weights": weights, "unused": bool(unused)}
