"""Processor seconds of a training step with EfficientNet-Lite1: ours, with and without the encoder's share, and U-Net.

    pip install segmentation-models-pytorch
    python benchmarks/photographs_step.py [--size 192] [--batch-size 8] [--repeats 4]

Random weights: time does not depend on them. The least of the repeats, one thread, this process's own time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from focus_framework.config.layers import resolve
from focus_framework.model.build import build_network
from focus_framework.model.losses import Targets, losses
from focus_framework.training.optimizer import build_optimizer
from focus_framework.training.randomness import Draws

ENCODER = "tf_efficientnet_lite1"


def decoder(width: int, pixel_layers: int, layers: int) -> dict[str, Any]:
    return {"pixel_decoder.width": width, "pixel_decoder.layers": pixel_layers, "decoder.layers": layers}


VARIANTS: dict[str, dict[str, Any]] = {
    "width 64, 2 + 3 layers": decoder(64, 2, 3),
    "width 96, 1 + 2 layers": decoder(96, 1, 2),
    "width 96, 2 + 3 layers (preset small)": decoder(96, 2, 3),
    "width 128, 1 + 3 layers": decoder(128, 1, 3),
    "preset small, encoder frozen": {**decoder(96, 2, 3), "backbone.frozen": True},
}


def least(step: Callable[[], None], repeats: int) -> float:
    """Processor seconds of a step, the first one left out."""
    step()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        step()
        taken.append(time.process_time() - start)
    return min(taken)


def ours(variant: dict[str, Any], images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    config = resolve("salient", preset="small", options={"backbone.weights": "none", **variant}).config
    network = build_network(config).train()
    optimizer = build_optimizer(network, [], config)

    def step() -> None:
        optimizer.zero_grad()
        draws = Draws(0, range(len(images)), images.device)
        terms, _ = losses(network(images, all_heads=True), Targets.of(labels), config.loss, draws)
        torch.stack(list(terms)).sum().backward()
        optimizer.step()

    return step


def unet(images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    import segmentation_models_pytorch as smp

    network = smp.Unet(f"tu-{ENCODER}", encoder_weights=None).train()
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(network(images), labels.float()[:, None]).backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = torch.randn(options.batch_size, 3, options.size, options.size)
    labels = torch.zeros(options.batch_size, options.size, options.size, dtype=torch.uint8)
    labels[:, options.size // 4 : -options.size // 4, options.size // 4 : -options.size // 4] = 1
    table = Table("network", "seconds a step", title=f"{ENCODER}, {options.size} px, batch {options.batch_size}, one thread")
    for name, variant in VARIANTS.items():
        table.add_row(f"ours, {name}", f"{least(ours(variant, images, labels), options.repeats):.2f}")
    table.add_row("U-Net", f"{least(unet(images, labels), options.repeats):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
