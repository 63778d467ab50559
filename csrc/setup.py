"""Builds the native library against LibTorch's stable ABI.

Environment variables:
    FOCUS_BUILD_CUDA   "1" builds the CUDA kernels and fails where that fails; "0" leaves them out; "auto" (the default) builds them
                       where nvcc is found, and where that fails leaves them out with one line, which build_info() keeps.
                       What is built never depends on a visible GPU.
    CUDA_HOME          where the CUDA toolkit lies, unless nvcc is on the PATH.
    FOCUS_CUDA_ARCHITECTURES
                       compute capabilities, such as "80;90"; unless set those of ARCHITECTURES that nvcc knows. The lowest and the
                       highest are also kept as PTX, for devices in between and for later ones.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("src")
BUILD_INFO = str(SOURCES / "build_info.cpp")  # compiled last: it says what became of the CUDA part
ARCHITECTURES = ("75", "80", "90", "100", "120")
STABLE_ABI = ["-DTORCH_TARGET_VERSION=0x020a000000000000ULL"]  # torch 2.10: what is compiled runs on every later release
# The stable ABI's symbols are found when the library is loaded, which linkers take for "not needed".
LINK = ["--no-as-needed", "--exclude-libs,ALL"] if sys.platform == "linux" else []
OPTIMISE = ["-O3", "-g0", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]


def torch_folder() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        sys.exit("focus-framework-ops is built against the installed torch: install torch, then pip install --no-build-isolation")
    return Path(spec.origin).parent


class CudaError(Exception):
    """The CUDA part cannot be built; the message is one line."""


def wants_cuda() -> str:
    wanted = os.environ.get("FOCUS_BUILD_CUDA", "auto")
    if wanted not in ("0", "1", "auto"):
        sys.exit(f"FOCUS_BUILD_CUDA={wanted!r} is not known; use 0, 1 or auto")
    return wanted


def find_nvcc() -> Path | None:
    """The nvcc to use, or None where the CUDA kernels are not to be built."""
    if wants_cuda() == "0":
        return None
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    found = shutil.which("nvcc", path=str(Path(home) / "bin") if home else None)
    if found is None and wants_cuda() == "1":
        sys.exit("FOCUS_BUILD_CUDA=1, but there is no nvcc; put the CUDA toolkit on the PATH or name its folder in CUDA_HOME")
    return Path(found).resolve() if found else None


def run_nvcc(nvcc: Path, *arguments: str) -> str:
    """What nvcc prints. Raises `CudaError` with its first error where it fails."""
    try:
        ran = subprocess.run([str(nvcc), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise CudaError(f"{nvcc} does not start: {error}") from error
    if ran.returncode == 0:
        return ran.stdout
    print(ran.stdout, flush=True)
    lines = [line.strip() for line in ran.stdout.splitlines() if line.strip()]
    reason = next((line for line in lines if "error" in line.lower() or "fatal" in line.lower()), lines[-1] if lines else "no message")
    raise CudaError(f"{nvcc} fails: {reason}")


def architectures(nvcc: Path) -> list[str]:
    """The compute capabilities to build for, ascending, without a point."""
    asked = os.environ.get("FOCUS_CUDA_ARCHITECTURES")
    if asked:
        names = [name.strip() for name in asked.split(";") if name.strip()]
    else:
        known = run_nvcc(nvcc, "--list-gpu-arch").split()
        names = [name for name in ARCHITECTURES if f"compute_{name}" in known]
    if not names:
        raise CudaError(f"{nvcc} knows none of the architectures {', '.join(ARCHITECTURES)}; name some in FOCUS_CUDA_ARCHITECTURES")
    return sorted(names, key=lambda name: int(name.rstrip("af")))


def targets(names: list[str]) -> list[str]:
    """What is built, in nvcc's names: machine code for all, PTX of the lowest and the highest."""
    return [*(f"sm_{name}" for name in names), *(f"compute_{name}" for name in dict.fromkeys((names[0], names[-1])))]


