"""Number for number with the authors' release: matching, every loss, its gradients, and one whole training step without CLIP."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from release_rule import released_shapes, released_state
from test_parity import fixture
from torch import Tensor

from focus_framework.checkpoint.importing import read_release
from focus_framework.checkpoint.release import our_name
from focus_framework.config import LossConfig
from focus_framework.model import losses as ours
from focus_framework.model.ground_decoder import Heads

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("single_thread")]

LOSS = 1e-5
GRADIENT = 1e-3
POINTS = 300


class Criterion:
    """One case of the fixtures: predictions of one head for two pictures, the truth, and the points that the authors' code drew."""

    def __init__(self, case: str) -> None:
        self.data = {
            name.removeprefix(f"crit.{case}."): value for name, value in fixture("ops").items() if name.startswith(f"crit.{case}.")
        }
        self.heads = Heads(*(self.data[f"pred_{name}"].clone().requires_grad_() for name in ("logits", "masks", "boxes")))
        self.heads = Heads(*(tensor[None] for tensor in self.heads))
        masks = torch.zeros(2, 2, *self.data["tgt0.masks"].shape[1:])
        boxes = torch.full((2, 2, 4), 0.5)
        self.order: list[tuple[int, int]] = []  # (picture, class) of the masks in the authors' order
        for picture in range(2):
            labels = self.data[f"tgt{picture}.labels"]
            masks[picture, labels] = self.data[f"tgt{picture}.masks"].float()
            boxes[picture, labels] = self.data[f"tgt{picture}.boxes_cxcywh"]
            self.order += [(picture, int(labels[target])) for target in self.data[f"match{picture}"][1]]
        self.targets = ours.Targets(masks, masks.flatten(2).any(2).float(), boxes)

    def points(self, name: str) -> Tensor:
        """Random points `[1, 2, 2, P, 2]` by picture and class; a class that is absent has arbitrary ones."""
        drawn = self.data[f"mask_points_{name}"]
        placed = torch.rand(1, 2, 2, *drawn.shape[1:], generator=torch.Generator().manual_seed(0))
        for row, (picture, label) in zip(drawn, self.order, strict=True):
            placed[0, picture, label] = row
        return placed


@pytest.fixture(params=["both", "partial"])
def case(request: pytest.FixtureRequest) -> Criterion:
    return Criterion(request.param)


def ordered(case: Criterion) -> Heads:
    points = torch.stack([case.data[f"matcher_points{picture}"][0] for picture in range(2)])[None]
    with torch.no_grad():
        cost = ours.matching_cost(case.heads, case.targets, points)
    return ours.order(case.heads, cost)


def test_matching(case: Criterion, deviations) -> None:
    found = ordered(case)
    for picture in range(2):
        queries, targets = case.data[f"match{picture}"]
        labels = case.data[f"tgt{picture}.labels"][targets]
        theirs = case.data["pred_masks"][picture, queries]
        deviations.check("matching", found.mask_logits[0, picture, labels], theirs, 0.0, "share")


def test_tight_boxes(case: Criterion, deviations) -> None:
    boxes = ours.tight_boxes(case.targets.masks > 0)
    present = case.targets.present > 0
    deviations.check("target boxes", boxes[present], case.targets.boxes[present], 1e-6)


def test_uncertain_points(case: Criterion, deviations) -> None:
    """The same points are chosen; their order says nothing."""
    found, pool, rest = ordered(case), case.points("pool"), case.points("random")
    for index, (picture, label) in enumerate(case.order):
        logits = found.mask_logits[0, picture, label][None, None].detach()
        chosen = ours.uncertain_points(logits, pool[0, picture, label][None], rest[0, picture, label][None], POINTS - rest.shape[3])[0]
        theirs = case.data["mask_points_final"][index]
        deviations.check("uncertain points", sort_rows(chosen), sort_rows(theirs), 0.0)


def sort_rows(points: Tensor) -> Tensor:
    return torch.from_numpy(points.numpy()[np.lexsort(points.numpy().T)])


