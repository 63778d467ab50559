"""Hostile and damaged checkpoints, made by rule from a good one: every field of the header wrong in turn, every kind of damage."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .case import Case

GROUP = "checkpoints"
FILE = "checkpoint.safetensors"
PREDICT = ("predict", "@/one.png", "--checkpoint", f"@/{FILE}", "--out", "out", "--json")
INSPECT = ("checkpoint", "inspect", f"@/{FILE}", "--json")
WRONG, MAY = frozenset({1, 2}), frozenset({0, 1, 2})
MISSING = object()


def cases() -> Iterator[Case]:
    yield from _headers()
    yield from _damage()
    yield from _weights()
    yield from _foreign()


def _parts(file: Path) -> tuple[dict[str, Any], bytes]:
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _put(file: Path, header: Any, data: bytes) -> None:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _described(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Writes the checkpoint with another description; `change` alters it, or returns what takes its place."""

    def make(inputs: Path) -> None:
        header, data = _parts(inputs / FILE)
        description = json.loads(header["__metadata__"]["focus_framework"])
        replaced = change(description)
        new = description if replaced is None else replaced
        header["__metadata__"]["focus_framework"] = new if isinstance(new, str) else json.dumps(new)
        _put(inputs / FILE, header, data)

    return make


def _field(path: str, value: object) -> Callable[[Path], None]:
    def change(description: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        table: Any = description
        for parent in parents:
            table = table[int(parent) if parent.isdigit() else parent]
        if value is MISSING:
            del table[last]
        else:
            table[last] = value

    return _described(change)


NUMBERS: tuple[object, ...] = ("wrong", None, -64, float("nan"), float("inf"), [], {}, True)
SIZES = ("config.preprocessing.size", "preprocessing.size", "preprocessing.longest", "config.preprocessing.longest")
COUNTS = (
    "config.backbone.options.depth", "config.backbone.options.embed_dim", "config.backbone.options.num_heads",
    "config.backbone.options.patch_size", "config.pixel_decoder.width", "config.pixel_decoder.layers", "config.pixel_decoder.heads",
    "config.pixel_decoder.points", "config.pixel_decoder.feedforward", "config.decoder.layers", "config.decoder.heads", "config.decoder.feedforward",
)  # fmt: skip
REST = (
    "config.loss.mask",
    "config.training.steps",
    "config.training.learning_rate",
    "config.prediction.threshold",
    "config.prediction.tile",
    "config.prediction.overlap",
)
WORDS = (
    "config.task", "config.backbone.name", "config.enhancer.name", "config.decoder.first_mask", "config.prediction.rule", "config.preprocessing.resize",
    "preprocessing.resize", "task.name", "task.title", "task.primary_metric", "framework_version", "licence",
)  # fmt: skip
LISTS = (
    "prompts",
    "plugins",
    "task.metrics",
    "preprocessing.mean",
    "preprocessing.std",
    "config.prediction.scales",
    "config.prompts.pairs",
)
TABLES = (
    "config",
    "task",
    "preprocessing",
    "config.backbone",
    "config.decoder",
    "config.preprocessing",
    "config.backbone.options",
    "config.training",
)


def _headers() -> Iterator[Case]:
    def both(what: str, path: str, value: object, exits: frozenset[int] = WRONG) -> Iterator[Case]:
        for call in (PREDICT, INSPECT):
            yield Case(GROUP, what, call, (FILE,), exits, _field(path, value))

    for path in (*SIZES, *COUNTS, *REST):
        for value in NUMBERS:
            null = value is None and path == "config.training.steps"  # not set, as it may be
            yield from both("a header with a wrong number", path, value, MAY if null else WRONG)
    for path in SIZES:
        for value in (0, 33, 10_000_000, 1 << 70):
            # A bound of the long side that is no multiple of 32 is right.
            yield from both("a header with a size that cannot be", path, value, MAY if "longest" in path else WRONG)
    for path in COUNTS:
        for value in (0, 7, 1_000_000, 1 << 70):
            yield Case(GROUP, "a header that the tensors contradict", PREDICT, (FILE,), WRONG, _field(path, value))
    for path in WORDS:
        for value in (7, None, [], {}, "x" * 100_000):
            yield from both("a header with something else for a word", path, value, MAY if isinstance(value, str) else WRONG)
    for path in (
        "config.decoder.first_mask",
        "config.prediction.rule",
        "config.preprocessing.resize",
        "preprocessing.resize",
        "config.backbone.name",
    ):
        yield Case(GROUP, "a header with an unknown word", PREDICT, (FILE, "nonsense"), WRONG, _field(path, "nonsense"))
    for path in LISTS:
        for value in ("wrong", 7, None, {}, [7], [None], ["x"], [[]]):
            may = path == "task.metrics" and value == ["x"]
            yield from both("a header with something else for a list", path, value, MAY if may else WRONG)
    for path in TABLES:
        for value in ("wrong", 7, None, [], MISSING):
            missing = value is MISSING and path.count(".")
            yield from both("a header with something else for a table", path, value, MAY if missing else WRONG)
    for path in ("preprocessing.mean", "preprocessing.std"):
        for value in ([0.5, 0.5], [0.5] * 4, [0.5, 0.5, float("nan")], [1e400, 1, 1], ["a", "b", "c"], [0.5, 0.5, None]):
            yield from both("a header with a mean or deviation that cannot be", path, value)
    for value in ([0, 0, 0], [-1, 1, 1], [1e-300, 1, 1], [1, 0, 1]):
        yield from both("a header with a mean or deviation that cannot be", "preprocessing.std", value)
    for value in (0, -1, 99, "one", None, [], 1.5, True):
        yield from both("a header of another format", "format", value)
    yield from both("a header of another format", "format", MISSING)
    yield from both("a header with a setting that is not known", "config.decoder.wings", 7)
    for text in ("", "null", "[]", "7", "{", '"x"', "[" * 50_000 + "]" * 50_000, "{}", '{"format": 1}'):
        for call in (PREDICT, INSPECT):
            yield Case(GROUP, "a description that is something else", call, (FILE,), WRONG, _described(lambda _, text=text: text))


def _damage() -> Iterator[Case]:
    def bytes_of(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
        return lambda inputs: (inputs / FILE).write_bytes(change((inputs / FILE).read_bytes())) and None

    damages: dict[str, list[Callable[[bytes], bytes]]] = {
        "cut short": [lambda content, at=at: content[: int(len(content) * at)] for at in (0.0001, 0.01, 0.5, 0.999)],
        "of nothing": [lambda content: b"", lambda content: content[:4], lambda content: content[:8]],
        "longer than its header says": [lambda content: content + b"more"],
        "with another length of its header": [
            lambda content, length=length: struct.pack("<Q", length) + content[8:] for length in (0, 1, 1 << 20, 1 << 40, (1 << 64) - 1)
        ],
        "of zeros": [lambda content: bytes(len(content)), lambda content: content[:8] + bytes(len(content) - 8)],
        "with a damaged header": [lambda content: content[:20] + b"\xff\xfe" + content[22:], lambda content: content[:8] + b"[" + content[9:]],
        "a text": [lambda content: b"not a checkpoint\n" * 50, lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"],
        "a web page": [lambda content: b"<!doctype html><html></html>"],
    }  # fmt: skip
    for what, changes in damages.items():
        for change in changes:
            for call in (PREDICT, INSPECT, ("evaluate", "--checkpoint", f"@/{FILE}", "--data", "@/pairs", "--json")):
                yield Case(GROUP, f"a file {what}", call, (FILE,), WRONG, bytes_of(change))


def _weights() -> Iterator[Case]:
    """Tensors that are not what the header says, or not what a network has."""

    def spoiled(change: Callable[[dict[str, np.ndarray]], None]) -> Callable[[Path], None]:
        def make(inputs: Path) -> None:
            from safetensors.numpy import load_file, save_file

            header, _ = _parts(inputs / FILE)
            tensors = load_file(inputs / FILE)
            change(tensors)
            save_file(tensors, inputs / FILE, metadata=header["__metadata__"])

        return make

    def fill(value: float, only: int | None = None) -> Callable[[dict[str, np.ndarray]], None]:
        def change(tensors: dict[str, np.ndarray]) -> None:
            for name in sorted(tensors)[:only]:
                if tensors[name].dtype.kind == "f":
                    tensors[name] = np.full_like(tensors[name], value)

        return change

    def cast(kind: Any) -> Callable[[dict[str, np.ndarray]], None]:
        def change(tensors: dict[str, np.ndarray]) -> None:
            for name in tensors:
                tensors[name] = tensors[name].astype(kind)

        return change

    def one(tensors: dict[str, np.ndarray], value: float) -> None:
        name = max(tensors, key=lambda name: tensors[name].size)
        tensors[name] = tensors[name].copy()
        tensors[name].flat[7] = value

    kinds: dict[str, list[Callable[[dict[str, np.ndarray]], Any]]] = {
        "weights that are not numbers (nan)": [fill(float("nan")), fill(float("nan"), 1), lambda tensors: one(tensors, float("nan"))],
        "weights that are infinite": [fill(float("inf")), lambda tensors: one(tensors, float("-inf"))],
        "weights of whole numbers": [cast(np.int64), cast(np.int8), cast(np.bool_)],
        "a tensor missing": [lambda tensors: tensors.pop(sorted(tensors)[0]), lambda tensors: tensors.pop(sorted(tensors)[-1])],
        "no tensors": [lambda tensors: tensors.clear()],
        "a tensor too many": [lambda tensors: tensors.update(surplus=np.zeros(3, np.float32))],
        "a tensor of another shape": [lambda tensors: tensors.update({sorted(tensors)[0]: np.zeros((1, 2, 3), np.float32)})],
        "a tensor of size 0": [lambda tensors: tensors.update({sorted(tensors)[0]: np.zeros((0,), np.float32)})],
        "a tensor of no dimension": [lambda tensors: tensors.update({sorted(tensors)[-1]: np.zeros((), np.float32)})],
    }
    for what, changes in kinds.items():
        for change in changes:
            yield Case(GROUP, what, PREDICT, (FILE,), WRONG, spoiled(change))
            yield Case(
                GROUP, what, ("evaluate", "--checkpoint", f"@/{FILE}", "--data", "@/pairs", "--json"), (FILE,), WRONG, spoiled(change)
            )
    for kind in (np.float16, np.float64):
        yield Case(GROUP, "weights of another precision", PREDICT, (FILE,), MAY, spoiled(cast(kind)))


class _Code:
    """A pickle that writes a file when it is opened carelessly."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("ran-code"), "it did")


def _foreign() -> Iterator[Case]:
    def zipped(inputs: Path) -> None:
        with zipfile.ZipFile(inputs / FILE, "w") as file:
            file.writestr("archive/data.pkl", pickle.dumps(_Code()))
            file.writestr("archive/version", "3")

    makes: dict[str, list[Callable[[Path], Any]]] = {
        "a pickle with code in it": [lambda inputs: (inputs / FILE).write_bytes(pickle.dumps({"model": _Code()})), zipped],
        "a pickle of something else": [
            lambda inputs, value=value: (inputs / FILE).write_bytes(pickle.dumps(value, protocol=2)) for value in ({}, [], 7, {"model": {}}, {"model": {"a": 1}})
        ],
        "a pickle that is cut short": [lambda inputs: (inputs / FILE).write_bytes(pickle.dumps({"a": list(range(1000))})[:100])],
        "a folder": [lambda inputs: ((inputs / FILE).unlink(), (inputs / FILE).mkdir())],
        "a link to an endless device": [lambda inputs: ((inputs / FILE).unlink(), (inputs / FILE).symlink_to("/dev/zero"))],
        "a link to itself": [lambda inputs: ((inputs / FILE).unlink(), (inputs / FILE).symlink_to(inputs / FILE))],
        "a named pipe": [lambda inputs: ((inputs / FILE).unlink(), (inputs / "pipe").rename(inputs / FILE))],
        "of tensors without a description": [lambda inputs: _put(inputs / FILE, {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))],
    }  # fmt: skip
    for what, changes in makes.items():
        for make in changes:
            for call in (PREDICT, INSPECT, ("checkpoint", "import", f"@/{FILE}", "--out", "new.safetensors", "--json")):
                yield Case(GROUP, f"a checkpoint that is {what}", call, (FILE,), WRONG, make)  # type: ignore[arg-type]
