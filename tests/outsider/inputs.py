"""The good inputs that cases spoil: pairs, single files, a small configuration, and the checkpoint of one step with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64

TINY = """
[backbone]
name = "vit"
weights = "none"
options = { patch_size = 8, embed_dim = 32, depth = 4, num_heads = 2, init_values = 0.1 }

[enhancer]
name = "none"

[refiner]
name = "none"

[pixel_decoder]
width = 32
layers = 1
heads = 2
feedforward = 32

[decoder]
layers = 1
heads = 2
feedforward = 32

[loss]
points = 64

[preprocessing]
size = 64
resize = "square"

[data]
practice_count = 4
validation_limit = 2
workers = 0

[training]
steps = 1
batch_size = 2
learning_rate = 1e-3
device = "cpu"
trackers = []
"""

TRAINING = ("--task-plugin", "shadow", "--config", "@/tiny.toml", "--out", "run")
JOINT = ("--task-plugin", "shadow,salient", "--config", "@/tiny.toml", "--set", "conditioner.options.weights=none", "--out", "run")


def write_inputs(folder: Path) -> None:
    """All but the checkpoint, which only the program can make."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / "pairs" / name).mkdir(parents=True)
    for index in range(4):
        picture, mask = pair(random)
        Image.fromarray(picture).save(folder / "pairs" / "images" / f"{index}.png")
        Image.fromarray(mask).save(folder / "pairs" / "masks" / f"{index}.png")
    Image.fromarray(pair(random)[0]).save(folder / "one.png")
    (folder / "tiny.toml").write_text(TINY)
    (folder / "note.txt").write_text("somebody's own words\n")
    (folder / "empty").mkdir()


def pair(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on noise, and where it is, white on black."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    centre = random.uniform(20, 44, 2)
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 200
    picture = random.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8)
    picture[inside] += 120
    return picture, np.where(inside, 255, 0).astype(np.uint8)
