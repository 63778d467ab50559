"""The runner without torch: a distribution of its own, made of the framework's own modules, with the masks of `focus predict`."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image
from support.export import exported
from support.runner import ROOT, shared

from focus_framework import DataError
from focus_framework.deploy.export.comparing import picture_of
from focus_framework.files.images import read_image, write_image
from focus_framework.files.sheets import overlay
from focus_framework.inference.inputs import as_array
from focus_framework.inference.model import Model
from focus_framework.inference.outputs import FORMS, render

ALLOWED = {"numpy", "PIL"}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Level and name of what a module imports when it runs: not for types alone."""
    tree = ast.parse(path.read_text("utf-8"))
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    left_out = {id(inner) for node in typing for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.Import):
            yield from ((0, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, str(node.module)


@pytest.mark.parametrize("name", shared())
def test_shared_modules_import_one_another_alone(name: str) -> None:
    path = ROOT / "focus_framework" / name
    for level, module in imported(path):
        if level == 0:
            # OpenCV, inside of functions: for Radiance HDR, which says so where it is missing, and to draw polygons, which masks need not.
            allowed = ALLOWED | ({"cv2"} if name in ("files/images.py", "files/coco.py") else set())
            assert module.split(".")[0] in sys.stdlib_module_names | allowed, module
        else:
            wanted = (path.parents[level - 1] / module.replace(".", "/")).relative_to(ROOT / "focus_framework")
            assert f"{wanted}.py" in shared(), module


class Runner(NamedTuple):
    """An environment with the runner, numpy, Pillow and onnxruntime, and nothing else."""

    python: Path
    model: Model
    file: Path

    def run(self, code: str, *arguments: object) -> Any:
        """What a program prints as JSON."""
        environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
        call = [str(self.python), "-c", code, *map(str, arguments)]
        # Not in this folder, from which Python would import the framework.
        done = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=120, cwd=self.file.parent)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    model, made = exported(tmp_path_factory)
    folder = tmp_path_factory.mktemp("runner")
    shutil.copytree(ROOT / "runtime", folder / "runtime", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    (folder / "focus_framework").symlink_to(ROOT / "focus_framework")
    venv.create(folder / "environment", with_pip=False, symlinks=True)
    python = folder / "environment" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", *options, "--no-build-isolation", "-w", str(folder), str(folder / "runtime")], check=True, timeout=300)
    [wheel] = folder.glob("*.whl")
    subprocess.run([*pip, "--python", str(python), "install", *options, str(wheel)], check=True, timeout=300)
    [packages] = (folder / "environment" / "lib").glob("python*/site-packages")
    for name in ("numpy", "PIL", "onnxruntime"):
        there = Path(__import__(name).__path__[0])
        for part in (there, there.parent / f"{name.lower()}.libs", there.parent / "pillow.libs"):
            if part.exists() and not (packages / part.name).exists():
                (packages / part.name).symlink_to(part)
    return Runner(python, model, made.path)


PREDICT = """
import sys, json
import numpy as np
from focus_runtime import Mask
model, out, flip, tile, *images = sys.argv[1:]
found = Mask(model, flip=bool(int(flip)), tile=int(tile), threads=1).predict(images)
np.savez(out, *[result.probability for result in found])
assert "torch" not in sys.modules
"""


def test_there_is_no_torch(runner: Runner) -> None:
    names = ["torch", "focus_framework", "cv2", "torchvision"]
    code = "import importlib.util, json, sys; print(json.dumps([bool(importlib.util.find_spec(name)) for name in sys.argv[1:]]))"
    assert runner.run(code, *names) == [False] * 4


def test_importing_it_is_quick(runner: Runner) -> None:
    code = "import time; begin = time.process_time(); import focus_runtime; print(time.process_time() - begin)"
    assert min(runner.run(code) for _ in range(3)) < 0.5


@pytest.mark.parametrize(("flip", "tile"), [(False, 0), (True, 0), (False, 64)])
def test_masks_are_those_of_focus_predict(runner: Runner, tmp_path: Path, flip: bool, tile: int) -> None:
    paths = []
    for number, size in enumerate([(70, 101), (120, 64), (64, 64), (150, 260)]):
        paths.append(tmp_path / f"{number}.png")
        write_image(paths[-1], picture_of("shadow", number, size))
    runner.run(PREDICT, runner.file, tmp_path / "found.npz", int(flip), tile, *paths)
    found = list(np.load(tmp_path / "found.npz").values())
    settings = runner.model.config.prediction.model_copy(update={"flip": flip, "tile": tile})
    model = Model(runner.model.config.model_copy(update={"prediction": settings}), runner.model.network, runner.model.description)
    expected = [result.probability for result in model.predict([str(path) for path in paths])]
    assert [have.shape for have in found] == [want.shape for want in expected]
    equal = np.concatenate([((have > 0.5) == (want > 0.5)).ravel() for have, want in zip(found, expected, strict=True)])
    assert equal.mean() >= 0.999
    assert max(np.abs(have - want).max() for have, want in zip(found, expected, strict=True)) < 0.02


READ = """
import sys
import numpy as np
from focus_runtime.inference.inputs import as_array
np.savez(sys.argv[1], *map(as_array, sys.argv[2:]))
"""


def test_images_are_read_alike(runner: Runner, tmp_path: Path) -> None:
    """Turned by EXIF, 16 bits, alpha, grey, palette, CMYK."""
    image = Image.fromarray(picture_of("shadow", 1, (40, 60)))
    turned = image.getexif()
    turned[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=turned)
    Image.fromarray((np.arange(2400).reshape(40, 60) * 27).astype(np.uint16)).save(tmp_path / "deep.png")
    image.convert("RGBA").save(tmp_path / "alpha.png")
    image.convert("L").save(tmp_path / "grey.png")
    image.convert("P").save(tmp_path / "palette.png")
    image.convert("CMYK").save(tmp_path / "ink.tif")
    paths = sorted(path for path in tmp_path.iterdir())
    runner.run(READ, tmp_path / "found.npz", *paths)
    with np.load(tmp_path / "found.npz") as found:
        for path, have in zip(paths, found.values(), strict=True):
            np.testing.assert_array_equal(have, read_image(path), err_msg=path.name)


def test_the_command_writes_every_form(runner: Runner, tmp_path: Path) -> None:
    image = picture_of("shadow", 2, (70, 101))
    write_image(tmp_path / "images" / "a.png", image)
    command = [runner.python.with_name("focus-mask"), tmp_path / "images", "--model", runner.file, "--out", tmp_path / "out"]
    done = subprocess.run([*command, "--save", ",".join(FORMS)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = runner.model.predict(image)
    for form in FORMS:
        if form != "rle":
            have = np.asarray(Image.open(tmp_path / "out" / form / "a.png"))
            assert (np.abs(have.astype(int) - render(form, expected).astype(int)) > 4).mean() < 0.001, form
    assert json.loads((tmp_path / "out" / "rle" / "a.json").read_text())["size"] == [70, 101]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["no.png", "--model", "MODEL", "--out", "out"], 1, "error: no.png does not exist"),
        (["no.png", "--model", "no.onnx", "--out", "out"], 1, "error: no.onnx does not exist"),
        (["no.png", "--model", "text.onnx", "--out", "out"], 1, "error: text.onnx cannot be opened as ONNX"),
        (["no.png", "--model", "MODEL", "--out", "out", "--save", "picture"], 2, "error: predictions have no form 'picture'"),
        (["no.png", "--model", "MODEL", "--out", "out", "--tile", "7"], 2, "error: tile is 7; it must be 0 or at least 64"),
    ],
)
def test_wrong_calls_of_the_command_are_named(runner: Runner, tmp_path: Path, arguments: list[str], code: int, told: str) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    call = [str(runner.python.with_name("focus-mask")), *(str(runner.file) if word == "MODEL" else word for word in arguments)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (done.returncode, done.stderr.startswith(told)) == (code, True), done.stderr


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (90, 70), (300, 500)])
def test_the_line_around_a_mask_is_opencvs(size: tuple[int, int]) -> None:
    random = np.random.default_rng(3)
    mask = cv2.resize(random.random((7, 9), np.float32), size[::-1]) > 0.5
    image = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    thickness = max(3, round(max(size) / 200)) | 1
    line = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((thickness, thickness), np.uint8)) > 0
    np.testing.assert_array_equal((overlay(image, mask) == [255, 40, 40]).all(2) | ~line, True)
    untouched = ~line & ~mask
    np.testing.assert_array_equal(overlay(image, mask)[untouched], image[untouched])


def test_a_batch_is_known_without_torch_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(DataError, match="not list"):
        as_array([1])  # type: ignore[arg-type]
