"""The mean of the weights of several checkpoints of one network, as a run's folder that `pack.py` takes.

    python starter/average.py --out runs/shadow-mean starter-shadow runs/a/best.safetensors runs/b/best.safetensors

Checkpoints that were trained from one another lie in one valley, and their mean is often better where they have never been (Wortsman et al.
2022, "Model soups"; "Robust fine-tuning of zero-shot models"): on photographs, for networks that saw generated images alone. What
else the checkpoint says is that of the last one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from focus_framework.checkpoint.format import read_checkpoint, write_checkpoint
from focus_framework.checkpoint.loading import locate


def mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Each tensor's mean; what is no number in floating point, as counters are not, is the last one's."""
    *_, last = states
    if any(state.keys() != last.keys() for state in states):
        raise SystemExit("these checkpoints are not of one network: their tensors have other names")
    return {
        name: torch.stack([state[name].float() for state in states]).mean(0) if tensor.is_floating_point() else tensor
        for name, tensor in last.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    opened = [read_checkpoint(locate(reference)[0]) for reference in options.checkpoints]
    options.out.mkdir(parents=True, exist_ok=True)
    write_checkpoint(options.out / "best.safetensors", mean([state for _, state in opened]), opened[-1][0])


if __name__ == "__main__":
    main()
