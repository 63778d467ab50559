"""Matching and losses of all decoder heads at once (docs/method.md, 12; after Mask2Former).

There are two queries and at most two targets, so matching is a comparison of two sums: done on the device, for all heads and images
together, with no trip to the host. Afterwards index 0 of every tensor is the query matched to the foreground, 1 the other one.
Everything runs in float32, under autocast too. Shapes: L heads, B images, P points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou_loss

from ..config.schema import LossConfig
from .ground_decoder import BACKGROUND, FOREGROUND, NO_OBJECT, Heads

BOX_L1, BOX_GIOU = 5.0, 2.0
MATCH_LABEL, MATCH_MASK, MATCH_DICE = 1.0, 5.0, 5.0

Draw = Callable[..., Tensor]
"""``draw(*shape)``: uniform numbers in 0..1 on the device of the predictions."""


@dataclass(frozen=True)
class Targets:
    """The truth of a batch."""

    masks: Tensor
    """`[B, 2, H, W]` float, 0 or 1: foreground, background. A pixel that is neither (padding) is 0 in both."""
    present: Tensor
    """`[B, 2]` float, 0 or 1: whether the class occurs in the image."""
    boxes: Tensor
    """`[B, 2, 4]`: centre x, centre y, width, height of the tight box, in 0..1 of the (padded) image."""

    @classmethod
    def of(cls, labels: Tensor) -> Targets:
        """From labels `[B, H, W]`: 1 foreground, 0 background, anything else neither."""
        masks = torch.stack([labels == 1, labels == 0], 1)
        return cls(masks.float(), masks.flatten(2).any(2).float(), tight_boxes(masks))


class LossTerms(NamedTuple):
    """Scalars, each weighted and summed over the decoder heads."""

    label: Tensor
    mask: Tensor
    box: Tensor


def tight_boxes(masks: Tensor) -> Tensor:
    """Tight boxes `[B, N, 4]` (cx, cy, w, h in 0..1) of bool masks `[B, N, H, W]`; the far corner is the last pixel plus one. An empty
    mask has a box without meaning, which no loss looks at."""

    def bounds(hit: Tensor) -> tuple[Tensor, Tensor]:
        length = hit.shape[-1]
        places = torch.arange(length, device=hit.device, dtype=torch.float32)
        low = torch.where(hit, places, length).amin(-1)
        high = torch.where(hit, places + 1, 0).amax(-1)
        return low / length, high / length

    x0, x1 = bounds(masks.any(2))
    y0, y1 = bounds(masks.any(3))
    return box_convert(torch.stack([x0, y0, x1, y1], -1), "xyxy", "cxcywh")


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Values `[N, C, P]` of maps `[N, C, H, W]` at points `[N, P, 2]` (x, y in 0..1), bilinear, zero outside."""
    grid = 2.0 * points[:, None] - 1.0
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, :, 0]


def matching_cost(heads: Heads, targets: Targets, points: Tensor) -> Tensor:
    """Cost `[L, B, 2, 2]` of giving a query (third index) to a target (fourth), from masks compared at `points` `[L, B, P, 2]`. A
    target that does not occur costs nothing, so that the other one decides."""
    levels, batch, count, _ = points.shape
    logits = sample(heads.mask_logits.float().flatten(0, 1), points.flatten(0, 1)).unflatten(0, (levels, batch))
    at_targets = sample(targets.masks, points.transpose(0, 1).flatten(1, 2)).unflatten(2, (levels, count))
    truth = at_targets.permute(2, 0, 1, 3)
    # Cross entropy of query q against target t: the mean of softplus(x) - x * t, written as two matrix products.
    cross_entropy = (F.softplus(logits).sum(-1, keepdim=True) - logits @ truth.mT) / count
    probability = logits.sigmoid()
    overlap, sizes = probability @ truth.mT, probability.sum(-1, keepdim=True) + truth.sum(-1).unsqueeze(-2)
    dice = 1 - (2 * overlap + 1) / (sizes + 1)
    label = -heads.class_logits.float().softmax(-1)[..., [FOREGROUND, BACKGROUND]]
    cost = MATCH_LABEL * label + MATCH_MASK * cross_entropy + MATCH_DICE * dice
    return cost * targets.present[:, None]


def order(heads: Heads, cost: Tensor) -> Heads:
    """The heads with their queries in the order of the targets, by the cheaper of the two assignments."""
    swapped = cost[..., 0, 1] + cost[..., 1, 0] < cost[..., 0, 0] + cost[..., 1, 1]
    index = torch.stack([swapped, ~swapped], -1).long()

    def gather(tensor: Tensor) -> Tensor:
        return torch.take_along_dim(tensor, index.view(*index.shape, *[1] * (tensor.dim() - 3)), 2)

    return Heads(*(gather(tensor) for tensor in heads))