class BuildNative(build_ext):
    """Compiles all files side by side, the CUDA one with nvcc, and links them into one library without Python symbols."""

    def build_extension(self, ext: Extension) -> None:
        torch, nvcc = torch_folder(), find_nvcc()
        self.folder = Path(self.build_temp)
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.get_ext_fullpath(ext.name)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        sources = [source for source in ext.sources if source != BUILD_INFO]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            cuda = pool.submit(self.compile_cuda, torch, nvcc) if nvcc else None
            jobs = [pool.submit(self.compile_cpp, torch, source) for source in sources]
            objects = [name for job in jobs for name in job.result()]
        failure = ""
        if nvcc and cuda:
            try:
                kernels, built = cuda.result()
                print(f"focus-framework-ops: CUDA {built}", flush=True)
                info = self.compile_cpp(torch, BUILD_INFO, f'-DFOCUS_OPS_CUDA="{built}"')
                self.link_cuda(torch, nvcc, [*objects, *info, kernels], target)
                return
            except CudaError as error:
                if wants_cuda() == "1":
                    sys.exit(f"FOCUS_BUILD_CUDA=1, but {error}")
                failure = str(error)
                print(f"focus-framework-ops: warning: built without CUDA, because {failure}", file=sys.stderr, flush=True)
        else:
            print("focus-framework-ops: CUDA left out", flush=True)
        info = self.compile_cpp(torch, BUILD_INFO, f"-DFOCUS_OPS_CUDA_FAILURE={json.dumps(failure, ensure_ascii=True)}")
        self.link(torch, [*objects, *info], target)

    def compile_cpp(self, torch: Path, source: str, *more: str) -> list[str]:
        flags = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall", *OPTIMISE, *STABLE_ABI, *more]
        return self.compiler.compile([source], output_dir=str(self.folder), include_dirs=[str(torch / "include")], extra_postargs=flags)

    def compile_cuda(self, torch: Path, nvcc: Path) -> tuple[str, str]:
        """The object file, and the toolkit and targets it was built with."""
        release = run_nvcc(nvcc, "--version").partition("release ")[2].partition(",")[0]
        built, target = targets(architectures(nvcc)), str(self.folder / "cuda_cuda.o")
        codes = [f"-gencode=arch={name.replace('sm_', 'compute_')},code={name}" for name in built]
        options = ["-std=c++17", "-O3", "--threads", "0", "-Xcompiler", "-fPIC,-fvisibility=hidden", "-DUSE_CUDA", *STABLE_ABI]
        run_nvcc(nvcc, *options, *codes, f"-I{torch / 'include'}", "-c", str(SOURCES / "cuda.cu"), "-o", target)
        return target, f"{release} for {','.join(built)}"

    def link_cuda(self, torch: Path, nvcc: Path, objects: list[str], target: str) -> None:
        """By nvcc, which links the CUDA runtime statically, so that the library also loads beside a torch without CUDA."""
        options = [word for option in LINK for word in ("-Xlinker", option)]
        run_nvcc(nvcc, "-shared", *options, *objects, "-o", target, f"-L{torch / 'lib'}", "-ltorch", "-ltorch_cpu")

    def link(self, torch: Path, objects: list[str], target: str) -> None:
        options = [f"-Wl,{option}" for option in LINK]
        folders = [str(torch / "lib")]
        self.compiler.link_shared_object(
            objects, target, libraries=["torch", "torch_cpu"], library_dirs=folders, extra_preargs=options, target_lang="c++"
        )


if __name__ == "__main__":
    setup(
        ext_modules=[
            Extension(
                "focus_ops._native",
                sources=sorted(str(path) for path in SOURCES.glob("*.cpp")),
                depends=[str(path) for path in SOURCES.iterdir()],
                py_limited_api=True,
            )
        ],
        cmdclass={"build_ext": BuildNative},
    )
