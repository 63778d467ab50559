"""A training step of ours against a straightforward one, on two threads of the CPU.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --clip-width 64 --clock wall  # the refiner as small as in the tests; an idle machine

Both train the same network (width 384, 12 blocks, edge enhancer with ResNet-50, 9 decoder layers) at 256 x 256, batch 2, with a CLIP
refiner of three layers on all heads. The straightforward one is built as one writes it first, and as the authors' release has it: the
edge image by OpenCV and the first mask's PCA by scikit-learn on the host, image by image; deformable attention in plain PyTorch;
matching by scipy and losses head by head; a pass through CLIP for each image and head. Prompts are encoded once by both.

The variants take turns, each time in a process of its own, so that a busy machine slows both and neither is idle beside the other;
seconds are those of the processor unless asked otherwise. Weights are random: time does not depend on them. Aim: a third of the
straightforward step, or less.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

SIZE, BATCH = 256, 2
SETTINGS = {
    "backbone.name": "vit",
    "backbone.weights": "none",
    "backbone.options": {"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6, "init_values": 1.0},
    "enhancer.name": "edge",
    "enhancer.options.trunk": "resnet50",
    "enhancer.options.weights": "none",
    "preprocessing.size": SIZE,
    "training.batch_size": BATCH,
    "training.steps": 1000,
    "training.device": "cpu",
    "refiner.heads": "all",
}


def seconds(variant: str, threads: int, clip_width: int, clock: str) -> float:
    """Of the third of three steps: before it caches are cold and memory is still being taken."""
    os.environ["FOCUS_OPS"] = "reference" if variant == "straightforward" else ""
    import torch
    from accelerate import Accelerator

    from focus_framework.config.layers import resolve
    from focus_framework.inference.model import Model
    from focus_framework.model.build import build_network
    from focus_framework.training.processes.team import Team
    from focus_framework.training.update import Update

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = resolve("shadow", preset="paper-large", options=SETTINGS).config
    model = Model(config, build_network(config))
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    update = Update(config, model, accelerator, Team(accelerator), (_refiner(clip_width), "all"))
    if variant == "straightforward":
        _straighten(update)
    now = time.perf_counter if clock == "wall" else time.process_time
    square = torch.zeros(BATCH, SIZE, SIZE, dtype=torch.uint8)
    square[:, 60:160, 40:200] = 1
    batch = {"image": torch.rand(BATCH, 3, SIZE, SIZE), "mask": square}
    for step in range(3):
        start = now()
        update(batch, step, 1e-5)
        taken = now() - start
    return taken


def _refiner(width: int) -> Any:
    """A CLIP refiner whose image encoder is so wide."""
    from focus_plugins.refiners.contrast import build

    from focus_framework import Prompts

    prompts = [Prompts("It's an image of shadow without background.", "It's an image of background without shadow.")]
    text = min(width, 512)
    clip = {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 3, "width": width, "head_width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": text, "heads": text // 64, "layers": 3},
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "open_clip_config.json").write_text(json.dumps({"model_cfg": clip, "preprocess_cfg": {}}))
        return build(prompts, mean=(0.5,) * 3, std=(0.25,) * 3, model=f"local-dir:{folder}", weights="random")


def _straighten(update: Any) -> None:
    """Put the straightforward parts in the places of ours."""
    from focus_framework.model import ground_decoder
    from focus_framework.training import update as module

    ground_decoder.first_mask_logits = _host_pca
    update.model.network.encoder.prior.overlay.forward = _host_edges(update.model)
    module.losses = _losses_by_head(module.losses)
    update._shared_refiner = _clip_one_by_one(update.refiner)


def _host_edges(model: Any) -> Callable[[Any], Any]:
    import cv2
    import numpy as np
    import torch

    def overlay(images: Any) -> Any:
        laid = []
        for image in images:
            picture = ((image * model.std + model.mean).clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
            blurred = cv2.GaussianBlur(picture, (5, 5), 1.4)
            edges = np.stack([cv2.Canny(np.ascontiguousarray(blurred[..., channel]), 100, 200) for channel in range(3)], -1)
            laid.append(torch.from_numpy(cv2.addWeighted(blurred, 0.7, edges, 0.3, 0)).permute(2, 0, 1) / 255)
        return (torch.stack(laid) - model.mean) / model.std

    return overlay


def _host_pca(tokens: Any, grid: tuple[int, int]) -> Any:
    import torch
    from sklearn.decomposition import PCA

    masks = []
    for picture in tokens.detach().numpy():
        scores = PCA(n_components=1).fit_transform(picture)[:, 0]
        scaled = torch.from_numpy((scores - scores.min()) / (scores.max() - scores.min()))
        masks.append(scaled.unflatten(0, grid) - 0.6)
    inside = torch.stack(masks)[:, None].float()
    return torch.cat([inside, -inside], 1)


def _losses_by_head(losses: Any) -> Any:
    import torch
    from scipy.optimize import linear_sum_assignment

    from focus_framework.model.ground_decoder import Heads
    from focus_framework.model.losses import LossTerms, matching_cost

    def by_head(heads: Any, targets: Any, config: Any, draw: Any) -> Any:
        terms, ordered = [], []
        for index in range(len(heads.class_logits)):
            head = Heads(*(tensor[index : index + 1] for tensor in heads))
            with torch.no_grad():
                cost = matching_cost(head, targets, draw(1, len(targets.masks), config.points, 2))
                for picture in cost[0].numpy():
                    linear_sum_assignment(picture)
            found, order = losses(head, targets, config, draw)
            terms.append(found)
            ordered.append(order)
        summed = LossTerms(*(torch.stack(list(group)).sum() for group in zip(*terms, strict=True)))
        return summed, Heads(*(torch.cat(list(parts)) for parts in zip(*ordered, strict=True)))

    return by_head


def _clip_one_by_one(refiner: Any) -> Any:
    import torch

    def one_by_one(images: Any, mask_logits: Any) -> Any:
        passes = [refiner(image[None], masks[None, None]) for head in mask_logits for image, masks in zip(images, head, strict=True)]
        return torch.stack(passes).mean()

    return one_by_one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="steps of each variant that count; each has two before it that do not")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clip-width", type=int, default=768, help="of the refiner's image encoder, a multiple of 64")
    parser.add_argument("--clock", choices=("wall", "processor"), default="processor")
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {"straightforward": [], "ours": []}
    for _ in range(arguments.rounds):
        for variant, found in times.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found.append(pool.apply(seconds, (variant, arguments.threads, arguments.clip_width, arguments.clock)))
    sizes = f"width 384, 12 blocks, {SIZE} x {SIZE}, batch {BATCH}, CLIP {arguments.clip_width} wide"
    print(f"{sizes}, {arguments.threads} threads, median of {arguments.rounds}\n")
    print(f"| training step | seconds ({arguments.clock}) |\n|---|---:|")
    medians = {variant: median(found) for variant, found in times.items()}
    for variant, value in medians.items():
        print(f"| {variant} | {value:.2f} |")
    print(f"\nours takes {medians['ours'] / medians['straightforward']:.2f} of the straightforward one")


if __name__ == "__main__":
    main()
