"""Builds the CUDA side of the compiled op for the host: a `focus_ops` whose "cpu" is the emulated GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import torch

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
COMPILER = shutil.which("g++")


def host_source() -> str:
    """cuda.cu as a C++ compiler takes it: launches become calls, and the operators those of the CPU."""
    text = (CSRC / "src" / "cuda.cu").read_text()
    text, launches = re.subn(r"(\w+)<<<(.*?)>>>\(", r"emulation::launch(\1, \2, ", text)
    text, registrations = re.subn(r"STABLE_TORCH_LIBRARY_IMPL\(focus_ops, CUDA,", "STABLE_TORCH_LIBRARY_IMPL(focus_ops, CPU,", text)
    if not (launches and registrations):
        raise ValueError("cuda.cu has no launch or registration in the form that is looked for")
    return text


def compile_host(sources: list[Path], target: Path, *flags: str) -> None:
    includes = [HERE, CSRC / "src", Path(torch.__file__).parent / "include"]
    options = ["-std=c++20", "-O1", "-g1", "-fPIC", "-pthread", "-U_FORTIFY_SOURCE", "-DTORCH_TARGET_VERSION=0x020a000000000000ULL", *flags]
    command = [str(COMPILER), *options, *(f"-I{folder}" for folder in includes), *map(str, sources), "-o", str(target)]
    subprocess.run(command, check=True)


def build_package(folder: Path, *flags: str) -> Path:
    """Writes a package `focus_ops` with the emulated library into a folder, to be put before all others on the path."""
    package = folder / "focus_ops"
    shutil.copytree(CSRC / "focus_ops", package, ignore=shutil.ignore_patterns("__pycache__", "_native*"))
    source = folder / "cuda_host.cpp"
    source.write_text(host_source())
    others = [CSRC / "src" / name for name in ("arguments.cpp", "library.cpp", "build_info.cpp")]
    link = ["-shared", "-fvisibility=hidden", "-Wl,-Bsymbolic", "-Wl,--no-as-needed", f"-L{Path(torch.__file__).parent / 'lib'}"]
    compile_host([source, *others, HERE / "support.cpp"], package / "_native.abi3.so", *link, "-ltorch", "-ltorch_cpu", *flags)
    return folder


def compiler_library(name: str) -> str:
    """Where the compiler keeps a library of its own."""
    found = subprocess.run([str(COMPILER), f"-print-file-name={name}"], check=True, capture_output=True, text=True)
    return found.stdout.strip()
