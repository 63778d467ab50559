"""What a step sees depends on the seed and the step, and on nothing else; image and mask stay together."""

from __future__ import annotations

import multiprocessing
import sys
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from focus_framework.data import dataset
from focus_framework.data.augment import IGNORE, PADDING, Augmentation, change_colour
from focus_framework.data.dataset import Images, PairImages, PracticeImages, TrainingSamples, batches
from focus_framework.data.pairs import find_pairs
from focus_framework.errors import DataError
from focus_framework.plugin.interfaces import Prompts, Task
from focus_framework.plugin.registry import registry

RECIPES = ("none", "plain", "paper", "release")


def practice(random: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((size, size), bool)
    row, column = random.integers(0, size // 2, 2)
    mask[row : row + size // 3, column : column + size // 3] = True
    return random.integers(0, 256, (size, size, 3), dtype=np.uint8), mask


TASK = Task(name="squares", title="Squares", prompts=Prompts("a", "b"), metrics=("mae",), primary_metric="mae", practice=practice)


def samples(recipe="plain", *, seed=0, count=10, task=TASK, size=32) -> TrainingSamples:
    return TrainingSamples(PracticeImages(task, count, size=48, seed=5), Augmentation.of_task(recipe, size, task), seed=seed)


def same(a, b) -> bool:
    return torch.equal(a["image"], b["image"]) and torch.equal(a["mask"], b["mask"]) and a["name"] == b["name"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_sample_is_what_it_says(recipe):
    for number in range(20):
        sample = samples(recipe)[number]
        assert sample["image"].shape == (3, 32, 32) and sample["image"].dtype == torch.float32
        assert sample["image"].min() >= 0 and 0.5 < sample["image"].max() <= 1
        assert sample["mask"].shape == (32, 32) and sample["mask"].dtype == torch.uint8
        assert set(sample["mask"].unique().tolist()) <= {0, 1, IGNORE}


@pytest.mark.parametrize("recipe", ["plain", "release"])
def test_neither_workers_nor_a_restart_nor_other_randomness_change_a_step(recipe):
    whole = list(islice(batches(samples(recipe), batch_size=3), 8))
    torch.manual_seed(99)
    np.random.seed(99)
    workers = list(islice(batches(samples(recipe), batch_size=3, workers=2), 8))
    later = list(islice(batches(samples(recipe), batch_size=3, first_step=5), 3))
    assert all(same(a, b) for a, b in zip(whole, workers, strict=True))
    assert all(same(a, b) for a, b in zip(whole[5:], later, strict=True))
    assert not same(whole[0], next(batches(samples(recipe, seed=1), batch_size=3)))


@pytest.mark.parametrize(
    "start",
    [
        pytest.param("forkserver", marks=pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not forked")),
        "spawn",
    ],
)
def test_workers_know_a_task_from_a_file_however_python_starts_processes(start, tmp_path, monkeypatch):
    """forkserver is usual on Linux from Python 3.14 on, spawn on macOS and Windows; functions without a name travel by neither."""
    (tmp_path / "own_task.py").write_text(
        "import numpy as np\nfrom focus_framework import Prompts, Task\n"
        "practice = lambda random, size: (np.zeros((size, size, 3), np.uint8), np.arange(size * size).reshape(size, size) < 99)\n"
        "task = Task(name='own', title='Own', prompts=Prompts('a', 'b'), metrics=['mae'], primary_metric='mae', practice=practice)\n"
    )
    task = registry().find_task(f"{tmp_path / 'own_task.py'}:task").get()
    usual = multiprocessing.get_start_method()
    multiprocessing.set_start_method(start, force=True)
    if start == "spawn":
        monkeypatch.setattr(dataset, "FORK", None)
    try:
        batch = next(batches(samples(task=task), batch_size=2, workers=1))
    finally:
        multiprocessing.set_start_method(usual, force=True)
    assert same(batch, next(batches(samples(task=task), batch_size=2)))


def test_processes_share_a_step_between_them():
    one = list(islice(batches(samples(), batch_size=4), 3))
    two = [list(islice(batches(samples(), batch_size=2, rank=rank, processes=2), 3)) for rank in (0, 1)]
    for whole, first, second in zip(one, *two, strict=True):
        assert torch.equal(whole["image"], torch.cat([first["image"], second["image"]]))
        assert whole["name"] == first["name"] + second["name"]


def test_every_image_comes_once_in_each_pass_and_in_another_order():
    data = samples(count=50)
    passes = [[data.index(number) for number in range(start, start + 50)] for start in (0, 50, 100)]
    assert all(sorted(one) == list(range(50)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    assert [data.index(number) for number in range(50)] == passes[0]  # going back is possible


def test_the_same_image_is_cut_anew_each_time():
    data = samples(count=1)
    assert len({data[number]["image"].numpy().tobytes() for number in range(20)}) == 20


def marked(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose channels are its mask, its column and its row, so that what became of them can be read from it."""
    row, column = np.mgrid[0:height, 0:width]
    mask = np.hypot((row - height * 0.4) / height, (column - width * 0.3) / width) < 0.3
    image = np.stack([mask * 255, column * 255 // width, row * 255 // height]).astype(np.uint8)
    return torch.from_numpy(image), torch.from_numpy(mask)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("sharpness", [True, False])
@pytest.mark.parametrize("stretched", [True, False])
@pytest.mark.parametrize(("height", "width"), [(90, 160), (300, 70), (64, 64), (1, 1), (3, 200)])
def test_image_and_mask_stay_together(recipe, sharpness, stretched, height, width):
    augment = Augmentation(recipe, 64, colour=False, sharpness=sharpness, stretched=stretched)
    image, mask = marked(height, width)
    flips = set()
    for number in range(20):
        pixels, label = augment(image, mask, np.random.default_rng(number))
        known = label != IGNORE
        assert pixels.shape == (3, 64, 64) and label.shape == (64, 64)
        assert torch.equal((pixels[0] > 127)[known], (label == 1)[known])
        assert torch.all(pixels[:, ~known] == PADDING)
        assert known.any()
        if recipe == "none" or (recipe == "plain" and sharpness):
            assert known.all()
        if width >= 64:
            row = int(known.any(1).nonzero()[0])
            columns = pixels[1, row][known[row]].int()
            flips.add(bool(columns[0] > columns[-1]))
    if width >= 64:
        assert flips == ({False} if recipe == "none" else {True, False})


def scale(pixels: torch.Tensor, label: torch.Tensor) -> float:
    """Grey values of the row channel per pixel: how much the image was shrunk."""
    rows = (label != IGNORE).any(1).nonzero().flatten()
    column = int((label[rows[0]] != IGNORE).nonzero()[0])
    values = pixels[2, rows, column].double()
    return float((values[-2] - values[1]) / (len(values) - 3))


@pytest.mark.parametrize("recipe", ["plain", "paper", "release"])
def test_a_task_that_lives_on_sharpness_sees_one_scale(recipe):
    image, mask = marked(200, 200)
    scales = {sharp: [scale(*Augmentation(recipe, 64, False, sharp)(image, mask, np.random.default_rng(n))) for n in range(30)]
              for sharp in (True, False)}  # fmt: skip
    assert np.ptp(scales[False]) < 0.15
    assert np.mean(scales[False]) == pytest.approx(255 / 64, abs=0.15)
    assert np.ptp(scales[True]) > 1


@pytest.mark.parametrize(("height", "width"), [(100, 200), (150, 75)])
def test_such_a_task_sees_the_shape_that_prediction_sees(height, width):
    """Nothing is stretched: a row of the image is as thick as where its short side has 64 pixels."""
    image, mask = marked(height, width)
    augment = Augmentation("plain", 64, colour=False, sharpness=False, stretched=False)
    seen = [augment(image, mask, np.random.default_rng(number)) for number in range(60)]
    assert np.ptp([scale(*sample) for sample in seen]) < 0.3
    assert np.mean([scale(*sample) for sample in seen]) == pytest.approx(255 / (64 * height / min(height, width)), abs=0.15)
    shown = torch.cat([pixels[1 if width > height else 2][label != IGNORE] for pixels, label in seen])
    assert shown.min() < 5 and shown.max() > 249  # from end to end, though no sample shows both


def test_the_published_sizes():
    """Short sides {128, 153, ..., 512} for 512, padding at the lower and right edge (NOTES)."""
    image, mask = marked(100, 100)
    seen = set()
    for number in range(120):
        _, label = Augmentation("release", 512, colour=False)(image, mask, np.random.default_rng(number))
        known = label != IGNORE
        side = int(known[0].sum())
        assert known[:side, :side].all() and known.sum() == side * side
        seen.add(side)
    assert sorted(seen) == [int(512 * step * 0.05 + 1e-9) for step in range(5, 21)]
    assert {128, 153, 179, 512} <= seen


def test_the_release_cuts_twice_and_the_paper_once():
    """An image of 64 x 256: the release draws a window of 80 columns and keeps its first 64, so the last 16 are never seen."""
    image, mask = torch.zeros(3, 64, 256, dtype=torch.uint8), torch.zeros(64, 256, dtype=torch.bool)
    image[1] = torch.arange(256)
    last = {}
    for recipe in ("paper", "release"):
        augment = Augmentation(recipe, 64, colour=False, sharpness=False)
        last[recipe] = max(int(augment(image, mask, np.random.default_rng(n))[0][1].max()) for n in range(1500))
    assert last == {"paper": 255, "release": 255 - 16}


@pytest.mark.parametrize("recipe", ["plain", "paper", "release"])
def test_colours_stay_where_the_task_says_so(recipe):
    image, mask = torch.full((3, 70, 70), 77, dtype=torch.uint8), torch.ones(70, 70, dtype=torch.bool)
    image[1], image[2] = 150, 220
    task = replace(TASK, change_colour=False)
    for number in range(10):
        pixels, label = Augmentation.of_task(recipe, 64, task)(image, mask, np.random.default_rng(number))
        assert all((pixels[c][label == 1] == value).all() for c, value in enumerate((77, 150, 220)))
    changed = [Augmentation.of_task(recipe, 64, TASK)(image, mask, np.random.default_rng(n))[0].float().mean() for n in range(20)]
    assert np.ptp(changed) > 5


def test_colour_changes_are_within_their_ranges():
    grey = torch.full((3, 8, 8), 100, dtype=torch.uint8)  # contrast, saturation and hue leave a grey image alone
    values = np.array([float(change_colour(grey, np.random.default_rng(n)).float().mean()) for n in range(400)])
    assert 86 <= values.min() < 89 and 111 < values.max() <= 112  # 87.5 to 112.5; two changes round down, each
    assert 0.5 < (np.abs(values - 100) <= 2).mean() < 0.68  # brightness: half of the cases unchanged, and 16 % of the rest hardly
    mild = [float(change_colour(grey, np.random.default_rng(n), strength=0.4).float().mean()) for n in range(200)]
    assert min(mild) >= 93 and max(mild) <= 105


def test_a_cut_keeps_both_sides_of_the_mask():
    image, mask = torch.zeros(3, 100, 100, dtype=torch.uint8), torch.zeros(100, 100, dtype=torch.bool)
    mask[2:30, 2:30] = True
    augment = Augmentation("plain", 32)
    assert all({0, 1} == set(augment(image, mask, np.random.default_rng(n))[1].unique().tolist()) for n in range(100))


class Counting(Images):
    def __init__(self, count: int, **options: int) -> None:
        super().__init__([str(i) for i in range(count)], **options)
        self.reads = 0

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        self.reads += 1
        return np.full((10, 10, 3), index, np.uint8), np.zeros((10, 10), bool)


def test_images_are_kept_as_far_as_there_is_room():
    pictures = Counting(5, cache_bytes=3 * 400)
    for _ in range(3):
        assert [int(image[0, 0, 0]) for image, _ in pictures] == [0, 1, 2, 3, 4]
    assert pictures.reads == 5 + 2 + 2
    assert int(pictures[-1][0][0, 0, 0]) == 4
    assert [int(image[0, 0, 0]) for image, _ in pictures[1:3]] == [1, 2]
    with pytest.raises(IndexError):
        pictures[5]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_pair_is_named_also_from_a_worker(tmp_path, workers):
    for folder, size in (("images", (9, 9)), ("masks", (9, 8))):
        (tmp_path / folder).mkdir()
        Image.new("RGB", size).save(tmp_path / folder / "a.png")
    data = TrainingSamples(PairImages(find_pairs(str(tmp_path))), Augmentation("plain", 32), seed=0)
    with pytest.raises(DataError, match=r"^mask .*masks/a\.png is 9 x 8 but its image is 9 x 9 .*size$"):  # and no traceback in it
        next(batches(data, batch_size=2, workers=workers))


def test_the_global_stream_of_chance_is_left_alone():
    before = torch.get_rng_state()
    next(batches(samples(), batch_size=2))
    assert torch.equal(before, torch.get_rng_state())
