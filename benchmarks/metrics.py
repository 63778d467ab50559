"""Rate of all metrics of a 512x512 pair on one core, beside PySODMetrics and scikit-learn in the same run.

    python benchmarks/metrics.py [--size 512] [--repeats 10]

PySODMetrics computes S, E, weighted F, MAE, and, in one pass, F-beta, BER, F1 (as Dice) and IoU. It has no AUC: that is
scikit-learn's, and the rates of PySODMetrics are given without it and with it. All take turns on the same maps, each on one thread,
five images in a row, as in an evaluation; CPU seconds count, the median of the repeats.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
import warnings
from collections.abc import Callable

import cv2
import numpy as np
import py_sod_metrics
import torch
from sklearn.metrics import roc_auc_score

from focus_framework.metrics import compute


def maps(size: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pairs of an 8-bit map and a mask: objects found by something like a network (a sigmoid of noisy logits, displaced by a few
    pixels), and, as the hardest case, noise."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size - 0.5
    lumps = cv2.GaussianBlur(random.standard_normal((size, size)), (0, 0), size / 40)
    masks = {
        "one object": (x / 0.24) ** 2 + (y / 0.18) ** 2 < 1,
        "many ragged objects": lumps > np.quantile(lumps, 0.8),
        "half of the image": x + 0.1 * np.sin(9 * y) > 0,
    }
    made = {}
    for name, mask in masks.items():
        inside = cv2.GaussianBlur(np.roll(mask, 5, 0).astype(np.float64), (0, 0), 4)
        logits = 16 * (inside - 0.5) + cv2.GaussianBlur(random.standard_normal(mask.shape), (0, 0), 3) * 8
        made[name] = np.rint(255 / (1 + np.exp(-logits))).astype(np.uint8), mask
    made["noise"] = random.integers(0, 256, (size, size), np.uint8), random.random((size, size)) > 0.5
    return made


def theirs(level: np.ndarray, mask: np.ndarray) -> None:
    truth = mask.astype(np.uint8) * 255
    once = {"with_dynamic": False, "with_adaptive": False, "with_binary": True}
    handlers = {
        "f_beta": py_sod_metrics.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3),
        "ber": py_sod_metrics.BERHandler(**once),
        "f1": py_sod_metrics.DICEHandler(**once),
        "iou": py_sod_metrics.IOUHandler(**once),
    }
    for metric in (
        py_sod_metrics.Smeasure(),
        py_sod_metrics.Emeasure(),
        py_sod_metrics.WeightedFmeasure(),
        py_sod_metrics.MAE(),
        py_sod_metrics.FmeasureV2(handlers),
    ):
        metric.step(level, truth)
        metric.get_results()


def seconds(work: Callable[[], object], images: int = 5) -> float:
    """CPU seconds an image."""
    start = time.process_time()
    for _ in range(images):
        work()
    return (time.process_time() - start) / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    print(f"{options.size}x{options.size}, one thread, {platform.machine()}, torch {torch.__version__}, numpy {np.__version__}")
    print(f"{'map':22}{'PySODMetrics':>14}{'with AUC':>14}{'ours, 8-bit':>14}{'ours, float':>14}{'ratio, 8-bit':>22}")
    for name, (level, mask) in maps(options.size).items():
        truth = torch.from_numpy(mask)[None]
        grey = torch.from_numpy(level)[None]
        noise = torch.rand(grey.shape, generator=torch.Generator().manual_seed(0)) - 0.5
        dense = ((grey.float() + noise) / 255).clamp(0, 1)
        works: list[Callable[[], object]] = [
            lambda level=level, mask=mask: theirs(level, mask),
            lambda level=level, mask=mask: roc_auc_score(mask.ravel(), level.ravel()),
            lambda grey=grey, truth=truth: compute(grey, truth),
            lambda dense=dense, truth=truth: compute(dense, truth),
        ]
        runs = zip(*([seconds(work) for work in works] for _ in range(options.repeats)), strict=True)
        without, auc, ours, ours_dense = (statistics.median(times) for times in runs)
        rates = "".join(f"{1 / t:12.1f}/s" for t in (without, without + auc, ours, ours_dense))
        print(f"{name:22}{rates}{without / ours:8.1f}x, with AUC {(without + auc) / ours:.1f}x")


if __name__ == "__main__":
    main()
