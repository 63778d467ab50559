"""Builds the native library against LibTorch's stable ABI.

Environment variables:
    FOCUS_BUILD_CUDA   "1" builds the CUDA kernels, "0" leaves them out, "auto" (the default) builds them where nvcc is found.
                       What is built never depends on a visible GPU, and a build that fails, fails.
    CUDA_HOME          where the CUDA toolkit lies, unless nvcc is on the PATH.
    FOCUS_CUDA_ARCHITECTURES
                       compute capabilities, "80;90;100;120" by default; the last one is also kept as PTX.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("src")
STABLE_ABI = ["-DTORCH_TARGET_VERSION=0x020a000000000000ULL"]  # torch 2.10: what is compiled runs on every later release
OPTIMISE = ["-O3", "-g0", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]


def torch_folder() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        sys.exit("focus-framework-ops is built against the installed torch: install torch, then pip install --no-build-isolation")
    return Path(spec.origin).parent


def find_nvcc() -> Path | None:
    """The nvcc to use, or None where the CUDA kernels are not to be built."""
    wanted = os.environ.get("FOCUS_BUILD_CUDA", "auto")
    if wanted not in ("0", "1", "auto"):
        sys.exit(f"FOCUS_BUILD_CUDA={wanted!r} is not known; use 0, 1 or auto")
    if wanted == "0":
        return None
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    found = shutil.which("nvcc", path=str(Path(home) / "bin") if home else None)
    if found is None and wanted == "1":
        sys.exit("FOCUS_BUILD_CUDA=1, but there is no nvcc; put the CUDA toolkit on the PATH or name its folder in CUDA_HOME")
    return Path(found).resolve() if found else None


def cuda_release(nvcc: Path) -> str:
    text = subprocess.run([nvcc, "--version"], check=True, capture_output=True, text=True).stdout
    return text.split("release ")[1].split(",")[0]


class BuildNative(build_ext):
    """Compiles all files side by side, the CUDA one with nvcc, and links them into one library without Python symbols."""

    def build_extension(self, ext: Extension) -> None:
        torch, nvcc = torch_folder(), find_nvcc()
        include = [str(torch / "include")]
        architectures = os.environ.get("FOCUS_CUDA_ARCHITECTURES", "80;90;100;120").split(";")
        built_with = f'"{cuda_release(nvcc)} for {",".join("sm_" + name for name in architectures)}"' if nvcc else '""'
        print(f"focus-framework-ops: CUDA {built_with if nvcc else 'left out'}", flush=True)
        flags = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall", *OPTIMISE, *STABLE_ABI, f"-DFOCUS_OPS_CUDA={built_with}"]
        folder = Path(self.build_temp)
        folder.mkdir(parents=True, exist_ok=True)

        def compile_cpp(source: str) -> list[str]:
            return self.compiler.compile([source], output_dir=str(folder), include_dirs=include, extra_postargs=flags)

        def compile_cuda(source: str) -> list[str]:
            target = folder / f"{Path(source).stem}_cuda.o"
            codes = [f"-gencode=arch=compute_{name},code=sm_{name}" for name in architectures]
            codes.append(f"-gencode=arch=compute_{architectures[-1]},code=compute_{architectures[-1]}")
            options = ["-std=c++17", "-O3", "--threads", "0", "-Xcompiler", "-fPIC,-fvisibility=hidden", "-DUSE_CUDA", *STABLE_ABI]
            includes = [f"-I{path}" for path in include]
            subprocess.run([str(nvcc), *options, *codes, *includes, "-c", source, "-o", str(target)], check=True)
            return [str(target)]

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            work = [pool.submit(compile_cpp, source) for source in ext.sources]
            if nvcc:
                work.append(pool.submit(compile_cuda, str(SOURCES / "cuda.cu")))
            objects = [name for job in work for name in job.result()]

        target = self.get_ext_fullpath(ext.name)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        # The stable ABI's symbols are found when the library is loaded, which linkers take for "not needed".
        options = ["--no-as-needed", "--exclude-libs,ALL"] if sys.platform == "linux" else []
        if nvcc:  # which links the CUDA runtime statically, so that the library also loads beside a torch without CUDA
            link = [str(nvcc), "-shared", *(word for option in options for word in ("-Xlinker", option))]
            subprocess.run([*link, *objects, "-o", target, f"-L{torch / 'lib'}", "-ltorch", "-ltorch_cpu"], check=True)
            return
        self.compiler.link_shared_object(
            objects,
            target,
            libraries=["torch", "torch_cpu"],
            library_dirs=[str(torch / "lib")],
            extra_preargs=[f"-Wl,{option}" for option in options],
            target_lang="c++",
        )


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
