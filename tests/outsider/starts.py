"""Runs that start from damaged, foreign and unfit checkpoints, and networks of several tasks: their calls, their headers, their vectors."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from . import checkpoints
from .case import Case
from .checkpoints import FILE, MISSING, _field
from .starters import _both

GROUP = "starts and several tasks"
JOINT = "joint.safetensors"
"""The good checkpoint of two tasks."""
OK, WRONG, MAY = frozenset({0}), frozenset({1, 2}), frozenset({0, 1, 2})
CONFIG = ("--config", "@/tiny.toml", "--out", "run", "--json")
INIT = ("train", "--task-plugin", "shadow", "--init", f"@/{FILE}", *CONFIG)
ADD = ("train", "--task-plugin", "defocus", "--init", f"@/{FILE}", "--set", "backbone.frozen=true", *CONFIG)
BOTH = ("train", "--task-plugin", "shadow,salient", *CONFIG, "--set", "conditioner.options.weights=none")
PREDICT = ("predict", "@/one.png", "--checkpoint", f"@/{FILE}", "--task-plugin", "all", "--out", "out", "--json")
EVALUATE = ("evaluate", "--checkpoint", f"@/{FILE}", "--data", "@/pairs", "--json")
RUN = ("work/run", "work/run/*", "work/run/*/*", "work/run/*/*/*")


def cases() -> Iterator[Case]:
    yield from _damaged()
    yield from _unfit()
    yield from _calls()
    yield from _asked()
    yield from _joint()


def _case(
    what: str, call: tuple[str, ...], make: Callable[[Path], Any] = lambda inputs: None, exits: frozenset[int] = WRONG, *named: str
) -> Case:
    return Case(GROUP, what, call, named, exits, make, leaves=RUN if 0 in exits else ())


def _damaged() -> Iterator[Case]:
    """What checkpoints are tried with, as a start: every damage, and of the wrong headers a share."""
    every = (case for source in (checkpoints._damage, checkpoints._weights, checkpoints._foreign) for case in source())
    for case in every:
        if case.arguments != checkpoints.PREDICT:
            continue
        about = case.what.removeprefix("a checkpoint that is ").removeprefix("a file ")
        fits = about.startswith(("a tensor missing", "a tensor too many", "a tensor of another", "a tensor of no", "a tensor of size"))
        yield _case(f"a start: {about}", INIT, case.make, MAY if fits else case.exits, FILE)  # what fits is taken
    headers = [case for case in checkpoints._headers() if case.arguments == checkpoints.PREDICT]
    for case in islice(headers, 0, None, 9):
        yield _case(f"a start: {case.what}", INIT, case.make, MAY if case.what != "a header of another format" else case.exits, FILE)


def _unfit() -> Iterator[Case]:
    other = "a start that is of another network or task"
    for text in ("pixel_decoder.width=64", "decoder.layers=2", "backbone.options.embed_dim=64", "backbone.options.patch_size=16", "backbone.options.depth=8",
                 "preprocessing.size=96", "enhancer.name=edge", "backbone.name=resnet18", "conditioner.name=example"):  # fmt: skip
        yield _case(other, (*INIT, "--set", text), exits=MAY)
    for task in ("defocus", "salient", "shadow,salient", "@/note.txt", "nonsense"):
        exits = WRONG if task in ("@/note.txt", "nonsense") else MAY
        yield _case(other, ("train", "--task-plugin", task, "--init", f"@/{FILE}", *CONFIG), exits=exits)
    nowhere = "a start that is none"
    for reference in ("", " ", "no/such.safetensors", "@/", "@/empty", "@/one.png", "@/tiny.toml", "@/pairs", "@/pipe", "nonsense", "hf://", "hf://a/b/c", "/dev/zero", "x" * 5000, "\x01",
                      "@/checkpoint.safetensors,@/checkpoint.safetensors", "https://example.org/a.safetensors"):  # fmt: skip
        yield _case(nowhere, ("train", "--task-plugin", "shadow", "--init", reference, *CONFIG))
    for value in ("7", "[]", "true", "{}", "['a']"):
        yield _case(nowhere, ("train", "--task-plugin", "shadow", "--set", f"init={value}", *CONFIG), lambda inputs: None, WRONG, "init")
    yield _case("a start for a run that goes on", ("train", "--resume", "run", "--init", f"@/{FILE}"), lambda inputs: None, WRONG, "run")
    yield _case(
        "a start that lies where the run writes",
        (*INIT[:5], "@/run/best.safetensors", *CONFIG[:2], "--out", "@/run", "--json"),
        _theirs,
        MAY,
    )


def _theirs(inputs: Path) -> None:
    (inputs / "run").mkdir()
    shutil.copy(inputs / FILE, inputs / "run" / "best.safetensors")


def _calls() -> Iterator[Case]:
    wrong = "several tasks of which one is wrong"
    for tasks in ("shadow,", ",", ",shadow", "shadow,,salient", "shadow,shadow", "shadow,nonsense", "all,shadow", "shadow;salient", "shadow,@/note.txt", "shadow,@/one.png", "shadow,,", " , ", "shadow," * 300):  # fmt: skip
        yield _case(wrong, ("train", "--task-plugin", tasks, *BOTH[3:]))
    data = "data for several tasks that do not fit them"
    for text in ("shadow=practice", "shadow=practice,defocus=practice", "shadow=,salient=practice", "shadow=practice,shadow=practice", "=practice", "shadow=no/such,salient=practice",
                 "shadow=@/empty,salient=@/empty", "shadow=practice,salient=@/one.png", "shadow", ",", "shadow=practice;salient=practice", "shadow=@/pairs,salient=nonsense"):  # fmt: skip
        yield _case(data, (*BOTH, "--data", text))
    for option, value in (
        *(("data.shares", text) for text in ("[1]", "[0,0]", "[-1,1]", "[nan,1]", "[inf,1]", "['a','b']", "[1,1,1]", "1", "[1e308,1e308]", "[1e-320,1]")),
        *(("conditioner.name", text) for text in ("nonsense", "none", "''")),
        *(("conditioner.options.weights", text) for text in ("nonsense", "@/one.png", "@/no/such", "7", "''", "@/checkpoint.safetensors", "@/empty")),
        *(("conditioner.options.nonsense", text) for text in ("1",)),
        *(("conditioner.kept", text) for text in ("['nonsense']", "['shadow']", "[7]")),
        ("prompts.choice", "release"), ("prompts.foreground", "a"),
    ):  # fmt: skip
        exits = MAY if value in ("[1e308,1e308]", "[1e-320,1]") or option in ("prompts.choice", "conditioner.kept") else WRONG
        yield _case("a setting that is wrong for several tasks", (*BOTH, "--set", f"{option}={value}"), exits=exits)
    for text in ("conditioner.shots=64", "conditioner.examples=1024", "conditioner.examples=1", "conditioner.trains=vectors"):
        yield _case("a setting that is wrong for several tasks", (*BOTH[:-2], "--conditioner", "example", "--set", text), exits=MAY)
    yield _case("a conditioner for a single task", ("train", "--task-plugin", "shadow", *CONFIG, "--conditioner", "prompt"), exits=MAY)


def _two(inputs: Path) -> None:
    shutil.copy(inputs / JOINT, inputs / FILE)


def _asked() -> Iterator[Case]:
    """A good checkpoint of two tasks, asked for what it does not know."""
    yield _case("a checkpoint of several tasks as it should be", PREDICT, _two, OK)
    call = PREDICT[:4]
    for tasks in ("nonsense", "defocus", "shadow,defocus", "shadow,shadow", "shadow,", ",", "all,shadow", "", "@/note.txt"):
        yield _case(
            "a checkpoint of several tasks that is asked for another",
            (*call, "--task-plugin", tasks, "--out", "out"),
            _two,
            MAY if tasks == "shadow,shadow" else WRONG,
        )
    for more in (
        ("--foreground-prompt", "a"), ("--background-prompt", "a"), ("--foreground-prompt", "a", "--background-prompt", "b"), ("--foreground-prompt", "a", "--background-prompt", "a"),
        ("--examples", "@/pairs"), ("--examples", "@/empty"), ("--examples", "no/such"), ("--examples", "@/one.png"), ("--examples", "@/pairs", "--task-plugin", "shadow"),
        ("--foreground-prompt", "a", "--background-prompt", "b", "--task-plugin", "all"),
    ):  # fmt: skip
        for make in (_two, lambda inputs: None):
            yield _case("prompts or examples for a checkpoint that reads none", (*call, *more, "--out", "out"), make)
    for words in (
        ("evaluate", "--checkpoint", f"@/{FILE}", "--data", "@/pairs", "--task-plugin", "nonsense"),
        ("evaluate", "--checkpoint", f"@/{FILE}", "--data", "shadow=@/pairs,defocus=@/pairs"),
        ("explain", "@/one.png", "--checkpoint", f"@/{FILE}", "--task-plugin", "defocus"),
        ("explain", "@/one.png", "--checkpoint", f"@/{FILE}", "--task-plugin", "all"),
        ("export", f"@/{FILE}", "--out", "model.onnx", "--task-plugin", "defocus"),
        ("export", f"@/{FILE}", "--out", "model.onnx", "--task-plugin", "shadow,salient"),
        ("train", "--init", f"@/{FILE}", "--task-plugin", "nonsense", *CONFIG),
        ("predict", "@/one.png", "--checkpoint", f"@/{FILE}", "--task-plugin", "all", "--out", "mask.mp4"),
    ):
        yield _case("a checkpoint of several tasks that is asked for another", words, _two)


def _joint() -> Iterator[Case]:
    """Headers of several tasks that are wrong, and vectors that are."""

    others = cycle((ADD, ("checkpoint", "inspect", f"@/{FILE}", "--json"), EVALUATE))

    def every(what: str, change: Callable[[Path], Any], exits: frozenset[int] = WRONG) -> Iterator[Case]:
        for call in (PREDICT, next(others)):
            may = exits | (OK if call[0] == "checkpoint" else frozenset())
            yield _case(what, call, _both(_two, change), may, FILE, "conditioner")

    tasks: tuple[object, ...] = ("wrong", 7, {}, [], [7], [None], ["x"], [[]], [{}], [{"name": "shadow"}], MISSING)
    for value in tasks:
        yield from every(
            "a header of several tasks that are wrong", _field("tasks", value), MAY if value in ([], MISSING) or value == {} else WRONG
        )
    for path in ("tasks.1.name", "tasks.1.title", "tasks.1.metrics", "tasks.1.primary_metric", "tasks.1.prompts"):
        for value in (7, None, [], {}, "shadow", MISSING):
            yield from every("a header of several tasks that are wrong", _field(path, value), MAY)
    for path, values in {
        "config.task": ("shadow", "shadow,shadow", "shadow,salient,defocus", "salient,shadow", ",", "", 7, None, []),
        "config.conditioner.name": ("none", "nonsense", "example", 7, None, MISSING),
        "config.conditioner.options": ("wrong", 7, [], {"weights": "openai"}, {"weights": 7}, {"nonsense": 1}),
        "config.conditioner": ("wrong", 7, None, [], MISSING),
        "config.conditioner.kept": ("wrong", 7, [7], ["nonsense"]),
    }.items():  # fmt: skip
        for value in values:
            yield from every("a header of several tasks that contradicts itself", _field(path, value), MAY)
    for change in (
        lambda vectors: None,
        lambda vectors: vectors[:1],
        lambda vectors: np.concatenate([vectors, vectors]),
        lambda vectors: vectors[:, :1],
        lambda vectors: vectors[..., :7],
        lambda vectors: np.full_like(vectors, np.nan),
        lambda vectors: vectors.astype(np.int64),
        lambda vectors: np.zeros((0, 2, 32), np.float32),
    ):
        yield from every("vectors of several tasks that are wrong", _vectors(change))


def _vectors(change: Callable[[np.ndarray], np.ndarray | None]) -> Callable[[Path], None]:
    def make(inputs: Path) -> None:
        from safetensors.numpy import load_file, save_file

        header, _ = checkpoints._parts(inputs / FILE)
        tensors = load_file(inputs / FILE)
        changed = change(tensors.pop("conditioner.vectors"))
        if changed is not None:
            tensors["conditioner.vectors"] = np.ascontiguousarray(changed)
        save_file(tensors, inputs / FILE, metadata=header["__metadata__"])

    return make
