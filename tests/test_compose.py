"""Practice images out of photographs: from the seed alone, of the right size, each with the cue of its task."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from focus_framework.cli.data import data
from focus_framework.data.check import check
from focus_framework.data.generate import write_composed
from focus_framework.data.pairs import Pair, find_pairs
from focus_framework.errors import PluginError
from focus_framework.plugin.interfaces import Prompts, Task
from focus_framework.plugin.registry import registry

TASKS = ("salient", "camouflage", "shadow", "defocus", "forgery")
SIZE, COUNT = 64, 12


def paint(folder: Path, number: int, height: int, width: int) -> None:
    """Something like a photograph: noisy ground of one colour, a noisy ellipse of another."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[0:height, 0:width]
    mask = ((y - height * 0.6) / (height * 0.3)) ** 2 + ((x - width * 0.7) / (width * 0.2)) ** 2 < 1
    colours = random.integers(60, 200, (2, 3))
    image = np.where(mask[..., None], colours[0], colours[1]) + random.normal(0, 20, (height, width, 3))
    for name, array in (("images", np.clip(image, 0, 255).astype(np.uint8)), ("masks", mask * np.uint8(255))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    folder = tmp_path_factory.mktemp("photographs")
    for number, (height, width) in enumerate([(90, 120), (150, 100), (70, 70), (64, 200)]):
        paint(folder, number, height, width)
    return find_pairs(str(folder))


@pytest.fixture(scope="module")
def made(photographs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Pair]]:
    out = tmp_path_factory.mktemp("made")
    for name in TASKS:
        write_composed(registry().get("task", name), photographs, out / name, count=COUNT, size=SIZE)
    return {name: find_pairs(str(out / name)) for name in TASKS}


@pytest.mark.parametrize("name", TASKS)
def test_pairs_are_sound_and_all_different(made, name):
    assert len(made[name]) == COUNT
    assert {pair.read_image().shape for pair in made[name]} == {(SIZE, SIZE, 3)}
    report = check(str(made[name][0].image.parents[1]))
    assert [p for p in report.problems if p.kind != "suspicious-polarity"] == []


@pytest.mark.parametrize("name", TASKS)
def test_the_seed_decides(made, photographs, tmp_path, name):
    task = registry().get("task", name)
    write_composed(task, photographs, tmp_path / "again", count=2, size=SIZE)
    write_composed(task, photographs, tmp_path / "other", count=2, size=SIZE, seed=1)
    for before, again, other in zip(made[name], find_pairs(str(tmp_path / "again")), find_pairs(str(tmp_path / "other")), strict=False):
        assert before.image.read_bytes() == again.image.read_bytes() and before.mask.read_bytes() == again.mask.read_bytes()
        assert before.image.read_bytes() != other.image.read_bytes()


def across_the_edge(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels a little inside and a little outside of the mask."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1) > 0
    outer = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return image[mask & inner].astype(float), image[~outer].astype(float)


def test_shadows_are_darker_and_bluer(made):
    for pair in made["shadow"]:
        inside, outside = across_the_edge(*pair.read())
        if len(inside) and len(outside):
            ratio = np.median(inside, axis=0) / np.maximum(np.median(outside, axis=0), 1)
            assert ratio.max() < 0.9
            assert ratio[2] > ratio[0]


def test_the_background_of_defocus_is_smooth_and_the_thing_is_not(made):
    for pair in made["defocus"]:
        image, mask = pair.read()
        fine = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0) - cv2.GaussianBlur(image.astype(np.float32), (0, 0), 2.0)
        inside, outside = across_the_edge(np.abs(fine).mean(axis=2), mask)
        assert inside.mean() > 1.5 * outside.mean()  # not more, as both have the grain


def test_camouflage_takes_on_the_colours_of_its_surroundings_and_saliency_does_not(made):
    def distance(pair: Pair) -> float:
        inside, outside = across_the_edge(*pair.read())
        return float(np.abs(np.median(inside, axis=0) - np.median(outside, axis=0)).mean())

    hidden, seen = (np.median([distance(pair) for pair in made[name]]) for name in ("camouflage", "salient"))
    assert hidden < 0.4 * seen


def test_a_forgery_leaves_its_host_as_it_was(made, photographs):
    """Outside of the splice there is another image's ground; the spliced thing has the colour of a third's thing."""
    things = [pair.read() for pair in photographs]
    colours = [np.median(image[mask], axis=0) for image, mask in things]
    for pair in made["forgery"]:
        inside, _ = across_the_edge(*pair.read())
        if len(inside):
            assert min(np.abs(np.median(inside, axis=0) - colour).max() for colour in colours) < 12


def test_one_photograph_is_enough_and_one_without_thing_does_no_harm(photographs, tmp_path):
    Image.fromarray(np.zeros((90, 120), np.uint8)).save(tmp_path / "nothing.png")
    bare = Pair(photographs[0].image, tmp_path / "nothing.png", "white", "bare")
    for name in TASKS:
        write_composed(registry().get("task", name), photographs[:1], tmp_path / name, count=2, size=SIZE)
        write_composed(registry().get("task", name), [bare], tmp_path / f"{name}-bare", count=2, size=SIZE)
        assert len(find_pairs(str(tmp_path / name))) == 2


def test_a_task_that_cannot_compose_says_so(photographs, tmp_path):
    task = Task(name="glass", title="Glass", prompts=Prompts("a", "b"), metrics=("mae",), primary_metric="mae")
    with pytest.raises(PluginError, match="task glass does not compose photographs"):
        write_composed(task, photographs, tmp_path, count=1, size=SIZE)


def test_on_the_command_line(photographs, tmp_path):
    folder = photographs[0].image.parents[1]
    arguments = ["generate", "shadow", "--from", f"images={folder}/images,masks={folder}/masks", "--out", str(tmp_path), "--count", "2"]
    result = CliRunner().invoke(data, [*arguments, "--size", "48"])
    assert result.exit_code == 0, result.output
    assert find_pairs(str(tmp_path))[1].read_image().shape == (48, 48, 3)
