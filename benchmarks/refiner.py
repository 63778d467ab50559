"""What the CLIP refiner costs: one pass for all crops against a pass for each image and head, and its share of a training step.

    python benchmarks/refiner.py                         # time and memory, on the CPU
    python benchmarks/refiner.py --device cuda --heads 10 --images 8
    python benchmarks/refiner.py --count                 # floating-point operations, counted without computing anything

Every variant runs in a process of its own. Weights are random: neither time nor memory depends on them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from focus_plugins.refiners.contrast import build
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from focus_framework import Prompts
from focus_framework.config.layers import resolve
from focus_framework.model.build import build_network
from focus_framework.plugin.kit.image_text import encode_prompts

PAIRS = [Prompts("it's an image of shadow without background.", "it's an image of background without shadow.")]
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

Step = Callable[[nn.Module, Tensor, Tensor], Tensor]


def batched(refiner: nn.Module, images: Tensor, logits: Tensor) -> Tensor:
    """All crops of all heads and images at once."""
    return refiner(images, logits)


def one_by_one(refiner: nn.Module, images: Tensor, logits: Tensor) -> Tensor:
    """A pass for each image and head; prompts are encoded once."""
    passes = [refiner(images[b, None], logits[h, b][None, None]) for h in range(len(logits)) for b in range(len(images))]
    return torch.stack(passes).mean()


def one_by_one_with_prompts(refiner: nn.Module, images: Tensor, logits: Tensor) -> Tensor:
    """A pass for each image and head, which encodes the two prompts again."""
    passes = []
    for head in logits:
        for image, masks in zip(images, head, strict=True):
            refiner.text = encode_prompts(refiner.encoder, PAIRS)
            passes.append(refiner(image[None], masks[None, None]))
    return torch.stack(passes).mean()


VARIANTS: dict[str, tuple[Step, bool]] = {
    "a pass for each image and head, with the prompts": (one_by_one_with_prompts, False),
    "a pass for each image and head": (one_by_one, False),
    "one pass": (batched, False),
    "one pass, checkpointing": (batched, True),
}


def measure(variant: str, arguments: argparse.Namespace) -> tuple[float, float]:
    """Seconds of a step forward and backward (the median of the repeats), and the memory that it adds at its peak, in MiB.

    On the CPU seconds are those of the processor, all threads together.
    """
    step, checkpointing = VARIANTS[variant]
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    options = {"model": arguments.model, "weights": "random", "precision": arguments.precision, "checkpointing": checkpointing}
    refiner = build(PAIRS, **IMAGENET, **options).to(device)
    images = torch.randn(arguments.images, 3, arguments.size, arguments.size, device=device)
    side = arguments.size // 4
    logits = torch.randn(arguments.heads, arguments.images, 2, side, side, device=device, requires_grad=True)

    clock = time.process_time if device.type == "cpu" else time.perf_counter  # other processes must not count

    def run() -> float:
        synchronise(device)
        start = clock()
        step(refiner, images, logits).backward()
        synchronise(device)
        return clock() - start

    step(refiner, images[:1], logits[:1, :1]).backward()  # so that weights are on the device and kernels chosen
    before = reset_peak(device)
    times = [run()]
    peak = read_peak(device) - before
    times += [run() for _ in range(arguments.repeats - 1)]
    return median(times), peak


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak(device: torch.device) -> float:
    """Forget earlier peaks; the memory in use now, in MiB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # Linux: VmHWM starts again from VmRSS
    return read_peak(device)


def read_peak(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kibibytes) / 1024


def compare(arguments: argparse.Namespace) -> None:
    """Print the table of time and memory."""
    print(
        f"{arguments.model}, {arguments.heads} heads x {arguments.images} images x 2 crops, {arguments.precision}, "
        f"{arguments.device}, {torch.get_num_threads()} threads, torch {torch.__version__}, median of {arguments.repeats}\n"
    )
    print(f"| variant | {'CPU ' * (arguments.device == 'cpu')}seconds | speed | memory added, MiB |\n|---|---:|---:|---:|")
    first = None
    for variant in VARIANTS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, peak = pool.apply(measure, (variant, arguments))
        first = first or seconds
        print(f"| {variant} | {seconds:.2f} | {first / seconds:.2f} x | {peak:.0f} |", flush=True)


def operations(preset: str) -> tuple[int, int, int]:
    """Floating-point operations of a forward pass and of a training step for one image, and the side of the image in pixels."""
    config = resolve("shadow", preset=preset, options={"enhancer.options.weights": "none", "decoder.first_mask": "queries"}).config
    size = config.preprocessing.size
    network = build_network(config, weights="none")
    network.encoder.prior.overlay = nn.Identity()  # it and the PCA of the first mask look at numbers; small, not counted
    with FakeTensorMode(allow_non_fake_inputs=True):  # shapes without numbers
        image = torch.randn(1, 3, size, size)
        with FlopCounterMode(display=False) as step:
            outputs = network.train()(image, all_heads=True)
            forward = step.get_total_flops()
            sum(tensor.sum() for tensor in outputs).backward()
    return forward, step.get_total_flops(), size


def count(preset: str, model: str) -> None:
    """Print the operations of a training step of `preset` for one image, of the network and of the refiner reading the last head."""
    _, total, size = operations(preset)
    print(f"{preset}, {size} x {size}, one image, forward and backward: {total / 1e9:.0f} GFLOP")
    refiners = [build(PAIRS, **IMAGENET, model=model, weights="random", checkpointing=checkpointing) for checkpointing in (False, True)]
    with FakeTensorMode(allow_non_fake_inputs=True):
        image = torch.randn(1, 3, size, size)
        for refiner, how in zip(refiners, ("", ", checkpointing"), strict=True):
            logits = torch.randn(1, 1, 2, size // 4, size // 4, requires_grad=True)
            with FlopCounterMode(display=False) as extra:
                refiner(image, logits).backward()
            flops = extra.get_total_flops()
            print(f"refiner, {model}, last head{how}: {flops / 1e9:.0f} GFLOP, {100 * flops / total:.1f} % on top")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--count", action="store_true", help="count operations instead")
    parser.add_argument("--preset", default="paper-large", help="of which --count counts a training step")
    arguments = parser.parse_args()
    if arguments.count:
        count(arguments.preset, arguments.model)
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
