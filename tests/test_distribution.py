"""What is published: a wheel has everything that runs, names what others made, and gives a mask where nothing else of ours is."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import numpy as np
import pytest

from focus_framework.files.images import read_image, write_image

ROOT = Path(__file__).parents[1]
OTHERS = ("/assets/surfaces/", "/assets/panoramas/")
"""Files of the wheel that are not ours; NOTICE names their makers."""


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert ended.returncode == 0, ended.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of the framework and its starter, built from what git would publish."""
    folder = tmp_path_factory.mktemp("wheels")
    sources = folder / "sources"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("not a checkout of git, so that what is published cannot be told from what lies about")
    for name in map(os.fsdecode, listed.stdout.split(b"\0")):
        if name and not name.startswith(("tests/", "docs/")) and (ROOT / name).is_file():
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            (sources / name).write_bytes((ROOT / name).read_bytes())
    for part in (sources, sources / "starter"):
        pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "built", part)
    return folder / "built"


def test_the_wheel_has_every_module_and_file_of_the_packages(wheels: Path) -> None:
    (wheel,) = wheels.glob("focus_framework-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(["git", "ls-files", "focus_framework", "plugins"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert len(listed) > 150
    assert not {name.replace("plugins/", "focus_plugins/", 1) if name.startswith("plugins/") else name for name in listed} - names


def test_the_wheel_says_whose_its_parts_are(wheels: Path) -> None:
    (wheel,) = wheels.glob("focus_framework-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        metadata = HeaderParser().parsestr(archive.read(next(n for n in archive.namelist() if n.endswith("/METADATA"))).decode())
        assert metadata["License-Expression"] == "Apache-2.0"
        assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
        notice = archive.read(next(name for name in archive.namelist() if name.endswith("licenses/NOTICE"))).decode()
        # Images and weights are what others may have made; a new kind has to be named there.
        foreign = [name for name in archive.namelist() if name.endswith((".jpg", ".png", ".exr", ".hdr", ".safetensors", ".npz", ".ttf"))]
    assert foreign and all(any(part in name for part in OTHERS) for name in foreign)
    assert all(part.split("/")[2] + "/" in notice for part in OTHERS)


def test_a_source_distribution_gives_the_same_wheel(wheels: Path, tmp_path: Path) -> None:
    build = "import sys, setuptools.build_meta as backend; backend.build_sdist(sys.argv[1])"
    for folder, name in ((".", "focus_framework"), ("starter", "focus_framework_starter")):
        where = wheels.parent / "sources" / folder
        ended = subprocess.run([sys.executable, "-c", build, tmp_path], cwd=where, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path / "again", *tmp_path.glob(f"{name}-*.tar.gz"))
        again, first = (zipfile.ZipFile(next(place.glob(f"{name}-*.whl"))) for place in (tmp_path / "again", wheels))
        assert {one.filename: one.CRC for one in again.infolist() if not one.filename.endswith("RECORD")} == {
            one.filename: one.CRC for one in first.infolist() if not one.filename.endswith("RECORD")
        }


def test_a_first_mask_from_the_wheels_alone(wheels: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    pip("install", "--no-deps", "--no-index", "--target", installed, *wheels.glob("*.whl"))
    image = np.full((96, 128, 3), 40, np.uint8)
    image[24:72, 40:88] = (230, 200, 60)
    write_image(tmp_path / "photo.png", image)
    code = "import focus_framework, focus_command; print(focus_framework.__file__); focus_command.main()"
    call = ["predict", "photo.png", "--task-plugin", "salient", "--out", "masks"]
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run([sys.executable, "-c", code, *call], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(str(installed))
    assert read_image(tmp_path / "masks" / "photo.png").shape[:2] == (96, 128)
