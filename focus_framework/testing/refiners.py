"""Promises of refiners: one number, the same every time, that pulls at the masks."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ..model.trial import check_loss
from ..plugin.calls import calling
from ..plugin.interfaces import PromptJudge
from .networks import images
from .promise import Broken, NotTried, promise
from .subject import MEAN, PAIRS, STD, Subject

NEAR = 1e-3
"""Deviation of a loss that is computed in another order, as a share of it."""


@promise("refiner", first=True)
def the_loss_is_one_number(subject: Subject) -> str:
    """Any number of images, decoder heads and sizes of masks give one finite scalar, for one prompt pair and for several."""
    told = 0.0
    for prompts in (PAIRS[:1], PAIRS):
        refiner = subject.build(prompts=prompts).eval()
        for count, heads, height, width in ((1, 1, 64, 64), (3, 2, 64, 96)):
            told = loss(subject, refiner, images(count, height, width), logits(heads, count, height // 4, width // 4)).item()
            if not told - told == 0:
                raise Broken(f"the loss of {count} images and {heads} heads is {told}")
    return f"{told:.3f} on noise"


@promise("refiner")
def empty_and_full_masks_give_a_number(subject: Subject) -> None:
    """A mask of nothing, or of everything, gives a finite loss and a finite gradient."""
    refiner, image = subject.build().eval(), images(1)
    for level in (-60.0, 60.0):
        masks = torch.full((1, 1, 2, 16, 16), level, requires_grad=True)
        found = loss(subject, refiner, image, masks)
        found.backward()
        if not bool(found.isfinite()) or masks.grad is None or not bool(masks.grad.isfinite().all()):
            raise Broken(f"masks of {'nothing' if level < 0 else 'everything'} give a loss or a gradient that is NaN or infinite")


@promise("refiner", first=True)
def the_loss_pulls_at_the_masks(subject: Subject) -> None:
    """A gradient reaches the logits of foreground and background in every head, finite and not zero."""
    refiner, masks = subject.build().train(), logits(2, 2, 16, 16).requires_grad_()
    found = loss(subject, refiner, images(2), masks)
    if not found.requires_grad:
        raise Broken("the loss has no gradient; is something detached, or under no_grad?")
    found.backward()
    if masks.grad is None or not bool(masks.grad.isfinite().all()):
        raise Broken("the gradient of the mask logits is missing, NaN or infinite")
    for side, name in enumerate(("foreground", "background")):
        if not bool(masks.grad[:, :, side].abs().amax((-2, -1)).all()):
            raise Broken(f"no gradient reaches the logits of the {name} in every head and image")


@promise("refiner")
def the_same_masks_give_the_same_loss(subject: Subject) -> None:
    """Nothing is left to chance: two calls give one loss and one gradient."""
    refiner, image = subject.build().eval(), images(2)
    seen: list[tuple[Tensor, Tensor]] = []
    for _ in range(2):
        masks = logits(1, 2, 16, 16).requires_grad_()
        found = loss(subject, refiner, image, masks)
        found.backward()
        seen.append((found.detach(), cast(Tensor, masks.grad)))
    if not torch.equal(seen[0][0], seen[1][0]):
        raise Broken(f"the same masks give {float(seen[0][0]):.6g}, then {float(seen[1][0]):.6g}")
    if not torch.equal(seen[0][1], seen[1][1]):
        raise Broken("the same masks give one loss and two gradients")


@promise("refiner")
def the_loss_is_a_mean(subject: Subject) -> None:
    """Twice the same image, or the same head, gives the loss of one: its weight does not depend on the size of a batch."""
    refiner, image, masks = subject.build().eval(), images(1), logits(1, 1, 16, 16)
    once = loss(subject, refiner, image, masks).item()
    for what, found in (
        ("the same image twice", loss(subject, refiner, image.repeat(2, 1, 1, 1), masks.repeat(1, 2, 1, 1, 1))),
        ("the same head twice", loss(subject, refiner, image, masks.repeat(2, 1, 1, 1, 1))),
    ):
        if abs(found.item() - once) > NEAR * max(abs(once), 1e-3):
            raise Broken(f"{what} gives a loss of {found.item():.4g} in place of {once:.4g}; take the mean over heads and images")


@promise("refiner")
def what_it_trains_gets_gradients(subject: Subject) -> str:
    """Weights of its own, if it has any that learn, get a finite gradient."""
    refiner = subject.build().train()
    weights = {name: weight for name, weight in refiner.named_parameters() if weight.requires_grad}
    if not weights:
        raise NotTried("it has no weights of its own that learn")
    loss(subject, refiner, images(2), logits(1, 2, 16, 16).requires_grad_()).backward()
    missed = [name for name, weight in weights.items() if weight.grad is None or not bool(weight.grad.isfinite().all())]
    if missed:
        raise Broken(f"{missed[0]} gets no finite gradient")
    return f"{len(weights)} tensors"


@promise("refiner")
def bfloat16_gives_nearly_the_same_loss(subject: Subject) -> str:
    """Under ``torch.autocast`` in bfloat16 the loss is finite, near that of float32, and has a gradient."""
    refiner, image, masks = subject.build().eval(), images(2), logits(1, 2, 16, 16)
    exact = loss(subject, refiner, image, masks).item()
    asked = masks.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(subject, refiner, image, asked)
    found.backward()
    half = found.item()
    if abs(half - exact) > 0.1 * max(abs(exact), 0.1) or not half - half == 0:
        raise Broken(f"the loss is {half:.4g} in bfloat16 and {exact:.4g} in float32")
    if asked.grad is None or not bool(asked.grad.isfinite().all()):
        raise Broken("in bfloat16 no finite gradient reaches the masks")
    return f"{half:.4g} and {exact:.4g}"


@promise("refiner")
def another_process_gives_the_same_loss(subject: Subject) -> None:
    """Built with the same random seed in a process of its own it gives the same loss."""
    ours = one_loss(subject)
    theirs = float(subject.elsewhere("loss"))
    if abs(ours - theirs) > NEAR * max(abs(ours), 1e-3):
        raise Broken(f"the same masks give {ours:.6g} here and {theirs:.6g} in another process")


@promise("refiner")
def prompts_can_be_compared(subject: Subject) -> None:
    """Where it offers them for ``focus prompts try``, features of regions and prompts have length one and the shapes promised."""
    refiner = subject.build().eval()
    if not isinstance(refiner, PromptJudge):
        raise NotTried("it has no region_features and prompt_features")
    with torch.no_grad(), calling(subject.title, "region_features()"):
        regions = refiner.region_features(images(2), torch.rand(2, 3, 16, 16))
    with torch.no_grad(), calling(subject.title, "prompt_features()"):
        prompts = refiner.prompt_features(PAIRS)
    for what, found, shape in (("region_features", regions, (2, 3)), ("prompt_features", prompts, (len(PAIRS), 2))):
        if found.dim() != 3 or tuple(found.shape[:2]) != shape:
            raise Broken(f"{what} gives {list(found.shape)}, not [{shape[0]}, {shape[1]}, D]")
        if float((found.norm(dim=-1) - 1).abs().max()) > 1e-2:
            raise Broken(f"{what} gives features of length {float(found.norm(dim=-1).mean()):.3g}, not 1")


def logits(heads: int, count: int, height: int, width: int) -> Tensor:
    """Mask logits `[heads, count, 2, height, width]`, always the same ones."""
    return 3 * torch.randn(heads, count, 2, height, width, generator=torch.Generator().manual_seed(5))


def loss(subject: Subject, refiner: nn.Module, image: Tensor, masks: Tensor) -> Tensor:
    """What the refiner gives, if it is one number."""
    with calling(subject.title, "its loss"):
        found = refiner(image, masks)
    check_loss(found, subject.name)
    return cast(Tensor, found)


def one_loss(subject: Subject) -> float:
    """Always the same one."""
    with torch.no_grad():
        return float(loss(subject, subject.build(prompts=PAIRS[:1], mean=MEAN, std=STD).eval(), images(2), logits(1, 2, 16, 16)))
