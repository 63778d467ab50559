"""How long ``focus evaluate --predictions`` takes for as many pairs as a benchmark has, reading included.

    python benchmarks/evaluation.py                # 5,019 pairs of 400 x 300, DUTS-TE's size, made on the spot
    python benchmarks/evaluation.py --pairs 500    # a tenth of that

Masks are one to three ellipses, maps the same with soft borders, noise and holes; both are PNG files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 400, 300


def pair(random: Any) -> tuple[Any, Any]:
    """A mask and a map, uint8."""
    import cv2
    import numpy as np

    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for _ in range(random.integers(1, 4)):
        centre = [int(value) for value in random.integers((60, 60), (WIDTH - 60, HEIGHT - 60))]
        axes = [int(value) for value in random.integers(20, 90, 2)]
        cv2.ellipse(mask, centre, axes, float(random.integers(180)), 0, 360, 255, -1)
    noise = cv2.GaussianBlur(random.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 5) * 600
    soft = cv2.GaussianBlur(mask, (0, 0), 6).astype(np.float32) + noise
    return mask, np.clip(soft, 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5019)
    given = parser.parse_args()
    import cv2
    import numpy as np

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for part in ("masks", "maps"):
            (folder / part).mkdir()
        for index in range(given.pairs):
            for part, pixels in zip(("masks", "maps"), pair(random), strict=True):
                cv2.imwrite(str(folder / part / f"{index:05}.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        command = [sys.executable, "-m", "focus_framework", "evaluate", "--json"]
        command += ["--predictions", str(folder / "maps"), "--masks", str(folder / "masks")]
        before, start = os.times(), time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        wall, after = time.monotonic() - start, os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    count = json.loads(done.stdout)["results"][0]["count"]
    each = f"{processor / count * 1e3:.1f} ms a pair"
    print(f"{count} pairs: {wall:.1f} s, {processor:.1f} processor seconds ({each}), start of Python included")


if __name__ == "__main__":
    main()
