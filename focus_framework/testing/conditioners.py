"""Promises of conditioners: two vectors for each task, that move the queries by nothing at first and learn to."""

from __future__ import annotations

from typing import Any

import torch

from ..model.trial import built_conditioner
from ..plugin.calls import calling
from .promise import Broken, NotTried, promise
from .subject import CONDITIONED, WIDTH, Subject


@promise("conditioner", first=True)
def it_has_two_vectors_for_each_task(subject: Subject) -> str:
    """``build`` gives a ``torch.nn.Module`` whose parameter ``vectors`` is `[T, 2, D]`, without a connection."""
    module = built_conditioner(subject.name, subject.build(), tasks=len(CONDITIONED))
    vectors: Any = module.vectors
    return f"{vectors.shape[-1]} numbers each, {sum(parameter.numel() for parameter in module.parameters())} weights in all"


@promise("conditioner", first=True)
def a_network_starts_from_what_it_was(subject: Subject) -> None:
    """Before training the vectors of every task shift both queries by exactly zero, one image or several."""
    module: Any = subject.build().eval()
    for vectors in (module.vectors.detach(), module.vectors.detach()[:1]):
        shift = _shift(subject, module, vectors).detach()
        if shift.any():
            raise Broken(f"a new conditioner shifts the queries, by {float(shift.abs().max()):.3g}; its last layer must start at zero")


@promise("conditioner")
def gradients_reach_what_must_learn(subject: Subject) -> None:
    """After a first step a gradient reaches every weight that learns."""
    module: Any = subject.build().train()
    learns = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not learns:
        raise Broken("no weight of it learns")
    optimizer = torch.optim.SGD(learns, lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        shift = _shift(subject, module, module.vectors)
        if not shift.requires_grad:
            raise Broken("no gradient reaches its weights; is something detached, or under no_grad?")
        (shift - torch.linspace(-1, 1, WIDTH)).square().sum().backward()
        optimizer.step()
    missing = [name for name, p in module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())]
    if missing:
        raise Broken(f"no finite gradient reaches {', '.join(missing)}")


@promise("conditioner")
def its_options_give_the_same_shapes(subject: Subject) -> None:
    """``build`` with the module's ``options`` gives the same weights by name and shape: a checkpoint is opened that way."""
    module: Any = subject.build()
    again = Subject(subject.entry, dict(module.options)).build()
    one, other = ({name: tuple(tensor.shape) for name, tensor in each.state_dict().items()} for each in (module, again))
    if one != other:
        raise Broken(
            f"with options {dict(module.options)} build() gives other weights: {sorted(set(one.items()) ^ set(other.items()))[:2]}"
        )


@promise("conditioner")
def examples_become_vectors(subject: Subject) -> None:
    """Where it reads examples, features and regions become finite vectors, `[2, D]` for a set and `[B, 2, D]` for several, without a
    foreground too."""
    module: Any = subject.build().eval()
    wanted = tuple(module.vectors.shape[1:])
    if not hasattr(module, "example_vectors"):
        raise NotTried("it reads no examples")
    for lead in ((), (3,)):
        features, inside = torch.randn(*lead, 2, WIDTH, 4, 6), torch.rand(*lead, 2, 4, 6).round()
        for region in (inside, torch.zeros_like(inside)):
            with calling(subject.title, "example_vectors()"):
                vectors: Any = module.example_vectors(features, region, 1 - region)
            if tuple(vectors.shape) != (*lead, *wanted) or not vectors.isfinite().all():
                raise Broken(f"example_vectors() must give finite vectors {[*lead, *wanted]}, it gave {list(vectors.shape)}")


def _shift(subject: Subject, module: Any, vectors: torch.Tensor) -> torch.Tensor:
    with calling(subject.title, "its network"):
        shift = module(vectors)
    if not isinstance(shift, torch.Tensor) or tuple(shift.shape) != (len(vectors), 2, WIDTH):
        raise Broken(f"it must shift queries by [{len(vectors)}, 2, {WIDTH}], it gave {getattr(shift, 'shape', type(shift).__name__)}")
    return shift
