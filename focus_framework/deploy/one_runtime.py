"""One runtime in a process of its own, so that its memory is its alone: ``python -m focus_framework.deploy.one_runtime RUNTIME FILE
CALLS.npz MAPS.npz THREADS``, which `focus_framework.deploy.runtimes` starts."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Call = Callable[[Mapping[str, Any]], Any]
"""The arguments of an exported file by name, as arrays, to maps `[B, *size]` of probabilities."""


def pytorch(file: str, threads: int) -> Call:
    """A checkpoint of ours, in float32 as the exported files are."""
    from .. import runtime

    runtime.prepare()
    import torch

    from ..inference.model import Prepared, load

    torch.set_num_threads(threads)
    model = load(file, device="cpu", precision="fp32")

    def call(given: Mapping[str, Any]) -> Any:
        inner, size = (tuple(given[name].tolist()) for name in ("inner", "size"))
        return torch.stack(model.probabilities([Prepared(torch.from_numpy(image), inner, size) for image in given["image"]])).numpy()

    return call


def onnxruntime(file: str, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda given: session.run(["probability"], dict(given))[0]


def openvino(file: str, threads: int) -> Call:
    import openvino

    # Where the processor has AMX it would compute in bfloat16 by itself.
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(file, "CPU", options)
    return lambda given: compiled(dict(given))["probability"]


RUNTIMES: Mapping[str, Callable[[str, int], Call]] = {"pytorch": pytorch, "onnxruntime": onnxruntime, "openvino": openvino}


def answer(prepare: Callable[[], Call], calls: str, maps: str) -> None:
    """Answer each line of stdin with a line of JSON: the seconds of a pass over all calls, and the peak of memory.

    The first pass, which warms up, is done before anything is asked; its maps go to a file. An error is answered too, and ends the process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this one, and who then closes its stdin
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what plugins and libraries print

    def tell(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    try:
        import numpy as np

        made = read_calls(calls)
        call = prepare()
        np.savez(maps, *(call(each) for each in made))
        tell()
        for _ in sys.stdin:
            wall, processor = time.perf_counter(), time.process_time()
            for each in made:
                call(each)
            tell(wall=time.perf_counter() - wall, processor=time.process_time() - processor, memory=peak_memory())
    except Exception as error:  # onnxruntime and OpenVINO have families of errors of their own
        tell(error=" ".join(f"{type(error).__name__}: {error}".split())[:300])


def read_calls(path: str) -> list[dict[str, Any]]:
    """What `runtimes.write_calls` wrote."""
    import numpy as np

    with np.load(path) as given:
        numbers = sorted({int(name.partition("_")[0]) for name in given.files})
        return [{name: given[f"{number}_{name}"] for name in ("image", "inner", "size")} for number in numbers]


def peak_memory() -> float | None:
    """MiB that this process has had at most; None where the system does not say. Not getrusage: what the process that started this
    one had counts there too."""
    try:
        told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(told["VmHWM"].split()[0]) / 1024
    except (OSError, KeyError):
        return None


if __name__ == "__main__":
    name, file, given, found, number = sys.argv[1:]
    answer(lambda: RUNTIMES[name](file, int(number)), given, found)
