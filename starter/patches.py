"""Photographed surfaces with a patch of themselves or of another one, which need no renderer: a few hundredths of a second each.

    python starter/patches.py --count 800 --size 288 --seed 77 --out patches

Image N of a seed is the same everywhere, and images that are there already are left as they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from focus_framework.files.images import write_image
from focus_framework.plugin.kit.render import splices

SHARES = (0.01, 0.6)
"""Of an image, that may be patch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for index in range(options.count):
        name = f"patch-{index:05d}.png"
        if (options.out / "masks" / name).exists():
            continue
        random = np.random.default_rng([options.seed, index])
        while True:
            image, mask = splices.patch(random, options.size)
            if SHARES[0] <= mask.mean() <= SHARES[1]:
                break
        write_image(options.out / "images" / name, image)
        write_image(options.out / "masks" / name, mask.astype(np.uint8) * 255)


if __name__ == "__main__":
    main()
