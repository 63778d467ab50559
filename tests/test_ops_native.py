"""The compiled op: derivatives, tracing, memory layouts, threads, and how it is chosen."""

from __future__ import annotations

import logging
import mmap
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from focus_framework import ops
from focus_framework.errors import ConfigError, DeviceError
from focus_framework.model.ops import choice, reference

focus_ops = pytest.importorskip("focus_ops", reason="focus-framework-ops is not installed")
architectures = pytest.importorskip("focus_ops.architectures", reason="focus-framework-ops is an earlier build")

SHAPES = [(5, 7), (4, 3), (2, 2)]
SIDES = [side for shape in SHAPES for side in shape]
LENGTH = sum(height * width for height, width in SHAPES)


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOCUS_OPS", "native")


def plain_inputs(*, width: int = 5, points: int = 2, heads: int = 3, queries: int = 6, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    value = torch.randn(2, LENGTH, heads, width, generator=generator, dtype=torch.float64)
    locations = torch.rand(2, queries, heads, 3, points, 2, generator=generator, dtype=torch.float64) * 1.4 - 0.2
    weights = torch.rand(2, queries, heads, 3, points, generator=generator, dtype=torch.float64)
    precision = torch.promote_types(dtype, torch.float32)
    return [value.to(dtype).requires_grad_(), locations.to(precision).requires_grad_(), weights.to(precision).requires_grad_()]


def fused_inputs(*, batches: int = 1, dtype: torch.dtype = torch.float64, **sizes: int) -> list[Tensor]:
    value, locations, logits = (tensor.detach() for tensor in plain_inputs(dtype=dtype, **sizes))
    points = torch.rand(batches, locations.shape[1], 3, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    tensors = (value, points.to(locations.dtype), locations * 6 - 3, logits * 4)
    return [tensor.requires_grad_() for tensor in tensors]


def gradients(output: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    probe = torch.randn(output.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return torch.autograd.grad(output, inputs, probe.to(output.dtype))


@pytest.mark.parametrize("points", [1, 4])
@pytest.mark.parametrize("width", [1, 8, 16, 32, 33, 64])
def test_any_number_of_channels_and_points_gives_what_plain_pytorch_gives(width: int, points: int) -> None:
    inputs = plain_inputs(width=width, points=points)
    ours, plain = ops.deform_attn(inputs[0], SHAPES, *inputs[1:]), reference.deform_attn(inputs[0], SHAPES, *inputs[1:])
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients(ours, inputs), gradients(plain, inputs), rtol=0, atol=1e-10)


@pytest.mark.parametrize("batches", [1, 2])
def test_the_fused_entry_gives_what_plain_pytorch_gives(batches: int) -> None:
    inputs = fused_inputs(batches=batches)
    ours = ops.deform_attn_from_logits(inputs[0], SHAPES, *inputs[1:])
    plain = reference.deform_attn_from_logits(inputs[0], SHAPES, *inputs[1:])
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients(ours, inputs), gradients(plain, inputs), rtol=0, atol=1e-10)


# A bound of three roundings to the type: of the value, of the output's gradient and of the result.
@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 3 * 2**-11), (torch.bfloat16, 3 * 2**-8)])
@pytest.mark.parametrize("queries", [2, 60])  # few samples are converted as they are read, many beforehand
def test_half_types_lose_no_more_than_their_own_rounding(dtype: torch.dtype, tolerance: float, queries: int) -> None:
    exact, rounded = fused_inputs(queries=queries, width=32), fused_inputs(queries=queries, width=32, dtype=dtype)
    expected = reference.deform_attn_from_logits(exact[0], SHAPES, *exact[1:])
    output = ops.deform_attn_from_logits(rounded[0], SHAPES, *rounded[1:])
    assert output.dtype == dtype
    for ours, theirs in zip((output, *gradients(output, rounded)), (expected, *gradients(expected, exact)), strict=True):
        assert (ours.double() - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize("queries", [2, 60])
def test_single_precision_loses_no_more_than_twice_what_plain_pytorch_loses(queries: int) -> None:
    exact, rounded = fused_inputs(queries=queries, width=32), fused_inputs(queries=queries, width=32, dtype=torch.float32)

    def results(function: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
        output = function(inputs[0], SHAPES, *inputs[1:])
        return [tensor.double() for tensor in (output, *gradients(output, inputs))]

    expected = results(reference.deform_attn_from_logits, exact)
    plain, ours = results(reference.deform_attn_from_logits, rounded), results(ops.deform_attn_from_logits, rounded)
    for a, b, truth in zip(ours, plain, expected, strict=True):
        assert (a - truth).abs().max() <= 2 * (b - truth).abs().max()


def test_softmax_is_exact_to_single_precision_over_a_wide_range() -> None:
    value = torch.eye(12).view(1, 12, 1, 12)  # four rows of three pixels: each sample reads one weight back
    logits = torch.linspace(-30, 10, 12).view(1, 1, 1, 1, 12)
    points = torch.full((1, 1, 1, 2), 0.5)
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(3.0), indexing="ij")
    offsets = torch.stack([columns + 0.5 - 1.5, rows + 0.5 - 2], -1).view(1, 1, 1, 1, 12, 2)
    output = ops.deform_attn_from_logits(value, [(4, 3)], points, offsets, logits)
    torch.testing.assert_close(output.flatten().double(), logits.flatten().double().softmax(0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("count", [4, 12, 7])  # lengths known to the compiler, and another
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_of_nothing_but_minus_infinity_is_nan_and_of_one_number_is_one(dtype: torch.dtype, count: int) -> None:
    value, points = torch.full((1, 1, 1, 1), 3.0, dtype=dtype), torch.full((1, 2, 1, 2), 0.5, dtype=dtype)
    logits = torch.full((1, 2, 1, 1, count), float("-inf"), dtype=dtype)
    logits[0, 1, 0, 0, 1] = -2
    output = ops.deform_attn_from_logits(value, [(1, 1)], points, torch.zeros(1, 2, 1, 1, count, 2, dtype=dtype), logits)
    assert output[0, 0].isnan().all()
    torch.testing.assert_close(output[0, 1].item(), 3.0)


def test_gradcheck() -> None:
    sizes = {"width": 3, "points": 2, "heads": 2, "queries": 3}
    assert torch.autograd.gradcheck(lambda v, x, w: ops.deform_attn(v, SHAPES, x, w), plain_inputs(**sizes))
    assert torch.autograd.gradcheck(lambda v, r, o, z: ops.deform_attn_from_logits(v, SHAPES, r, o, z), fused_inputs(**sizes))


def test_opcheck() -> None:
    value, locations, weights = plain_inputs()
    torch.library.opcheck(torch.ops.focus_ops.deform_attn.default, (value, SIDES, locations, weights))
    fused = fused_inputs()
    torch.library.opcheck(torch.ops.focus_ops.deform_attn_from_logits.default, (fused[0], SIDES, *fused[1:]))
    gradient = torch.randn(2, 6, 15, dtype=torch.float64)
    detached = [tensor.detach() for tensor in (value, locations, weights)]
    arguments = (gradient, detached[0], SIDES, *detached[1:], False)
    torch.library.opcheck(torch.ops.focus_ops.deform_attn_backward.default, arguments)


class Sampler(nn.Module):
    """The op between other operations, as in a network."""

    def forward(self, value: Tensor, points: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
        shapes = [(value.shape[1] - 16 - i, 1) if i == 0 else (4, 4) for i in range(2)]
        return ops.deform_attn_from_logits(value * 2, shapes, points, offsets, logits).tanh()


def sampler_inputs(length: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = [(1, length, 2, 8), (1, 5, 2, 2), (1, 5, 2, 2, 3, 2), (1, 5, 2, 2, 3)]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def test_compiles_to_one_graph_for_all_sizes() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    compiled = torch.compile(Sampler(), fullgraph=True, dynamic=True, backend=counter)
    for length in (40, 41, 67):
        inputs = sampler_inputs(length)
        ours, expected = compiled(*inputs), Sampler()(*inputs)
        torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(gradients(ours, inputs), gradients(expected, inputs))
    assert counter.frame_count == 1


def test_compiles_under_autocast() -> None:
    inputs = sampler_inputs(30)
    torch._dynamo.reset()
    compiled = torch.compile(Sampler(), fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, expected = compiled(*inputs), Sampler()(*inputs)
    assert ours.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(ours, expected)


class Bare(Sampler):
    """The compiled op itself, whatever is chosen."""

    def forward(self, value: Tensor, points: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
        return focus_ops.deform_attn_from_logits(value * 2, [(value.shape[1] - 16, 1), (4, 4)], points, offsets, logits).tanh()


@pytest.mark.parametrize(("module", "compiled"), [(Sampler(), False), (Bare(), True)], ids=["chosen", "bare"])
def test_exports_as_plain_pytorch_unless_the_compiled_op_is_called_itself(module: nn.Module, compiled: bool) -> None:
    inputs = tuple(tensor.detach() for tensor in sampler_inputs(30))
    program = torch.export.export(module, inputs)
    assert any("focus_ops" in str(node.target) for node in program.graph.nodes) == compiled
    torch.testing.assert_close(program.module()(*inputs), Sampler()(*inputs))


def test_autocast_of_the_bare_operator_keeps_locations_and_weights_in_single_precision() -> None:
    value, locations, weights = plain_inputs(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = focus_ops.deform_attn(value, SHAPES, locations, weights.bfloat16())
    expected = focus_ops.deform_attn(value.bfloat16(), SHAPES, locations, weights.bfloat16().float())
    torch.testing.assert_close(output, expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_a_network_predicts_may_come_in_the_half_type_of_the_value(dtype: torch.dtype) -> None:
    half = [tensor.detach().to(tensor.dtype if i == 1 else dtype) for i, tensor in enumerate(fused_inputs(dtype=torch.float32))]
    leaves = [tensor.clone().requires_grad_() for tensor in half]
    output = focus_ops.deform_attn_from_logits(leaves[0], SHAPES, *leaves[1:])
    single = [tensor.to(torch.float32 if i else dtype).requires_grad_() for i, tensor in enumerate(half)]
    expected = focus_ops.deform_attn_from_logits(single[0], SHAPES, *single[1:])
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    for i, (ours, wanted) in enumerate(zip(gradients(output, leaves), gradients(expected, single), strict=True)):
        assert ours.dtype == leaves[i].dtype
        rounded = i == 1  # the reference points' is a sum of the offsets' gradients, which were rounded to the half type
        bound = 4 * float(torch.finfo(dtype).eps) * wanted.abs().max().item() if rounded else 0
        torch.testing.assert_close(ours, wanted.to(ours.dtype), rtol=0, atol=bound)


def test_autocast_of_the_fused_operator_leaves_what_a_network_predicts_in_its_half_type() -> None:
    value, points, offsets, logits = fused_inputs(dtype=torch.float32)
    predicted = (offsets.bfloat16(), logits.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = focus_ops.deform_attn_from_logits(value, SHAPES, points, *predicted)
        mixed = focus_ops.deform_attn_from_logits(value, SHAPES, points, offsets, logits.bfloat16())
    expected = ops.deform_attn_from_logits(value.bfloat16(), SHAPES, points, *predicted)
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    expected = ops.deform_attn_from_logits(value.bfloat16(), SHAPES, points, offsets, logits.bfloat16())
    torch.testing.assert_close(mixed, expected, rtol=0, atol=0)


def squares(inputs: list[Tensor], shapes: list[tuple[int, int]] = SHAPES) -> Callable[[Tensor], Tensor]:
    """A function of the value that is not linear, so that its second derivative is not zero."""
    if len(inputs) == 3:
        return lambda value: ops.deform_attn(value, shapes, *inputs[1:]).square().sum()
    return lambda value: ops.deform_attn_from_logits(value, shapes, *inputs[1:]).square().sum()


@pytest.mark.parametrize("make", [plain_inputs, fused_inputs])
def test_torch_func_gives_the_gradients_of_backward(make: Callable[[], list[Tensor]]) -> None:
    inputs = [tensor.detach() for tensor in make()]
    function, leaf = squares(inputs), inputs[0].clone().requires_grad_()
    (expected,) = torch.autograd.grad(function(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(function)(inputs[0]), expected, rtol=0, atol=1e-12)
    several = torch.func.vmap(torch.func.grad(function))(torch.stack([inputs[0], 2 * inputs[0]]))
    torch.testing.assert_close(several, torch.stack([expected, 2 * expected]))


@pytest.mark.parametrize("make", [plain_inputs, fused_inputs])
def test_forward_mode_is_refused_and_not_taken_for_zero(make: Callable[[], list[Tensor]]) -> None:
    inputs = [tensor.detach() for tensor in make()]
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        torch.func.jvp(squares(inputs), (inputs[0],), (torch.ones_like(inputs[0]),))
    with torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        squares(inputs)(torch.autograd.forward_ad.make_dual(inputs[0], torch.ones_like(inputs[0])))
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        torch.func.hessian(squares(inputs))(inputs[0])


def test_a_second_derivative_by_torch_func_is_refused() -> None:
    inputs = [tensor.detach() for tensor in plain_inputs()]
    with pytest.raises(NotImplementedError, match="no second derivative"):
        torch.func.grad(lambda value: torch.func.grad(squares(inputs))(value).sum())(inputs[0])


def test_a_second_derivative_is_refused() -> None:
    inputs = plain_inputs()
    output = ops.deform_attn(inputs[0], SHAPES, *inputs[1:])
    (first,) = torch.autograd.grad(output.square().sum(), inputs[:1], create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        first.sum().backward()


def test_any_memory_layout_is_read() -> None:
    inputs = plain_inputs()
    expected = ops.deform_attn(inputs[0], SHAPES, *inputs[1:])
    strided = [tensor.detach().mT.contiguous().mT.requires_grad_() for tensor in inputs]
    assert not any(tensor.is_contiguous() for tensor in strided)
    output = ops.deform_attn(strided[0], SHAPES, *strided[1:])
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    probe = torch.ones(1, 1, 1, dtype=torch.float64).expand_as(output)
    ours, theirs = torch.autograd.grad(output, strided, probe), torch.autograd.grad(expected, inputs, probe.contiguous())
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-14)  # on a GPU a sum in any order
    torch.testing.assert_close(ours[1:], theirs[1:], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_changes_no_bit(dtype: torch.dtype) -> None:
    inputs = fused_inputs(queries=50, dtype=dtype)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            output = ops.deform_attn_from_logits(inputs[0], SHAPES, *inputs[1:])
            results.append((output, *gradients(output, inputs)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(ours, first) for ours, first in zip(other, results[0], strict=True))


def test_offsets_beyond_32_bits() -> None:
    side, batches = 256, 2**11 + 1
    count = batches * side * side * 16
    assert count > 2**31
    try:
        pages = mmap.mmap(-1, 2 * count)  # 4 GiB of addresses, which cost no memory until they are written
    except OSError:
        pytest.skip("the system does not lend 4 GiB of addresses")
    value = torch.frombuffer(pages, dtype=torch.bfloat16).view(batches, side * side, 1, 16)
    value[-1, -1] = 3.0
    locations = torch.full((batches, 1, 1, 1, 1, 2), 1 - 0.5 / side)  # the centre of the last pixel
    output = ops.deform_attn(value, [(side, side)], locations, torch.ones(batches, 1, 1, 1, 1))
    assert output[-1].eq(3).all()
    assert not output[:-1].any()


def test_the_operator_itself_names_shapes_and_types() -> None:
    value, locations, weights = plain_inputs()
    with pytest.raises(RuntimeError, match=r"weights has shape \[2, 6, 3, 3, 1\], needed is \[2, 6, 3, 3, 2\] \(batch, queries"):
        focus_ops.deform_attn(value, SHAPES, locations, weights[..., :1])
    with pytest.raises(RuntimeError, match=r"value of shape \[2, 51, 3, 5\] has 51 positions, but spatial_shapes \[5, 7\] has 35"):
        focus_ops.deform_attn(value, SHAPES[:1], locations, weights)
    with pytest.raises(RuntimeError, match=r"locations must be float32 for a value that is not float64"):
        focus_ops.deform_attn(value.bfloat16(), SHAPES, locations.bfloat16(), weights)
    with pytest.raises(RuntimeError, match=r"spatial_shapes has a negative size"):
        focus_ops.deform_attn(value, [(-5, -7), (4, 3), (2, 2)], locations, weights)
    with pytest.raises(RuntimeError, match=r"value must be float32, float64, bfloat16 or float16"):
        focus_ops.deform_attn(value.detach().long(), SHAPES, locations.detach().float(), weights.detach().float())


def calls_that_are_refused() -> dict[str, tuple[Callable[..., object], tuple[object, ...]]]:
    """Name to operator and arguments; each call is wrong in one way."""
    operators = torch.ops.focus_ops
    value, locations, weights = (tensor.detach() for tensor in plain_inputs())
    _, points, offsets, logits = (tensor.detach() for tensor in fused_inputs())
    gradient = torch.zeros(2, 6, 15, dtype=torch.float64)
    plain = {
        "a level too few": (value, SIDES[:4], locations, weights),
        "half a level": (value, SIDES[:5], locations, weights),
        "negative sides": (value, [-5, -7, *SIDES[2:]], locations, weights),
        "sides that wrap around": (value[:, :16], [2**62, 4, *SIDES[2:]], locations, weights),
        "a side of 2^31": (value[:, :0], [2**31, 0, 0, 0, 0, 0], locations, weights),
        "a sum that wraps around": (value[:, :2], [*[2**31 - 1] * 4, 0, 0], locations, weights),
        "a point too few": (value, SIDES, locations, weights[..., :1]),
        "locations of another batch": (value, SIDES, locations[:1], weights),
        "locations without x": (value, SIDES, locations[..., :1], weights),
        "locations without a level": (value, SIDES, locations[:, :, :, 0], weights),
        "values without heads": (value[:, :, 0], SIDES, locations, weights),
        "half locations": (value.bfloat16(), SIDES, locations.bfloat16(), weights.float()),
        "double weights": (value.float(), SIDES, locations.float(), weights),
        "whole values": (value.long(), SIDES, locations.float(), weights.float()),
    }
    fused = {
        "reference points of three images": (value, SIDES, points.expand(3, -1, -1, -1), offsets, logits),
        "reference points without a level": (value, SIDES, points[:, :, 0], offsets, logits),
        "single reference points": (value, SIDES, points.float(), offsets, logits),
        "logits without a level": (value, SIDES, points, offsets, logits[:, :, :, 0]),
        "half offsets and single logits": (value.bfloat16(), SIDES, points.float(), offsets.bfloat16(), logits.float()),
        "half reference points": (value.bfloat16(), SIDES, points.bfloat16(), offsets.bfloat16(), logits.bfloat16()),
    }
    backward = {
        "a gradient of another shape": (gradient[..., 1:], value, SIDES, locations, weights, False),
        "a gradient of another type": (gradient.float(), value, SIDES, locations, weights, False),
        "a gradient and a wrong value": (gradient, value, SIDES[:4], locations, weights, False),
    }
    return {
        **{name: (operators.deform_attn, arguments) for name, arguments in plain.items()},
        **{name: (operators.deform_attn_from_logits, arguments) for name, arguments in fused.items()},
        **{name: (operators.deform_attn_backward, arguments) for name, arguments in backward.items()},
    }


@pytest.mark.parametrize("name", list(calls_that_are_refused()))
def test_what_the_kernels_refuse_is_refused_without_data_too(name: str) -> None:
    operator, arguments = calls_that_are_refused()[name]
    with pytest.raises(RuntimeError, match="focus_ops: "):
        operator(*arguments)
    with pytest.raises(RuntimeError, match="focus_ops: "):
        operator(*(argument.to("meta") if isinstance(argument, Tensor) else argument for argument in arguments))


def test_a_gradient_on_another_device_is_refused() -> None:
    value, locations, weights = (tensor.detach() for tensor in plain_inputs())
    gradient = torch.zeros(2, 6, 15, dtype=torch.float64, device="meta")
    operator = torch.ops.focus_ops.deform_attn_backward.default
    with pytest.raises(RuntimeError, match="grad_output lies on another device than value"):  # the kernel itself
        operator.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CPU), gradient, value, SIDES, locations, weights, False)
    with pytest.raises(RuntimeError, match="grad_output lies on another device than value"):  # shapes without data
        operator(gradient, value, SIDES, locations, weights, False)


@pytest.mark.parametrize("instructions", ["baseline", "avx2"])
def test_other_processors_get_the_same_values(instructions: str) -> None:
    """The tests of values above, once more as an older processor runs them: the choice is made once a process."""
    environment = {**os.environ, "FOCUS_OPS_INSTRUCTIONS": instructions}
    probe = [sys.executable, "-c", "import focus_ops; print(focus_ops.build_info()['instructions'])"]
    chosen = subprocess.run(probe, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    if chosen != instructions:
        pytest.skip(f"this processor runs {chosen} in place of {instructions}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "plain_pytorch or half_types or softmax"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


# Which implementation runs.


@pytest.fixture
def fresh_choice() -> Iterator[None]:
    choice.native_module.cache_clear()
    choice._log_once.cache_clear()
    yield
    choice.native_module.cache_clear()
    choice._log_once.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    """Makes `module` what importing focus_ops gives: a module, an error, or None where it is not installed."""

    def import_module(name: str) -> object:
        if isinstance(module, Exception):
            raise module
        return module

    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None if module is None else object())
    monkeypatch.setattr(choice.importlib, "import_module", import_module)


@pytest.mark.usefixtures("fresh_choice")
def test_the_compiled_op_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("FOCUS_OPS")
    with caplog.at_level(logging.INFO):
        assert [ops.backend(), ops.backend()] == ["native", "native"]
    assert [record.message for record in caplog.records if "deformable attention" in record.message] == [
        f"deformable attention on cpu: native (focus_ops {focus_ops.__version__} is installed)"
    ]
    monkeypatch.setenv("FOCUS_OPS", "reference")
    assert ops.backend() == "reference"
    assert ops.describe()["change"] == "unset FOCUS_OPS"


@pytest.mark.usefixtures("fresh_choice")
def test_without_the_compiled_op_plain_pytorch_runs_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    with pytest.raises(DeviceError, match=r"focus-framework-ops is not installed; run: pip install"):
        ops.backend()
    monkeypatch.delenv("FOCUS_OPS")
    assert ops.backend() == "reference"
    described = ops.describe()
    assert described["change"] == "pip install --no-build-isolation ./csrc"
    assert described["error"] is None


@pytest.mark.usefixtures("fresh_choice")
def test_a_broken_build_is_warned_about_and_raises_its_own_error_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = OSError("libtorch_cpu.so: undefined symbol")
    install(monkeypatch, broken)
    with pytest.raises(DeviceError, match="undefined symbol") as raised:
        ops.backend()
    assert raised.value.__cause__ is broken
    monkeypatch.delenv("FOCUS_OPS")
    assert ops.backend() == "reference"
    assert "installed but broken" in caplog.text
    assert ops.describe()["error"] == "OSError: libtorch_cpu.so: undefined symbol"


@pytest.mark.usefixtures("fresh_choice")
def test_a_build_without_cuda_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("focus_ops")
    vars(module).update(__version__="9.0", devices=lambda: ("cpu",), build_info=lambda: {"cuda": ""})
    install(monkeypatch, module)
    with pytest.raises(DeviceError, match=r"built without cuda; run: FOCUS_BUILD_CUDA=1 pip install"):
        ops.backend("cuda")
    monkeypatch.delenv("FOCUS_OPS")
    assert (ops.backend("cuda"), ops.backend("cpu")) == ("reference", "native")


def built_for(monkeypatch: pytest.MonkeyPatch, names: str, capability: tuple[int, int]) -> None:
    """A focus_ops with CUDA kernels, beside a GPU of some capability."""
    module = types.ModuleType("focus_ops")
    vars(module).update(__version__="9.0", devices=lambda: ("cpu", "cuda"), build_info=lambda: {"cuda": f"13.0 for {names}"})
    vars(module)["runs_on"] = lambda asked: architectures.covers(names.split(","), asked)
    install(monkeypatch, module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)


@pytest.mark.usefixtures("fresh_choice")
def test_a_gpu_that_nothing_was_built_for_gets_plain_pytorch_and_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    built_for(monkeypatch, "sm_80,sm_90,compute_80", (7, 5))
    with pytest.raises(DeviceError, match=r"built with CUDA 13.0 for sm_80,sm_90,compute_80, this GPU is sm_75; run: FOCUS_CUDA_ARCH"):
        ops.backend("cuda")
    monkeypatch.delenv("FOCUS_OPS")
    assert [ops.backend("cuda:0"), ops.backend("cuda:0"), ops.backend("cpu")] == ["reference", "reference", "native"]
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "deformable attention on cuda: reference" in warnings[0]
    assert ops.describe("cuda")["change"].startswith("FOCUS_CUDA_ARCHITECTURES=75 FOCUS_BUILD_CUDA=1 pip install")


@pytest.mark.usefixtures("fresh_choice")
def test_a_gpu_that_was_built_for_gets_the_compiled_op(monkeypatch: pytest.MonkeyPatch) -> None:
    built_for(monkeypatch, "sm_80,sm_90,compute_80", (8, 7))
    assert ops.backend("cuda") == "native"


@pytest.mark.parametrize(
    "built, capability, runs",
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 6), True),  # later ones of the same major number
        ("sm_86", (8, 0), False),
        ("sm_80", (9, 0), False),
        ("sm_80", (8, 7), False),  # Jetson Orin has machine code of its own
        ("sm_87", (8, 7), True),
        ("sm_87", (8, 9), False),
        ("compute_80", (8, 7), True),
        ("compute_80", (11, 0), True),
        ("compute_80", (7, 5), False),
        ("compute_120", (11, 0), False),
        ("sm_90a", (9, 0), True),
        ("compute_90a", (10, 0), False),
        ("compute_100f", (10, 3), True),
        ("compute_100f", (11, 0), False),
        ("sm_75,compute_75", (12, 1), True),
        ("", (8, 0), False),
        ("nonsense", (8, 0), False),
    ],
)
def test_which_gpus_compiled_code_runs_on(built: str, capability: tuple[int, int], runs: bool) -> None:
    assert architectures.covers(built.split(","), capability) is runs


@pytest.mark.usefixtures("fresh_choice")
def test_a_build_whose_cuda_part_failed_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("focus_ops")
    vars(module).update(__version__="9.0", devices=lambda: ("cpu",), build_info=lambda: {"cuda": "", "cuda_failure": "nvcc is too old"})
    install(monkeypatch, module)
    with pytest.raises(DeviceError, match=r"built without cuda, because nvcc is too old; run: FOCUS_BUILD_CUDA=1 pip install"):
        ops.backend("cuda")


def test_a_misspelt_choice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOCUS_OPS", "nativ")
    with pytest.raises(ConfigError, match="FOCUS_OPS='nativ' is not known; use reference or native"):
        ops.backend()
