"""Number for number with the authors' release: matching, every loss, its gradients, and one whole training step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from focus_plugins.refiners.clip_release import ProjectionHead, soft_contrastive_loss
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.transformer import QuickGELU, VisionTransformer
from support.release import TINY_SEED, fixture, released_shapes, released_state, weight
from torch import Tensor, nn

from focus_framework.checkpoint.importing import read_release
from focus_framework.checkpoint.release import our_name
from focus_framework.config.schema import LossConfig
from focus_framework.model import losses as ours
from focus_framework.model.ground_decoder import Heads

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("single_thread")]

LOSS = 1e-5
GRADIENT = 1e-3
FIRST_CONVOLUTION = 1e-2
"""53 layers with batch statistics lie behind it: in float32 ours lies 2e-2 from it on one thread, 1e-2 on two."""
POINTS = 300


class Criterion:
    """One case of the fixtures: predictions of one head for two images, the truth, and the points that the authors' code drew."""

    def __init__(self, case: str) -> None:
        self.data = {
            name.removeprefix(f"crit.{case}."): value for name, value in fixture("ops").items() if name.startswith(f"crit.{case}.")
        }
        self.heads = Heads(*(self.data[f"pred_{name}"].clone().requires_grad_() for name in ("logits", "masks", "boxes")))
        self.heads = Heads(*(tensor[None] for tensor in self.heads))
        masks = torch.zeros(2, 2, *self.data["tgt0.masks"].shape[1:])
        boxes = torch.full((2, 2, 4), 0.5)
        self.order: list[tuple[int, int]] = []  # (image, class) of the masks in the authors' order
        for picture in range(2):
            labels = self.data[f"tgt{picture}.labels"]
            masks[picture, labels] = self.data[f"tgt{picture}.masks"].float()
            boxes[picture, labels] = self.data[f"tgt{picture}.boxes_cxcywh"]
            self.order += [(picture, int(labels[target])) for target in self.data[f"match{picture}"][1]]
        self.targets = ours.Targets(masks, masks.flatten(2).any(2).float(), boxes)

    def points(self, name: str) -> Tensor:
        """Random points `[1, 2, 2, P, 2]` by image and class; a class that is absent has arbitrary ones."""
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

    Per head their code drew points for each image's matching, then a pool and a rest for all matched masks at once, in the order of
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


class AuthorsRefiner(nn.Module):
    """The release's CLIP loss as it stands, faults and all: its part in the recorded gradients, and nothing that the framework has.

    The image is normalised a second time, as if it held 0..255, so that CLIP sees it flat; masks are squashed twice, into 0.5..1.
    """

    def __init__(self, text: Tensor) -> None:
        """`text` `[>= 2, 512]`: features of the foreground's sentence and the background's."""
        super().__init__()
        self.text = text
        self.visual = VisionTransformer(224, 16, 64, 3, 1, 4.0, output_dim=512, act_layer=QuickGELU)
        self.image_embed, self.text_embed = ProjectionHead(512), ProjectionHead(512)
        prefixes = {self.visual: "clip_refiner.clip_model.visual.", self.image_embed: "image_embed.", self.text_embed: "text_embed."}
        for module, prefix in prefixes.items():
            names = {name: f"sem_seg_head.predictor.{prefix}{name}" for name in module.state_dict()}
            shapes = released_shapes("tiny")
            module.load_state_dict({name: weight(TINY_SEED, theirs, shapes[theirs]) for name, theirs in names.items()})

    def forward(self, picture: Tensor, heads: Heads) -> list[Tensor]:
        """Normalised images and the heads' predictions to one loss a head."""
        small = F.interpolate(picture, (224, 224), mode="bilinear", antialias=True)
        mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
        losses = []
        for class_logits, mask_logits in zip(heads.class_logits, heads.mask_logits, strict=True):
            masks = (10 * F.interpolate(mask_logits, (224, 224), mode="bilinear")).sigmoid()
            regions = small[:, None] * (100 * masks).sigmoid()[:, :, None]
            features = F.normalize(self.visual(((regions - mean) / std).flatten(0, 1)), dim=-1).unflatten(0, (-1, 2))
            text = self.text_embed(self.text[class_logits.argmax(-1)])
            losses.append(soft_contrastive_loss(self.image_embed(features), text, 0.07))
        return losses


