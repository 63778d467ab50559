"""Practice images: deterministic, varied, well formed, and not to be solved by one cue."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from focus_framework import PluginError, Prompts, Task
from focus_framework.evaluation.baselines import CUES, baselines, best_baseline, otsu
from focus_framework.plugin.kit import silhouettes, textures
from focus_framework.plugin.kit.practice import SHARES, SPLITS, moved, of_fair_share, practice_pair, scene
from focus_framework.plugin.registry import registry

TASKS = ("salient", "camouflage", "shadow", "defocus", "forgery")


def pairs(name, split, count, size=128, seed=0):
    task = registry().get("task", name)
    return [practice_pair(task, seed=seed, split=split, index=index, size=size) for index in range(count)]


def balanced_error_rate(predicted, truth):
    """Percent, straight from its definition."""
    return 50 * ((~predicted & truth).sum() / truth.sum() + (predicted & ~truth).sum() / (~truth).sum())


@pytest.fixture(scope="module")
def shadows():
    return pairs("shadow", "test", 64)


@pytest.mark.parametrize("name", TASKS)
def test_one_seed_gives_one_image(name):
    image, mask = pairs(name, "test", 1, size=64)[0]
    again, mask_again = pairs(name, "test", 1, size=64)[0]
    assert image.dtype == np.uint8 and image.shape == (64, 64, 3)
    assert mask.dtype == bool and mask.shape == (64, 64)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(mask, mask_again)


def test_every_seed_split_and_index_gives_another_image():
    task = registry().get("task", "camouflage")
    drawn = {
        practice_pair(task, seed=seed, split=split, index=index, size=32)[0].tobytes()
        for seed in (0, 1)
        for split in SPLITS
        for index in (0, 1, 2)
    }
    assert len(drawn) == 2 * len(SPLITS) * 3


@pytest.mark.parametrize("name", TASKS)
def test_masks_take_a_fair_part_of_the_image(name):
    shares = [mask.mean() for _, mask in pairs(name, "train", 32, size=64)]
    assert SHARES[0] <= min(shares) and max(shares) <= SHARES[1]
    assert np.std(shares) > 0.04


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("size", [48, 97, 256])
def test_any_size(name, size):
    image, mask = pairs(name, "train", 1, size=size)[0]
    assert image.shape == (size, size, 3) and mask.shape == (size, size)
    assert image.std() > 5


def test_darkness_does_not_find_shadows(shadows):
    rates = []
    for image, mask in shadows:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)
        rates.append(balanced_error_rate(grey <= threshold, mask))
    assert np.mean(rates) >= 14  # 12 is asked for; the rest is room for other seeds


def test_shadows_are_darker_than_the_same_ground_beside_them(shadows):
    darker = [np.median(image[mask]) < np.median(image[~mask]) for image, mask in shadows]
    assert np.mean(darker) > 0.8


def test_sharp_region_of_defocus_holds_the_wider_gradients():
    gains = []
    for image, mask in pairs("defocus", "test", 24):
        energy = np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F))
        gains.append(energy[mask].mean() > energy[~mask].mean())
    assert np.mean(gains) > 0.8


def test_camouflage_has_the_tone_of_its_surroundings():
    for image, mask in pairs("camouflage", "test", 16):
        inside, outside = image[mask].mean(), image[~mask].mean()
        assert abs(inside - outside) < image.std()


@pytest.mark.parametrize(
    ("name", "metric", "limit"),
    [("salient", "f_beta_mean", 0.78), ("camouflage", "f_beta_mean", 0.6), ("defocus", "f_beta_mean", 0.8), ("forgery", "f1", 0.65)],
)
def test_no_single_cue_solves_a_task(name, metric, limit):
    scores = baselines(pairs(name, "train", 24), pairs(name, "test", 24), metric)
    best = best_baseline(scores, metric)
    assert scores[best] < limit, f"{best} alone reaches {scores[best]:.3f}"


def test_no_single_cue_solves_shadow(shadows):
    scores = baselines(pairs("shadow", "train", 24), shadows, "ber")
    assert min(scores.values()) >= 12


def test_baselines_find_what_one_cue_does_give():
    random = np.random.default_rng(0)

    def bright_square():
        mask = np.zeros((64, 64), bool)
        top, left = random.integers(4, 30, 2)
        mask[top : top + 24, left : left + 24] = True
        return np.repeat(np.where(mask, 200, 50)[..., None], 3, axis=2).astype(np.uint8), mask

    train, test = [bright_square() for _ in range(4)], [bright_square() for _ in range(4)]
    scores = baselines(train, test, "iou")
    assert set(scores) == {"mean mask", *(f"{how} {cue}" for how in ("otsu", "fixed") for cue in CUES)}
    assert scores["otsu brightness"] == scores["fixed brightness"] == 1
    assert scores["otsu darkness"] == 0
    assert 0 < scores["mean mask"] < 1
    assert best_baseline({"a": 2.0, "b": 1.0}, "mae") == "b"
    assert best_baseline({"a": 2.0, "b": 1.0}, "iou") == "a"


def test_otsu_splits_two_groups_of_any_range():
    values = np.array([[-0.7, -0.71, -0.69, 0.1], [0.11, 0.12, 0.1, -0.7]], np.float32)
    np.testing.assert_array_equal(otsu(values), values > -0.3)


def task_that_makes(pair):
    return Task(
        name="odd",
        title="Odd",
        prompts=Prompts("odd", "even"),
        metrics=("iou",),
        primary_metric="iou",
        practice=pair and (lambda random, size: pair),
    )


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (None, "makes no practice images; give it images with --data"),
        ((np.zeros((8, 8, 3)), np.zeros((8, 8), bool)), r"image of uint8 \[8, 8, 3\], it gave float64 \[8, 8, 3\]"),
        ((np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)), r"mask of bool \[8, 8\], it gave uint8"),
        ((np.zeros((8, 8, 3), np.uint8), None), r"mask of bool \[8, 8\], it gave NoneType"),
    ],
)
def test_wrong_practice_pairs_are_named(pair, reason):
    with pytest.raises(PluginError, match=reason):
        practice_pair(task_that_makes(pair), seed=0, split="train", index=0, size=8)


def test_a_coverage_that_never_fits_is_an_error():
    with pytest.raises(ValueError, match="none of 3 coverages"):
        of_fair_share(lambda: np.zeros((4, 4), np.float32), attempts=3)


def test_patterns_stay_in_range_and_follow_their_coordinates():
    for seed in range(40):
        random = np.random.default_rng(seed)
        pattern = textures.any_pattern(random)
        x, y = textures.coordinates(64, angle=0.3, shift=(3, 4))
        values = pattern(x, y)
        assert values.dtype == np.float32 and values.shape == (64, 64)
        assert values.min() >= 0 and values.max() <= 1.001 and values.std() > 0.01
        # sines of hundreds of radians in float32: good to about 1e-4, and not the same to the last bit for every array length
        np.testing.assert_allclose(pattern(x[:, 10:20], y[:, 10:20]), values[:, 10:20], atol=1e-3)


@pytest.mark.parametrize("kind", silhouettes.SILHOUETTES)
def test_silhouettes_fill_their_box_and_move(kind):
    thing = kind(np.random.default_rng(1))
    small = silhouettes.draw(silhouettes.place(thing, centre=(0.5, 0.5), scale=0.4), 128)
    assert 0.005 < (small > 0.5).mean() < 0.3
    further = silhouettes.draw(silhouettes.place(thing, centre=(0.625, 0.5), scale=0.4), 128)
    np.testing.assert_allclose(further[:, 16:], small[:, :-16], atol=0.02)


def test_what_is_moved_leaves_no_seam():
    ramp = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert moved(ramp, down=1, right=2).tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [4, 4, 4, 5]]
    assert np.array_equal(moved(ramp, down=0, right=0), ramp)


def test_scene_has_things_only_where_they_are_asked_for():
    with_things = scene(np.random.default_rng(3), 64, things=4)
    assert with_things.shape == (64, 64, 3) and with_things.dtype == np.float32
    assert with_things.min() >= 0 and with_things.max() <= 1


def test_listing_tasks_imports_neither_numpy_nor_cv2():
    code = (
        "import sys, focus_plugins.tasks.shadow as t, focus_plugins.tasks.forgery\n"
        "list(t.focus_tasks()); sys.exit(int(any(m in sys.modules for m in ('numpy', 'cv2', 'torch'))))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