@pytest.mark.parametrize("name", ["loss_ce", "loss_mask", "loss_dice", "loss_bbox", "loss_giou"])
def test_loss_and_its_gradient(name: str, case: Criterion, deviations) -> None:
    found = ordered(case)
    pool, rest = case.points("pool"), case.points("random")
    if name == "loss_ce":
        loss, source = ours.label_loss(found.class_logits, case.targets.present, 0.1), "logits"
    elif name in ("loss_mask", "loss_dice"):
        both = ours.mask_losses(found.mask_logits, case.targets, pool, rest, POINTS - rest.shape[3])
        loss, source = both[name == "loss_dice"], "masks"
    else:
        both = ours.box_losses(found.boxes, case.targets)
        loss, source = both[name == "loss_giou"], "boxes"
    deviations.check(f"{name}, value", loss.detach(), case.data[name], LOSS, "relative")
    heads = dict(zip(("logits", "masks", "boxes"), case.heads, strict=True))
    (gradient,) = torch.autograd.grad(loss, heads[source])
    deviations.check(f"{name}, gradient", gradient[0], case.data[f"grad.{name}.pred_{source}"], GRADIENT, "relative")


class Stream:
    """The authors' random points of one training step, handed out as `losses` asks for them.

    Per head their code drew points for each picture's matching, then a pool and a rest for all matched masks at once, in the order of
    the queries; the final head came first. Ours asks once for all heads, the final one last, by class.
    """

    def __init__(self, step: dict[str, Tensor], heads: int) -> None:
        self.step, self.heads, self.calls = step, heads, 0

    def draw(self, call: int, *shape: int) -> Tensor:
        return torch.from_numpy(np.random.Generator(np.random.Philox(key=10_000 + call)).random(shape).astype(np.float32))

    def __call__(self, *shape: int) -> Tensor:
        kind, self.calls = self.calls, self.calls + 1
        per_head = []
        for head in range(self.heads):
            position = 0 if head == self.heads - 1 else head + 1
            first = 4 * position
            if kind == 0:
                per_head.append(torch.stack([self.draw(first + b, 1, *shape[2:])[0] for b in range(shape[1])]))
                continue
            drawn = iter(self.draw(first + 1 + kind, shape[1] * shape[2], *shape[3:]))
            placed = torch.empty(shape[1:])
            for picture, match in enumerate(self.step[f"match.call{position}"]):
                for target in match[1]:
                    placed[picture, target] = next(drawn)
            per_head.append(placed)
        return torch.stack(per_head)


@pytest.fixture(scope="module")
def step() -> dict[str, Tensor]:
    return fixture("tiny_train")


@pytest.fixture(scope="module")
def trained(step: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """The fixtures' network after one step forward and backward: network, heads, terms."""
    path = tmp_path_factory.mktemp("release") / "tiny_sod.pth"
    torch.save(released_state(released_shapes("tiny")), path)
    released = read_release(path)
    network = released.network
    network.load_state_dict(released.state, assign=True)
    for module in network.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    network.train()
    mean, std = (torch.tensor(released.description["preprocessing"][name]).view(3, 1, 1) for name in ("mean", "std"))
    heads = network((fixture("tiny_io")["image"] / 255 - mean) / std, all_heads=True)
    labels = torch.stack([step[f"gt{picture}.masks"][0] for picture in range(2)])
    config = LossConfig(points=256)
    terms, _ = ours.losses(heads, ours.Targets.of(labels), config, Stream(step, len(heads.class_logits)))
    sum(terms).backward()
    yield network, heads, terms
    path.unlink()


def test_training_predictions(trained: tuple, step: dict[str, Tensor], deviations) -> None:
    _, heads, _ = trained
    for head in range(4):
        prefix = f"decoder.aux{head}." if head < 3 else "decoder."
        for name, tensor in zip(("logits", "masks", "boxes"), heads, strict=True):
            deviations.check("training, predictions", tensor[head].detach(), step[f"{prefix}pred_{name}"], 1e-4)


def test_training_losses(trained: tuple, step: dict[str, Tensor], deviations) -> None:
    _, _, terms = trained

    def total(*names: str) -> Tensor:
        return sum(step[f"loss_weighted.{name}{suffix}"] for name in names for suffix in ("", "_0", "_1", "_2"))

    theirs = {"label": total("loss_ce"), "mask": total("loss_mask", "loss_dice"), "box": total("loss_bbox", "loss_giou")}
    for name, expected in theirs.items():
        deviations.check(f"training, {name} loss", getattr(terms, name).detach(), expected, LOSS, "relative")


def test_training_running_statistics(trained: tuple, step: dict[str, Tensor], deviations) -> None:
    state = trained[0].state_dict()
    for name in [name for name in step if name.startswith("buffer_after.backbone")]:
        deviations.check("training, running statistics", state[our_name(name.removeprefix("buffer_after."))], step[name], 1e-4)
