"""What one pass through the network costs, stage by stage, against the same network run the way the release runs it.

    python benchmarks/inference.py                       # 384 wide, 12 blocks, 6 heads, 256 x 256, batch of 2, two threads
    python benchmarks/inference.py --device cuda --size 512 --batch 8

The release's way, rebuilt here on our own modules: an edge image for one image at a time on the host, deformable attention in plain
PyTorch, and the predictions of all heads. Weights are random: the time does not depend on them. Rows alternate, so that other work
on the machine meets all of them alike; the best of the repetitions counts. Milliseconds. On a machine that is
busy with other things `--clock processor --threads 1` counts what the process worked instead of what passed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable

ROWS = {
    "ours, native op": {"ops": "native", "enhancer": "edge", "all_heads": False},
    "ours, plain PyTorch op": {"ops": "reference", "enhancer": "edge", "all_heads": False},
    "ours, the release's edge image": {"ops": "native", "enhancer": "edge-release", "all_heads": False},
    "the release's way": {"ops": "reference", "enhancer": "edge-release", "all_heads": True},
}
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
STAGES = ("edge image", "edge branch", "backbone", "interactions", "fusion", "pixel decoder", "ground decoder")


def measure(row: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of each stage and of the whole, the best of the repetitions, in this process."""
    import torch

    from focus_framework.config.layers import resolve
    from focus_framework.model.build import build_network

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    options = {"embed_dim": arguments.width, "depth": arguments.depth, "num_heads": arguments.heads, "patch_size": 14, "img_size": 518}
    settings = {
        "backbone.name": "vit",
        "backbone.weights": "none",
        "enhancer.name": ROWS[row]["enhancer"],
        "decoder.first_mask": "release",
        **{f"backbone.options.{key}": value for key, value in options.items()},
    }
    network = build_network(resolve("salient", preset="paper-large", options=settings).config, weights="none").eval().to(arguments.device)
    picture = torch.randn(arguments.batch, 3, arguments.size, arguments.size, device=arguments.device)
    spent: dict[str, float] = defaultdict(float)
    clock = CLOCKS[arguments.clock]
    watch(network, spent, synchronise(arguments.device), clock)
    best: dict[str, float] = {}
    with torch.inference_mode():
        for _ in range(arguments.repetitions + 1):  # the first one warms up
            spent.clear()
            begin = clock()
            network(picture, all_heads=bool(ROWS[row]["all_heads"]))
            synchronise(arguments.device)()
            total = clock() - begin
            if not best or total < best["total"]:
                best = {**spent, "total": total}
    best["edge branch"] -= best["edge image"]
    best["fusion"] = best.pop("encoder") - sum(best[stage] for stage in STAGES[:4])
    return best


def watch(network, spent: dict[str, float], wait: Callable[[], None], clock: Callable[[], float]) -> None:
    """Add up what the stages of a network take, in `spent`."""
    encoder = network.encoder
    parts = {
        "edge image": [encoder.prior.overlay],
        "edge branch": [encoder.prior],
        "backbone": [encoder.backbone.vit.patch_embed.proj, *encoder.backbone.vit.blocks],
        "interactions": [*encoder.injectors, *encoder.extractors],
        "encoder": [encoder],
        "pixel decoder": [network.pixel_decoder],
        "ground decoder": [network.decoder],
    }
    for stage, modules in parts.items():
        for module in modules:
            started: list[float] = []

            def before(module, arguments, started=started) -> None:
                wait()
                started.append(clock())

            def after(module, arguments, output, started=started, stage=stage) -> None:
                wait()
                spent[stage] += clock() - started.pop()

            module.register_forward_pre_hook(before)
            module.register_forward_hook(after)


def synchronise(device: str) -> Callable[[], None]:
    """A function that waits for the device."""
    import torch

    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {
        "width": 384,
        "depth": 12,
        "heads": 6,
        "size": 256,
        "batch": 2,
        "threads": 2,
        "repetitions": 5,
        "rounds": 3,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(arguments.row, arguments)))
        return
    best: dict[str, dict[str, float]] = {}
    for _ in range(arguments.rounds):
        for row, choice in ROWS.items():  # a process each: FOCUS_OPS is read once
            environment = os.environ | {"FOCUS_OPS": str(choice["ops"])}
            output = subprocess.run(
                [sys.executable, *sys.argv, "--row", row], env=environment, stdout=subprocess.PIPE, text=True, check=True
            ).stdout
            found = json.loads(output)
            if row not in best or found["total"] < best[row]["total"]:
                best[row] = found
    print("| | " + " | ".join((*STAGES, "total")) + " |")
    print("|---" * (len(STAGES) + 2) + "|")
    for row, found in best.items():
        print(f"| {row} | " + " | ".join(f"{1000 * found[stage]:.0f}" for stage in (*STAGES, "total")) + " |")


if __name__ == "__main__":
    main()
