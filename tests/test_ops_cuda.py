"""The CUDA side of the compiled op: on a GPU where there is one, and everywhere on an emulated one.

The emulation (tests/cuda_emulation) compiles cuda.cu and its kernels for the host and registers them as the CPU's. A process of its
own then runs these tests and those of the compiled op against it. It shows that shapes, launches, indices, corners, shuffles, atomics
and the choice among kernels are right, and nothing about speed. With FOCUS_TEST_SANITIZERS=1 the same runs under the address, the
undefined-behaviour and the thread sanitizer, which takes minutes.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from focus_framework import ops
from focus_framework.model.ops import reference

focus_ops = pytest.importorskip("focus_ops", reason="focus-framework-ops is not installed")

ROOT = Path(__file__).parents[1]
EMULATION = ROOT / "tests" / "cuda_emulation"
SHAPES = [(3, 5), (0, 2), (4, 2), (1, 1)]

EMULATED = focus_ops.build_info()["instructions"] == "emulation"
HAS_GPU = torch.cuda.is_available() and ops.describe("cuda")["backend"] == "native"
DEVICE = "cuda" if HAS_GPU else "cpu"
needs_kernels = pytest.mark.skipif(not (EMULATED or HAS_GPU), reason="no GPU that focus_ops was built for; they run on an emulated one")
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="no GPU, or focus_ops was not built for it")

# What one rounding of a result to its type, and sums in single precision, may cost relative to the largest number.
TOLERANCES = {torch.float64: 1e-13, torch.float32: 2e-6, torch.float16: 2**-11, torch.bfloat16: 2**-8}


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOCUS_OPS", "native")


def inputs(
    width: int, dtype: torch.dtype, *, fused: bool, shapes: list[tuple[int, int]] = SHAPES, queries: int = 7, heads: int = 3
) -> dict[str, Tensor]:
    """More rows than a block has groups, fewer than two blocks have; samples inside, at the border, outside, and nowhere."""
    generator = torch.Generator().manual_seed(5)
    precision = torch.promote_types(dtype, torch.float32)
    batch, points, length = 2, 3, sum(height * width for height, width in shapes)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    positions = draw(batch, queries, heads, len(shapes), points, 2) * 1.6 - 0.3
    positions[0, 0, 0, 0, :, 0] = torch.tensor([float("nan"), float("inf"), -1e30])
    drawn = {
        "value": (draw(batch, length, heads, width) - 0.5).to(dtype),
        "positions": (positions * 4 if fused else positions).to(precision),
        "weights": (draw(batch, queries, heads, len(shapes), points) * 4 - 2).to(precision),
        "grad_output": (draw(batch, queries, heads * width) - 0.5).to(dtype),
    }
    return {**drawn, "reference": draw(batch, queries, len(shapes), 2).to(precision)} if fused else drawn


def call(given: dict[str, Tensor], shapes: list[tuple[int, int]], module: object) -> list[Tensor]:
    """Output and gradients of value, positions and weights."""
    leaves = [given[name].detach().requires_grad_() for name in ("value", "positions", "weights")]
    if "reference" in given:
        output = module.deform_attn_from_logits(leaves[0], shapes, given["reference"], *leaves[1:])
    else:
        output = module.deform_attn(leaves[0], shapes, *leaves[1:])
    return [output.detach(), *torch.autograd.grad(output, leaves, given["grad_output"].to(output.dtype))]


def check(
    given: dict[str, Tensor], shapes: list[tuple[int, int]] = SHAPES, *, device: str = DEVICE, tolerance: float | None = None
) -> list[Tensor]:
    """That the kernels give what plain PyTorch gives in float64; returns what they give."""
    moved = {name: tensor if tensor.device.type == device else tensor.to(device) for name, tensor in given.items()}
    ours, exact = call(moved, shapes, ops), call({name: tensor.double().cpu() for name, tensor in given.items()}, shapes, reference)
    bound = tolerance or TOLERANCES[given["value"].dtype]
    for result, expected in zip(ours, exact, strict=True):
        assert (result.double().cpu() - expected).abs().max() <= bound * expected.abs().max()
    return ours


@pytest.fixture
def deterministic(request: pytest.FixtureRequest) -> Iterator[bool]:
    torch.use_deterministic_algorithms(request.param)
    yield request.param
    torch.use_deterministic_algorithms(False)


# The general kernel, and those for known widths in 16 bytes of each type.
KERNELS = [
    (5, torch.float64),
    (16, torch.float64),
    (5, torch.float32),
    (5, torch.bfloat16),
    (16, torch.float32),
    (16, torch.float16),
    (32, torch.float32),
    (32, torch.bfloat16),
    (64, torch.float32),
    (64, torch.float16),
]


@needs_kernels
@pytest.mark.parametrize("deterministic", [False, True], indirect=True)
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("width, dtype", KERNELS)
def test_the_kernels_give_what_plain_pytorch_gives(width: int, dtype: torch.dtype, fused: bool, deterministic: bool) -> None:
    check(inputs(width, dtype, fused=fused))


@needs_kernels
@pytest.mark.parametrize("deterministic", [False, True], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("width", [5, 16, 32, 64])
def test_what_a_network_predicts_is_read_in_its_own_half_type(width: int, dtype: torch.dtype, deterministic: bool) -> None:
    """The same as converting it beforehand, but for one rounding of its gradients, which comes either way."""
    given = {name: tensor.to(DEVICE) for name, tensor in inputs(width, dtype, fused=True).items()}
    half = {**given, "positions": given["positions"].to(dtype), "weights": given["weights"].to(dtype)}
    ours = check(half)
    assert [tensor.dtype for tensor in ours] == [dtype] * 4
    converted = call({**half, "positions": half["positions"].float(), "weights": half["weights"].float()}, SHAPES, ops)
    for result, expected in zip(ours, converted, strict=True):
        if deterministic or not HAS_GPU:  # else the value's gradient is a sum of atomics in any order
            torch.testing.assert_close(result, expected.to(dtype), rtol=0, atol=0, equal_nan=True)


@needs_kernels
@pytest.mark.parametrize("name", ["value", "grad_output", "positions", "weights", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_that_is_not_aligned_is_read_all_the_same(name: str, dtype: torch.dtype) -> None:
    given = {key: tensor.to(DEVICE) for key, tensor in inputs(32, dtype, fused=True).items()}
    room = torch.empty(given[name].numel() + 1, dtype=given[name].dtype, device=DEVICE)
    given[name] = room[1:].view_as(given[name]).copy_(given[name])
    assert given[name].data_ptr() % 16 != 0
    check(given)


@needs_kernels
def test_reference_points_of_one_image_serve_all() -> None:
    given = inputs(32, torch.float32, fused=True)
    check({**given, "reference": given["reference"][:1]})


@needs_kernels
@pytest.mark.parametrize("levels, points", [(1, 1), (5, 8), (32, 1)])
def test_any_number_of_levels_and_points(levels: int, points: int) -> None:
    shapes = [(2 + i % 3, 1 + i % 4) for i in range(levels)]
    given = inputs(32, torch.float32, fused=True, shapes=shapes, queries=3)
    for name in ("positions", "weights"):
        given[name] = given[name].repeat_interleave(3, 4)[:, :, :, :, :points].contiguous()
    given["weights"] += torch.linspace(0, 1, given["weights"].numel()).view_as(given["weights"])
    check(given, shapes)


@needs_kernels
def test_more_levels_than_the_kernels_take_are_refused() -> None:
    given = inputs(32, torch.float32, fused=True, shapes=[(1, 1)] * 33, queries=1)
    with pytest.raises(RuntimeError, match="33 levels, on CUDA at most 32"):
        check(given, [(1, 1)] * 33)


@needs_gpu
def test_many_queries() -> None:
    shapes = [(100, 160), (50, 80), (25, 40)]
    check(inputs(32, torch.float32, fused=True, shapes=shapes, queries=20_000), shapes, tolerance=1e-4)


@needs_gpu
def test_a_second_gpu() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    with torch.cuda.device(0):  # not the one that the tensors lie on
        assert check(inputs(32, torch.float32, fused=True), device="cuda:1")[0].device == torch.device("cuda:1")


@needs_gpu
def test_a_stream_at_the_side() -> None:
    """What the kernels read is written late, in the same stream: a kernel in another stream would not see it."""
    given = {name: tensor.cuda() for name, tensor in inputs(32, torch.float32, fused=True).items()}
    expected = call(given, SHAPES, ops)
    late = torch.zeros_like(given["value"])
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        late.copy_(given["value"])
        ours = call({**given, "value": late}, SHAPES, ops)
    torch.cuda.synchronize()
    torch.testing.assert_close(ours, expected)


@needs_gpu
def test_a_captured_graph_runs_on_what_its_inputs_hold_then() -> None:
    given = {name: tensor.cuda() for name, tensor in inputs(32, torch.float32, fused=True).items()}
    value = given["value"].clone()
    arguments = (SHAPES, given["reference"], given["positions"], given["weights"])
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        ops.deform_attn_from_logits(value, *arguments)  # warms up
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = ops.deform_attn_from_logits(value, *arguments)
    value.mul_(2)
    graph.replay()
    torch.testing.assert_close(output, ops.deform_attn_from_logits(2 * given["value"], *arguments))


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_converts_the_value_alone(dtype: torch.dtype) -> None:
    given = {name: tensor.cuda() for name, tensor in inputs(32, torch.float32, fused=True).items()}
    with torch.autocast("cuda", dtype=dtype):
        ours = ops.deform_attn_from_logits(given["value"], SHAPES, given["reference"], given["positions"], given["weights"])
    assert ours.dtype == dtype
    check({**given, "value": given["value"].to(dtype)})
    expected = ops.deform_attn_from_logits(given["value"].to(dtype), SHAPES, given["reference"], given["positions"], given["weights"])
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)


@needs_kernels
@pytest.mark.parametrize("deterministic", [True], indirect=True)
def test_the_deterministic_way_gives_the_same_bits_every_time(deterministic: bool) -> None:
    given = {name: tensor.to(DEVICE) for name, tensor in inputs(32, torch.float32, fused=True).items()}
    runs = [call(given, SHAPES, ops) for _ in range(5 if HAS_GPU else 2)]
    assert all(torch.equal(ours, first) for run in runs[1:] for ours, first in zip(run, runs[0], strict=True))


# The emulation.


def load_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cuda_emulation_build", EMULATION / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.COMPILER is None or sys.platform != "linux":
        pytest.skip("needs g++ on Linux to compile the kernels for the host")
    return module


def run_tests(package: Path, *arguments: str, preload: str = "") -> None:
    """Runs tests in a process whose focus_ops is the emulated one."""
    environment = {**os.environ, "PYTHONPATH": str(package), "FOCUS_TEST_SANITIZERS": "", "CUDA_VISIBLE_DEVICES": ""}
    if preload:
        environment |= {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0"}  # Python leaves much to the end of the process
    files = [str(ROOT / "tests" / name) for name in ("test_ops_cuda.py", "test_ops_native.py", "test_ops.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files, *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout


# What takes longest on an emulated GPU and shows no more of it, and what starts processes of its own.
SLOW = "gradcheck or opcheck or number_of_threads or compiles or exports or other_processors or emulat or sanitizer"

sanitizers = pytest.mark.skipif(os.environ.get("FOCUS_TEST_SANITIZERS") != "1", reason="takes minutes; FOCUS_TEST_SANITIZERS=1 runs it")


@pytest.mark.skipif(EMULATED, reason="runs outside of the emulation")
def test_the_op_on_an_emulated_gpu(tmp_path: Path) -> None:
    package = load_build().build_package(tmp_path, "-DFOCUS_OPS_EMULATE_VECTOR_ADD")
    run_tests(package, "-k", f"not ({SLOW})")


@sanitizers
@pytest.mark.parametrize("vector_add", ["-DFOCUS_OPS_EMULATE_VECTOR_ADD", "-DFOCUS_OPS_EMULATE_SINGLE_ADDS"])
def test_the_op_under_the_sanitizers_of_addresses_and_undefined_behaviour(tmp_path: Path, vector_add: str) -> None:
    build = load_build()
    package = build.build_package(tmp_path, vector_add, "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    libraries = [build.compiler_library(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so")]
    run_tests(package, "-k", "not (gradcheck or other_processors or emulat or sanitizer)", preload=" ".join(libraries))


@sanitizers
@pytest.mark.parametrize("vector_add", ["-DFOCUS_OPS_EMULATE_VECTOR_ADD", "-DFOCUS_OPS_EMULATE_SINGLE_ADDS"])
def test_blocks_and_lanes_under_the_sanitizer_of_threads(tmp_path: Path, vector_add: str) -> None:
    program = tmp_path / "races"
    load_build().compile_host([EMULATION / "races.cpp"], program, vector_add, "-fsanitize=thread")
    ran = subprocess.run([program], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "done\n", "")


@sanitizers
@pytest.mark.parametrize("name, races", [("none", 0), ("race", 1), ("race of lanes", 1)])
def test_the_sanitizer_of_threads_sees_races_in_the_emulation(tmp_path: Path, name: str, races: int) -> None:
    program = tmp_path / "traps"
    load_build().compile_host([EMULATION / "traps.cpp"], program, "-fsanitize=thread")
    ran = subprocess.run([program, name], capture_output=True, text=True)
    assert ran.stderr.count("WARNING: ThreadSanitizer: data race") >= races
    assert (ran.returncode == 0) is (races == 0)


@pytest.fixture(scope="module")
def traps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("emulation") / "traps"
    load_build().compile_host([EMULATION / "traps.cpp"], program)
    return program


@pytest.mark.parametrize(
    "name, message",
    [
        ("none", ""),
        ("left", "thread 7 of block 0: left, and others of its warp shuffle"),
        ("distance", "thread 7 of block 0: shuffles in another way than others of its warp"),
        ("between", "thread 7 of block 0: waits for the block, and others of its warp shuffle"),
        ("wait", "left, and others of its block wait"),
        ("alignment", "an address is not aligned"),
    ],
)
def test_the_emulation_traps_what_cuda_leaves_undefined(traps: Path, name: str, message: str) -> None:
    ran = subprocess.run([traps, name], capture_output=True, text=True)
    assert (ran.stdout == "done\n") is (name == "none")
    assert (ran.returncode == 0) is (name == "none")
    assert message in ran.stderr
