"""How the compiled op is built and packed: with any nvcc or none, and which library is loaded."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"

# Takes the compiler's place: says what it knows, writes what it was called with, fails where it is told to.
NVCC = """#!/bin/sh
echo "$@" >> "$0.calls"
case "$1" in
  --version) echo "Cuda compilation tools, release 12.6, V12.6.20" ;;
  --list-gpu-arch) printf 'compute_50\\ncompute_75\\ncompute_80\\ncompute_86\\ncompute_90\\n' ;;
  -shared) {linking} ;;
  *) {compiling} ;;
esac
"""
FAILS = "echo 'In file included from x'; echo 'nvcc fatal : unsupported gcc \"99\"!' >&2; exit 1"


def load_setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ops_setup", CSRC / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fake_nvcc(folder: Path, *, compiling: str = "exit 0", linking: str = "exit 0") -> Path:
    (folder / "bin").mkdir()
    nvcc = folder / "bin" / "nvcc"
    nvcc.write_text(NVCC.format(compiling=compiling, linking=linking))
    nvcc.chmod(0o755)
    return nvcc


def build(folder: Path, monkeypatch: pytest.MonkeyPatch, wanted: str = "auto") -> Path:
    """Builds a library of two small files, as setup.py does it, with the nvcc in `folder`; returns its path."""
    from setuptools import Distribution, Extension

    monkeypatch.chdir(folder)
    monkeypatch.setenv("FOCUS_BUILD_CUDA", wanted)
    monkeypatch.setenv("CUDA_HOME", str(folder))
    monkeypatch.delenv("FOCUS_CUDA_ARCHITECTURES", raising=False)
    (folder / "src").mkdir()
    (folder / "src" / "other.cpp").write_text("int other() { return 1; }\n")
    (folder / "src" / "instructions.h").write_text(
        'namespace focus_ops { inline int instructions() { return 0; } inline const char* name_of(int) { return "none"; } }\n'
    )
    shutil.copy(CSRC / "src" / "build_info.cpp", folder / "src")
    # In place of torch's libraries, which take seconds to load.
    (folder / "torch" / "lib").mkdir(parents=True)
    for name in ("libtorch.so", "libtorch_cpu.so"):
        subprocess.run(["g++", "-shared", str(folder / "src" / "other.cpp"), "-o", str(folder / "torch" / "lib" / name)], check=True)
    setup = load_setup()
    monkeypatch.setattr(setup, "torch_folder", lambda: folder / "torch")
    extension = Extension("native", sources=["src/build_info.cpp", "src/other.cpp"], py_limited_api=True)
    command = setup.BuildNative(Distribution({"name": "native", "ext_modules": [extension]}))
    command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "temp")
    command.ensure_finalized()
    command.run()
    return folder / "lib" / "native.abi3.so"


def exported(library: Path, name: str) -> str:
    code = f"import ctypes; f = ctypes.CDLL({str(library)!r}).{name}; f.restype = ctypes.c_char_p; print(f().decode())"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library.parents[1] / "torch" / "lib")}
    return subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True).stdout.strip()


def test_the_architectures_are_those_that_nvcc_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOCUS_CUDA_ARCHITECTURES", raising=False)
    nvcc, setup = fake_nvcc(tmp_path), load_setup()
    names = setup.architectures(nvcc)
    assert names == ["75", "80", "90"]
    assert setup.targets(names) == ["sm_75", "sm_80", "sm_90", "compute_75", "compute_90"]
    monkeypatch.setenv("FOCUS_CUDA_ARCHITECTURES", "120; 90a")
    assert setup.targets(setup.architectures(nvcc)) == ["sm_90a", "sm_120", "compute_90a", "compute_120"]
    monkeypatch.setenv("FOCUS_CUDA_ARCHITECTURES", "87")
    assert setup.targets(setup.architectures(nvcc)) == ["sm_87", "compute_87"]


needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or sys.platform != "linux", reason="needs g++ and the shell of Linux to build a small library"
)


@needs_compiler
@pytest.mark.parametrize("broken", ["compiling", "linking"])
def test_a_cuda_part_that_cannot_be_built_leaves_the_rest_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], broken: str
) -> None:
    nvcc = fake_nvcc(tmp_path, **{broken: FAILS})
    library = build(tmp_path, monkeypatch)
    assert exported(library, "focus_ops_cuda") == ""
    reason = f'{nvcc} fails: nvcc fatal : unsupported gcc "99"!'
    assert exported(library, "focus_ops_cuda_failure") == reason
    warnings = [line for line in capfd.readouterr().err.splitlines() if "warning" in line]
    assert warnings == [f"focus-framework-ops: warning: built without CUDA, because {reason}"]


@needs_compiler
def test_where_the_kernels_are_insisted_on_a_failure_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvcc(tmp_path, compiling=FAILS)
    with pytest.raises(SystemExit, match=r"FOCUS_BUILD_CUDA=1, but .*nvcc fails: nvcc fatal : unsupported gcc"):
        build(tmp_path, monkeypatch, "1")


@needs_compiler
def test_an_nvcc_that_works_is_called_for_what_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = 'while [ "$1" != -o ]; do case $1 in *.o) objects="$objects $1" ;; esac; shift; done; g++ -shared $objects -o $2'
    nvcc = fake_nvcc(tmp_path, compiling='for last; do :; done; echo "int kernels;" | g++ -c -fPIC -x c++ - -o "$last"', linking=link)
    library = build(tmp_path, monkeypatch)
    assert exported(library, "focus_ops_cuda") == "12.6 for sm_75,sm_80,sm_90,compute_75,compute_90"
    calls = nvcc.with_name("nvcc.calls").read_text()
    for target in ("75,code=sm_75", "80,code=sm_80", "90,code=sm_90", "75,code=compute_75", "90,code=compute_90"):
        assert f"-gencode=arch=compute_{target}" in calls
    assert "120" not in calls


def test_a_library_left_by_an_earlier_build_is_not_loaded(tmp_path: Path) -> None:
    """Any of them would end the import: they hold nothing."""
    focus_ops = pytest.importorskip("focus_ops", reason="focus-framework-ops is not installed")
    source = Path(focus_ops.__file__).parent
    shutil.copytree(source, tmp_path / "focus_ops", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_native.cpython-311-x86_64-linux-gnu.so", "_native.abi3.so.old", "_native.so", "_native.a"):
        (tmp_path / "focus_ops" / name).touch()
    code = "import focus_ops; print(focus_ops.__file__, focus_ops.build_info()['instructions'])"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(str(tmp_path))


def test_the_source_distribution_has_all_it_takes_to_build_and_check(tmp_path: Path) -> None:
    copy = tmp_path / "csrc"
    shutil.copytree(CSRC, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__", "*.so"))
    command = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(tmp_path / "dist")]
    ran = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    needed = {path.relative_to(copy).as_posix() for folder in ("src", "focus_ops", "tests") for path in (copy / folder).glob("*.*")}
    assert needed - names == set()
