"""Deformable attention, both implementations: against recorded values and a loop written from the definition."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from focus_framework.ops import deform_attn, deform_attn_from_logits

FIXTURE = Path(__file__).parent / "data" / "release" / "ops.safetensors"
SHAPES = [(6, 9), (4, 5), (2, 3)]


@pytest.fixture(autouse=True, params=["reference", "native"])
def _implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "native":
        pytest.importorskip("focus_ops", reason="focus-framework-ops is not installed")
    monkeypatch.setenv("FOCUS_OPS", request.param)


def example(dtype: torch.dtype = torch.float64, *, batch: int = 2, queries: int = 3, heads: int = 2, width: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(batch, sum(h * w for h, w in SHAPES), heads, width, generator=generator, dtype=torch.float64)
    locations = torch.rand(batch, queries, heads, 3, 2, 2, generator=generator, dtype=torch.float64) * 1.6 - 0.3
    weights = torch.rand(batch, queries, heads, 3, 2, generator=generator, dtype=torch.float64)
    precision = torch.promote_types(dtype, torch.float32)
    return [value.to(dtype), locations.to(precision), weights.to(precision)]


def by_definition(value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """The sum written out one sample and one corner at a time."""
    batch, _, heads, width = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    output = torch.zeros(batch, queries, heads, width, dtype=value.dtype)
    start = 0
    for level, (rows, columns) in enumerate(shapes):
        image = value[:, start : start + rows * columns].view(batch, rows, columns, heads, width)
        start += rows * columns
        for b, q, h, p in itertools.product(range(batch), range(queries), range(heads), range(points)):
            x = float(locations[b, q, h, level, p, 0]) * columns - 0.5
            y = float(locations[b, q, h, level, p, 1]) * rows - 0.5
            for i, j in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
                if 0 <= i < rows and 0 <= j < columns:
                    share = (1 - abs(y - i)) * (1 - abs(x - j)) * weights[b, q, h, level, p]
                    output[b, q, h] += share * image[b, i, j, h]
    return output.flatten(2)


def test_sums_what_the_definition_sums() -> None:
    value, locations, weights = example()
    torch.testing.assert_close(deform_attn(value, SHAPES, locations, weights), by_definition(value, SHAPES, locations, weights))


@pytest.mark.parity
def test_values_and_gradients_are_those_of_the_authors() -> None:
    recorded = {key.removeprefix("msda."): tensor for key, tensor in load_file(FIXTURE).items() if key.startswith("msda.")}
    names = ("value", "sampling_locations", "attention_weights")
    inputs = [recorded[name].requires_grad_() for name in names]
    shapes = [tuple(shape) for shape in recorded["spatial_shapes"].tolist()]
    output = deform_attn(inputs[0], shapes, *inputs[1:])
    torch.testing.assert_close(output, recorded["output"], rtol=0, atol=1e-10)
    gradients = torch.autograd.grad(output, inputs, recorded["grad_output"])
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(gradient, recorded[f"grad_{name}"], rtol=0, atol=1e-10)


def test_from_logits_is_the_softmax_over_levels_and_points_at_offset_locations() -> None:
    value, locations, logits = example()
    points = torch.rand(1, 3, 3, 2, dtype=torch.float64)
    offsets = locations * 4
    sizes = torch.tensor([[w, h] for h, w in SHAPES], dtype=torch.float64)
    expected_locations = points[:, :, None, :, None, :] + offsets / sizes[None, None, None, :, None, :]
    exponentials = logits.exp()
    expected_weights = exponentials / exponentials.sum((-1, -2), keepdim=True)
    torch.testing.assert_close(
        deform_attn_from_logits(value, SHAPES, points, offsets, logits),
        by_definition(value, SHAPES, expected_locations, expected_weights),
    )


@pytest.mark.parametrize("place", [float("nan"), float("inf"), float("-inf"), 1e30, -1e30])
def test_a_location_that_is_nowhere_gives_nothing_and_no_gradient(place: float) -> None:
    value, locations, weights = example()
    locations[:, :, :, 1] = place
    inputs = [tensor.requires_grad_() for tensor in (value, locations, weights)]
    output = deform_attn(value, SHAPES, locations, weights)
    without = weights.detach().clone()
    without[:, :, :, 1] = 0
    inside = locations.detach().clone()
    inside[:, :, :, 1] = 0.5
    torch.testing.assert_close(output, deform_attn(value, SHAPES, inside, without))
    gradients = torch.autograd.grad(output.sum(), inputs)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[1][:, :, :, 1].any()
    assert not gradients[2][:, :, :, 1].any()


@pytest.mark.parametrize("empty", [(0, 7), (7, 0), (0, 0)])
def test_an_empty_level_is_passed_over(empty: tuple[int, int]) -> None:
    value, locations, weights = example()
    expected = deform_attn(value, SHAPES, locations, weights)
    shapes = [SHAPES[0], empty, *SHAPES[1:]]
    more_locations, more_weights = (tensor[:, :, :, [0, 0, 1, 2]].requires_grad_() for tensor in (locations, weights))
    output = deform_attn(value, shapes, more_locations, more_weights)
    torch.testing.assert_close(output, expected)
    for gradient in torch.autograd.grad(output.sum(), (more_locations, more_weights)):
        assert gradient.isfinite().all()
        assert not gradient[:, :, :, 1].any()


@pytest.mark.parametrize("shapes", [[(0, 7), (7, 0)], []])
def test_without_any_pixel_the_result_is_zero_and_has_gradients_of_zeros(shapes: list[tuple[int, int]]) -> None:
    levels = len(shapes)
    value = torch.randn(2, 0, 2, 4, dtype=torch.float64)
    locations = torch.full((2, 3, 2, levels, 2, 2), float("nan"), dtype=torch.float64)
    points, offsets, logits = torch.rand(1, 3, levels, 2), torch.rand(2, 3, 2, levels, 2, 2), torch.rand(2, 3, 2, levels, 2)
    for function, inputs in (
        (deform_attn, [value, locations, torch.rand(2, 3, 2, levels, 2, dtype=torch.float64)]),
        (deform_attn_from_logits, [value.float(), points, offsets, logits]),
    ):
        leaves = [tensor.requires_grad_() for tensor in inputs]
        output = function(leaves[0], shapes, *leaves[1:])
        assert output.shape == (2, 3, 8)
        assert not output.any()
        for leaf, gradient in zip(leaves, torch.autograd.grad(output.sum(), leaves), strict=True):
            assert gradient.shape == leaf.shape
            assert not gradient.any()


def test_logits_that_are_all_minus_infinity_give_nan_wherever_the_samples_lie() -> None:
    """As PyTorch's softmax does; what the other queries and heads give is untouched."""
    value, offsets, logits = example(torch.float32)
    points = torch.rand(1, 3, 3, 2)
    offsets[0, 2, 1] = 1e6  # outside
    expected = deform_attn_from_logits(value, SHAPES, points, offsets, logits).unflatten(2, (2, 4))
    empty = torch.zeros(2, 3, 2, dtype=torch.bool)
    empty[0, 1, 0] = empty[0, 2, 1] = True
    masked = logits.masked_fill(empty[..., None, None], float("-inf")).requires_grad_()
    output = deform_attn_from_logits(value, SHAPES, points, offsets, masked).unflatten(2, (2, 4))
    assert output[empty].isnan().all()
    torch.testing.assert_close(output[~empty], expected[~empty], rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(output.sum(), masked)
    assert gradient[empty].isnan().all()
    assert gradient[~empty].isfinite().all()


@pytest.mark.parametrize("shape", [(2**62, 4), (2**31, 0), (-2, -3)])
def test_a_side_that_no_memory_has_is_refused(shape: tuple[int, int]) -> None:
    value, locations, weights = example()
    with pytest.raises(ValueError, match="a side that is negative or above"):
        deform_attn(value, [SHAPES[0], shape, SHAPES[2]], locations, weights)


@pytest.mark.parametrize("shapes", [[(2,)], [(2.0, 3.0)], [2, 3], "ab", None])
def test_levels_that_are_no_pairs_of_whole_numbers_are_refused_by_name(shapes: object) -> None:
    value, locations, weights = example()
    with pytest.raises(ValueError, match="spatial_shapes must be a list of"):
        deform_attn(value, shapes, locations, weights)


def test_pixels_beyond_the_border_are_not_multiplied_by_zero() -> None:
    value, locations, weights = example()
    value[:, SHAPES[0][0] * SHAPES[0][1]] = float("inf")  # first pixel of the second level, next in memory to the first's last
    locations[..., 0, :, :], locations[..., 1:, :, :] = 1.0, 0.75
    assert deform_attn(value, SHAPES, locations, weights).isfinite().all()


def test_no_queries_give_an_empty_result() -> None:
    value, locations, weights = example(queries=0)
    assert deform_attn(value, SHAPES, locations, weights).shape == (2, 0, 8)


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
def test_half_values_are_summed_in_single_precision(dtype: torch.dtype, tolerance: float) -> None:
    value, locations, weights = example(dtype)
    output = deform_attn(value, SHAPES, locations, weights)
    assert output.dtype == dtype
    expected = by_definition(value.double(), SHAPES, locations.double(), weights.double())
    torch.testing.assert_close(output.double(), expected, rtol=tolerance, atol=tolerance)


def test_autocast_converts_the_value_alone() -> None:
    value, locations, weights = example(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = deform_attn(value, SHAPES, locations, weights)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output, deform_attn(value.bfloat16(), SHAPES, locations, weights), rtol=0, atol=0)


def test_errors_name_the_shapes() -> None:
    value, locations, weights = example()
    with pytest.raises(ValueError, match=r"80 positions \(shape \[2, 80, 2, 4\]\), but spatial_shapes \[\(6, 9\)\] have 54"):
        deform_attn(value, SHAPES[:1], locations, weights)
    with pytest.raises(ValueError, match=r"weights have shape \[2, 3, 2, 3, 1\], needed is \[2, 3, 2, 3, 2\]"):
        deform_attn(value, SHAPES, locations, weights[..., :1])
    with pytest.raises(ValueError, match=r"locations have shape \[3, 2, 3, 2, 2\], needed is \[2, queries, 2, 3, points, 2\]"):
        deform_attn(value, SHAPES, locations[0], weights)
    with pytest.raises(ValueError, match=r"locations are torch.bfloat16, but must be torch.float32"):
        deform_attn(value.bfloat16(), SHAPES, locations.bfloat16(), weights)
    with pytest.raises(ValueError, match=r"reference_points have shape \[4, 3, 3, 2\], needed is \[2 or 1, 3, 3, 2\]"):
        deform_attn_from_logits(value, SHAPES, torch.rand(4, 3, 3, 2), locations, weights)