@pytest.fixture(scope="module")
def step() -> dict[str, Tensor]:
    return fixture("tiny_train")


@pytest.fixture(scope="module")
def trained(step: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """The fixtures' network after one step forward and backward: network, heads, terms, and the authors' CLIP loss of each head.

    The network runs in float64, so that what is left is the rounding of the recorded float32 step. In float32 our own gradients differ
    by about as much between one thread and two.
    """
    path = tmp_path_factory.mktemp("release") / "tiny_sod.pth"
    torch.save(released_state(released_shapes("tiny")), path)
    released = read_release(path)
    network = released.network
    network.load_state_dict(released.state, assign=True)
    for module in network.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    network.train().double()
    network.encoder.prior.overlay.register_forward_hook(lambda module, arguments, output: output.double())
    mean, std = (torch.tensor(released.description["preprocessing"][name]).view(3, 1, 1) for name in ("mean", "std"))
    picture = (fixture("tiny_io")["image"] / 255 - mean) / std
    heads = Heads(*(tensor.float() for tensor in network(picture.double(), all_heads=True)))
    labels = torch.stack([step[f"gt{picture}.masks"][0] for picture in range(2)])
    config = LossConfig(points=256)
    terms, _ = ours.losses(heads, ours.Targets.of(labels), config, Stream(step, len(heads.class_logits)))
    clip = AuthorsRefiner(step["clip.call2.text_feature_raw"])(picture, heads)
    (sum(terms) + sum(clip)).backward()
    yield network, heads, terms, clip
    path.unlink()


def test_training_predictions(trained: tuple, step: dict[str, Tensor], deviations) -> None:
    heads = trained[1]
    for head in range(4):
        prefix = f"decoder.aux{head}." if head < 3 else "decoder."
        for name, tensor in zip(("logits", "masks", "boxes"), heads, strict=True):
            deviations.check("training, predictions", tensor[head].detach(), step[f"{prefix}pred_{name}"], 1e-4)


def test_training_losses(trained: tuple, step: dict[str, Tensor], deviations) -> None:
    terms, clip = trained[2:]

    def total(*names: str) -> Tensor:
        return sum(step[f"loss_weighted.{name}{suffix}"] for name in names for suffix in ("", "_0", "_1", "_2"))

    theirs = {"label": total("loss_ce"), "mask": total("loss_mask", "loss_dice"), "box": total("loss_bbox", "loss_giou")}
    for name, expected in theirs.items():
        deviations.check(f"training, {name} loss", getattr(terms, name).detach(), expected, LOSS, "relative")
    for head, loss in enumerate(clip):
        theirs = step[f"loss_weighted.loss_clip{f'_{head}' if head < 3 else ''}"]
        deviations.check("training, CLIP loss as the release has it", loss.detach(), theirs, 1e-4)


def test_training_gradients(trained: tuple, step: dict[str, Tensor], deviations) -> None:
    """Of every part of the network; batch norm takes the mean away from what `up` adds, so its bias has none."""
    parameters = dict(trained[0].named_parameters())
    names = [name for name in step if name.startswith("grad.") and our_name(name.removeprefix("grad."))]
    assert len(names) == 23
    for name in names:
        gradient = parameters[our_name(name.removeprefix("grad."))].grad
        if name == "grad.backbone.up.bias":
            deviations.check("training, gradient of no effect", gradient, step[name], 1e-5)
        elif name == "grad.backbone.edge.conv1.weight":
            deviations.check("training, gradient of the first convolution", gradient, step[name], FIRST_CONVOLUTION, "norm")
        else:
            deviations.check("training, gradients", gradient, step[name], GRADIENT, "norm")


def test_training_running_statistics(trained: tuple, step: dict[str, Tensor], deviations) -> None:
    state = trained[0].state_dict()
    for name in [name for name in step if name.startswith("buffer_after.backbone")]:
        deviations.check("training, running statistics", state[our_name(name.removeprefix("buffer_after."))], step[name], 1e-4)
