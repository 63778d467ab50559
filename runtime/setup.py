"""Puts the modules that framework and runner have in common into the wheel: the framework's own files, which live once, under the same
names below `focus_runtime`. They import nothing but one another, numpy and Pillow; tests/test_runner.py holds that."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "shared" if (HERE / "shared").is_dir() else HERE.parent / "focus_framework"
"""Where the shared modules lie: in a source distribution beside this file, in a checkout in the framework."""
SHARED = (
    "errors.py",
    *(f"files/{name}.py" for name in ("__init__", "atomic", "coco", "images", "reading", "sheets")),
    *(f"inference/{name}.py" for name in ("__init__", "inputs", "outputs", "preparing", "result", "views")),
)


def copy_shared(folder: Path) -> None:
    for name in SHARED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SOURCE / name, folder / name)


class WithShared(build_py):
    """The runner's own modules and the shared ones."""

    def run(self) -> None:
        super().run()
        copy_shared(Path(self.build_lib) / "focus_runtime")


class SourceWithShared(sdist):
    """The shared modules too, for a build away from the checkout."""

    def make_release_tree(self, base_dir: str, files: Iterable[str]) -> None:
        super().make_release_tree(base_dir, files)
        copy_shared(Path(base_dir) / "shared")


setup(cmdclass={"build_py": WithShared, "sdist": SourceWithShared})
