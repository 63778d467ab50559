"""Matching and losses against plain loops in float64 and against SciPy's assignment."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from focus_framework.config.schema import LossConfig
from focus_framework.model.ground_decoder import Heads
from focus_framework.model.losses import (
    Targets,
    box_losses,
    iou_loss,
    label_loss,
    losses,
    mask_losses,
    matching_cost,
    order,
    sample,
    tight_boxes,
    uncertain_points,
)

HEADS, BATCH, POINTS = 3, 4, 50


@pytest.fixture
def heads() -> Heads:
    random = torch.Generator().manual_seed(0)
    shapes = ((HEADS, BATCH, 2, 3), (HEADS, BATCH, 2, 8, 10), (HEADS, BATCH, 2, 4))
    return Heads(*(torch.randn(shape, generator=random).mul_(2).requires_grad_() for shape in shapes))


@pytest.fixture
def labels() -> Tensor:
    """Four images: both classes, both with padding, background alone, foreground alone."""
    labels = torch.zeros(BATCH, 32, 40, dtype=torch.uint8)
    labels[0, 5:20, 8:30] = 1
    labels[1, 10:12, 3:38] = 1
    labels[1, :, 35:] = 255
    labels[3] = 1
    return labels


def bilinear(image: Tensor, x: float, y: float) -> float:
    """Value at (x, y) in 0..1, zero outside, pixel centres at (i + 1/2) / n."""
    height, width = image.shape
    column, row = x * width - 0.5, y * height - 0.5
    total = 0.0
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < height and 0 <= j < width:
                total += float(image[i, j]) * (1 - abs(row - i)) * (1 - abs(column - j))
    return total


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def cross_entropy(x: float, t: float) -> float:
    return -t * math.log(sigmoid(x)) - (1 - t) * math.log(1 - sigmoid(x))


def dice(logits: list[float], truth: list[float]) -> float:
    overlap = sum(sigmoid(x) * t for x, t in zip(logits, truth, strict=True))
    return 1 - (2 * overlap + 1) / (sum(map(sigmoid, logits)) + sum(truth) + 1)


def test_sampling_is_bilinear_and_zero_outside() -> None:
    maps, points = torch.randn(2, 1, 5, 7), torch.rand(2, 40, 2) * 1.4 - 0.2
    expected = [[bilinear(maps[n, 0], *map(float, point)) for point in points[n]] for n in range(2)]
    torch.testing.assert_close(sample(maps, points)[:, 0], torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_the_iou_counts_every_known_pixel_and_present_mask(heads: Heads, labels: Tensor) -> None:
    targets = Targets.of(labels)
    expected, present = 0.0, int(targets.present.sum())
    for image in range(BATCH):
        cells = targets.masks[image].double().reshape(2, 8, 4, 10, 4).mean((2, 4))
        for kind in range(2):
            if targets.present[image, kind]:
                for head in range(HEADS):
                    overlap = union = 0.0
                    for row, column in np.ndindex(8, 10):
                        p, t = sigmoid(float(heads.mask_logits.detach()[head, image, kind, row, column])), float(cells[kind, row, column])
                        overlap += p * t
                        union += p * float(cells[:, row, column].sum()) + t - p * t
                    expected += (1 - (overlap + 1) / (union + 1)) / present
    found = iou_loss(heads.mask_logits, targets)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)
    found.backward()
    assert heads.mask_logits.grad is not None and heads.mask_logits.grad[:, 1, :, :, 9].abs().max() == 0  # padding teaches nothing


def test_the_iou_is_part_of_the_mask_term(heads: Heads, labels: Tensor) -> None:
    def mask_term(**weights: float) -> Tensor:
        return losses(heads, Targets.of(labels), LossConfig(points=POINTS, **weights), lambda *shape: torch.full(shape, 0.4))[0].mask

    alone = mask_term(mask=0.0, iou=2.0)
    assert float(alone) > 0 and float(mask_term(mask=0.0)) == 0
    torch.testing.assert_close(mask_term(iou=2.0), mask_term() + alone)


def test_boxes_are_tight(labels: Tensor) -> None:
    boxes = Targets.of(labels).boxes
    torch.testing.assert_close(boxes[0, 0], torch.tensor([19 / 40, 12.5 / 32, 22 / 40, 15 / 32]))
    torch.testing.assert_close(boxes[3, 0], torch.tensor([0.5, 0.5, 1.0, 1.0]))
    assert tight_boxes(torch.zeros(1, 1, 4, 4, dtype=torch.bool)).isfinite().all()


def test_padding_is_neither_foreground_nor_background(labels: Tensor) -> None:
    targets = Targets.of(labels)
    assert targets.masks[1, :, :, 35:].sum() == 0
    assert targets.present.tolist() == [[1, 1], [1, 1], [0, 1], [1, 0]]


def test_the_assignment_is_that_of_scipy(heads: Heads, labels: Tensor) -> None:
    targets = Targets.of(labels)
    points = torch.rand(HEADS, BATCH, POINTS, 2, generator=torch.Generator().manual_seed(1))
    cost = matching_cost(heads, targets, points).detach()
    ordered = order(heads, cost)
    swaps = 0
    for level in range(HEADS):
        for picture in range(BATCH):
            present = [t for t in range(2) if targets.present[picture, t]]
            queries, columns = linear_sum_assignment(cost[level, picture][:, present].numpy())
            for query, column in zip(queries, columns, strict=True):
                target = present[column]
                swaps += query != target
                for mine, theirs in zip(ordered, heads, strict=True):
                    torch.testing.assert_close(mine[level, picture, target], theirs[level, picture, query])
    assert 0 < swaps < HEADS * int(targets.present.sum())  # both assignments occur in this test


def test_matching_cost_against_loops(heads: Heads, labels: Tensor) -> None:
    targets, points = Targets.of(labels), torch.rand(HEADS, BATCH, POINTS, 2)
    cost = matching_cost(heads, targets, points)
    for level, picture, query, target in np.ndindex(HEADS, BATCH, 2, 2):
        places = [tuple(map(float, p)) for p in points[level, picture]]
        logits = [bilinear(heads.mask_logits[level, picture, query].detach(), *p) for p in places]
        truth = [bilinear(targets.masks[picture, target], *p) for p in places]
        probability = heads.class_logits[level, picture, query].detach().double().softmax(0)[target]
        entropy = sum(map(cross_entropy, logits, truth)) / POINTS
        expected = (-float(probability) + 5 * entropy + 5 * dice(logits, truth)) * float(targets.present[picture, target])
        assert float(cost[level, picture, query, target].detach()) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_mask_losses_against_loops(heads: Heads, labels: Tensor) -> None:
    targets = Targets.of(labels)
    pool, rest = torch.rand(HEADS, BATCH, 2, 60, 2), torch.rand(HEADS, BATCH, 2, 5, 2)
    ours = mask_losses(heads.mask_logits, targets, pool, rest, 15)
    expected = [0.0, 0.0]
    for level, picture, query in np.ndindex(HEADS, BATCH, 2):
        mask = heads.mask_logits[level, picture, query].detach()
        places = sorted((tuple(map(float, p)) for p in pool[level, picture, query]), key=lambda p: abs(bilinear(mask, *p)))[:15]
        places += [tuple(map(float, p)) for p in rest[level, picture, query]]
        logits = [bilinear(mask, *p) for p in places]
        truth = [bilinear(targets.masks[picture, query], *p) for p in places]
        share = float(targets.present[picture, query] / targets.present.sum())
        expected[0] += share * sum(map(cross_entropy, logits, truth)) / len(places)
        expected[1] += share * dice(logits, truth)
    assert [float(loss.detach()) for loss in ours] == pytest.approx(expected, rel=1e-4)


def test_label_loss_is_torchs_weighted_cross_entropy_of_each_head(heads: Heads, labels: Tensor) -> None:
    present = Targets.of(labels).present
    classes = torch.where(present > 0, torch.tensor([0, 1]), 2)
    weight = torch.tensor([1.0, 1.0, 0.1])
    expected = sum(torch.nn.functional.cross_entropy(logits.flatten(0, 1), classes.flatten(), weight) for logits in heads.class_logits)
    torch.testing.assert_close(label_loss(heads.class_logits, present, 0.1), expected)


def test_a_perfect_box_costs_nothing(labels: Tensor) -> None:
    targets = Targets.of(labels)
    perfect = torch.logit(targets.boxes.clamp(1e-6, 1 - 1e-6))[None]
    distance, overlap = box_losses(perfect, targets)
    assert float(distance) == pytest.approx(0, abs=1e-4)
    assert float(overlap) == pytest.approx(0, abs=1e-4)


def test_uncertain_points_are_those_nearest_to_zero() -> None:
    logits = torch.linspace(-8, 8, 9).repeat(4, 1)[None, None]
    chosen = uncertain_points(logits, torch.rand(1, 400, 2), torch.empty(1, 0, 2), 50)
    assert (chosen[..., 0] - 0.5).abs().max() < 0.25


def test_the_terms_are_weighted_and_reach_every_head(heads: Heads, labels: Tensor) -> None:
    random = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random)

    config = LossConfig(points=64)
    terms, _ = losses(heads, Targets.of(labels), config, draw)
    sum(terms).backward()
    for part in heads:
        assert part.grad is not None
        assert (part.grad.flatten(1).abs().sum(1) > 0).all()
    random.manual_seed(3)
    doubled, _ = losses(heads, Targets.of(labels), config.model_copy(update={"mask": 10.0, "label": 2.0, "box": 2.0}), draw)
    for once, twice in zip(terms, doubled, strict=True):
        torch.testing.assert_close(2 * once, twice)


def test_half_precision_predictions_are_compared_in_float32(heads: Heads, labels: Tensor) -> None:
    halved = Heads(*(part.detach().bfloat16() for part in heads))
    with torch.autocast("cpu", torch.bfloat16):
        terms, _ = losses(halved, Targets.of(labels), LossConfig(points=64), lambda *shape: torch.rand(shape))
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_images_of_one_class_or_none_give_finite_losses(heads: Heads, value: int) -> None:
    labels = torch.full((BATCH, 32, 40), value, dtype=torch.uint8)
    terms, _ = losses(heads, Targets.of(labels), LossConfig(points=64), lambda *shape: torch.rand(shape))
    sum(terms).backward()
    assert all(term.isfinite() for term in terms)
    assert all(part.grad is not None and part.grad.isfinite().all() for part in heads)