def label_loss(class_logits: Tensor, present: Tensor, no_object: float) -> Tensor:
    """Cross entropy of ordered class logits `[L, B, 2, 3]`, mean over a head's queries weighted by class, sum over heads."""
    wanted = torch.tensor([FOREGROUND, BACKGROUND], device=class_logits.device)
    classes = torch.where(present > 0, wanted, NO_OBJECT)
    weight = torch.where(present > 0, 1.0, no_object)
    loss = -class_logits.float().log_softmax(-1)
    chosen = torch.take_along_dim(loss, classes[None, :, :, None].expand(len(loss), -1, -1, -1), 3).squeeze(3)
    return (chosen * weight).sum() / weight.sum()


def uncertain_points(logits: Tensor, pool: Tensor, rest: Tensor, count: int) -> Tensor:
    """The `count` points of `pool` `[N, P', 2]` where masks `[N, 1, H, W]` are nearest to undecided, then the points `rest`."""
    doubt = -sample(logits, pool)[:, 0].abs()
    chosen = doubt.topk(count, 1).indices
    return torch.cat([torch.take_along_dim(pool, chosen[..., None], 1), rest], 1)


def mask_losses(mask_logits: Tensor, targets: Targets, pool: Tensor, rest: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Binary cross entropy and dice of ordered mask logits `[L, B, 2, h, w]`, mean over the present masks, sum over heads.

    `pool` `[L, B, 2, P', 2]` and `rest` `[L, B, 2, R, 2]` are random points, of which `uncertain_points` makes `count + R`.
    """
    levels = len(mask_logits)
    logits = mask_logits.float().permute(1, 2, 0, 3, 4).flatten(0, 2)[:, None]
    with torch.no_grad():
        pool, rest = (points.permute(1, 2, 0, 3, 4).flatten(0, 2) for points in (pool, rest))
        points = uncertain_points(logits, pool, rest, count)
        truth = sample(targets.masks.flatten(0, 1)[:, None], points.unflatten(0, (-1, levels)).flatten(1, 2))
        truth = truth.reshape(len(points), -1)
        share = (targets.present / targets.present.sum().clamp_min(1)).flatten().repeat_interleave(levels)
    predicted = sample(logits, points)[:, 0]
    cross_entropy = F.binary_cross_entropy_with_logits(predicted, truth, reduction="none").mean(1)
    probability = predicted.sigmoid()
    dice = 1 - (2 * (probability * truth).sum(1) + 1) / (probability.sum(1) + truth.sum(1) + 1)
    return (cross_entropy * share).sum(), (dice * share).sum()


def iou_loss(mask_logits: Tensor, targets: Targets) -> Tensor:
    """1 - IoU of ordered mask logits `[L, B, 2, h, w]` with the truth, mean over the present masks, sum over heads (after BASNet, Qin et
    al. 2019). Where the other mask losses look at points, most of them near an outline, this one counts every pixel: the truth is
    brought to `h` x `w` as the share of each class in a cell."""
    probability = mask_logits.float().sigmoid()
    height, width = mask_logits.shape[-2:]
    truth = F.adaptive_avg_pool2d(targets.masks, (height, width))
    known = truth.sum(1, keepdim=True)
    overlap = (probability * truth).sum((-2, -1))
    union = (probability * known).sum((-2, -1)) + truth.sum((-2, -1)) - overlap
    share = targets.present / targets.present.sum().clamp_min(1)
    return ((1 - (overlap + 1) / (union + 1)) * share).sum()


def box_losses(boxes: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """L1 and generalised IoU loss of ordered boxes `[L, B, 2, 4]` (before the sigmoid), mean over the present ones, sum over heads."""
    predicted = boxes.float().sigmoid()
    wanted = targets.boxes.expand_as(predicted)
    share = targets.present / targets.present.sum().clamp_min(1)
    distance = (predicted - wanted).abs().sum(-1)
    corners = (box_convert(b, "cxcywh", "xyxy") for b in (predicted, wanted))
    overlap = generalized_box_iou_loss(*corners, eps=1e-6)
    return (distance * share).sum(), (overlap * share).sum()


def losses(heads: Heads, targets: Targets, config: LossConfig, draw: Draw) -> tuple[LossTerms, Heads]:
    """The weighted terms, and the heads in the order of the targets. `draw` is called three times: for the points of the matching
    `[L, B, P, 2]`, the pool `[L, B, 2, oversample * P, 2]` and the rest `[L, B, 2, (1 - importance) * P, 2]` of the mask loss."""
    levels, batch = heads.class_logits.shape[:2]
    certain = int(config.importance * config.points)
    with torch.no_grad():
        cost = matching_cost(heads, targets, draw(levels, batch, config.points, 2))
    ordered = order(heads, cost)
    pool = draw(levels, batch, 2, int(config.oversample * config.points), 2)
    rest = draw(levels, batch, 2, config.points - certain, 2)
    cross_entropy, dice = mask_losses(ordered.mask_logits, targets, pool, rest, certain)
    mask = config.mask * (cross_entropy + dice)
    if config.iou:
        mask = mask + config.iou * iou_loss(ordered.mask_logits, targets)
    distance, overlap = box_losses(ordered.boxes, targets)
    terms = LossTerms(
        label=config.label * label_loss(ordered.class_logits, targets.present, config.no_object),
        mask=mask,
        box=config.box * (BOX_L1 * distance + BOX_GIOU * overlap),
    )
    return terms, ordered
