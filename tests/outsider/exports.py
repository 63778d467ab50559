"""Hostile and damaged ONNX files for the runner without torch, made by rule from a good one: its bytes, what it says of itself, its graph."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .case import Case

GROUP = "exported files"
FILE = "model.onnx"
RUNNER = "focus_runtime.command:main"
MASK = ("@/one.png", "--model", f"@/{FILE}", "--out", "out", "--threads", "1")
OK, WRONG, MAY = frozenset({0}), frozenset({1, 2}), frozenset({0, 1, 2})
MISSING = object()

FACTS: dict[str, Any] = {
    "version": 1,
    "task": {"name": "shadow", "title": "Shadows"},
    "prompts": [],
    "input": {"image": "float32 [B, 3, H, W]", "size": None, "multiple": 32},
    "preprocessing": {"size": 64, "resize": "square", "longest": 2048, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
    "prediction": {"rule": "soft", "threshold": 0.5, "flip": False, "scales": [1.0], "tile": 0, "overlap": 0.25},
    "licence": "", "format": "onnx", "precision": "fp32",
}  # fmt: skip
"""What `focus export` writes, as far as the runner reads it."""


def cases() -> Iterator[Case]:
    yield _case("as it should be", lambda inputs: None, OK)
    yield from _bytes()
    yield from _facts()
    yield from _graphs()
    yield from _calls()


def _case(what: str, make: Callable[[Path], Any], exits: frozenset[int] = WRONG, *more: str, named: tuple[str, ...] = (FILE,)) -> Case:
    def write(inputs: Path) -> None:
        write_network(inputs / FILE)
        make(inputs)

    return Case(GROUP, f"an exported file {what}", (*MASK, *more), named, exits, write, program=RUNNER, needs="onnx")


def write_network(file: Path, change: Callable[[Any], Any] = lambda network: None, facts: object = FACTS) -> None:
    """A network of two products with the inputs and outputs of an exported one; `change` alters it before it is written."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = {"first": random.normal(size=(64, 3, 1, 1)), "second": random.normal(size=(1, 64, 1, 1))}
    numbers = {"zero": [0], "two": [2], "one": [1]}
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["wide"]), helper.make_node("Conv", ["wide", "second"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["small"]), helper.make_node("Shape", ["small"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "two"], ["batch"]), helper.make_node("Concat", ["batch", "size"], ["sizes"], axis=0),
        helper.make_node("Resize", ["small", "", "", "sizes"], ["large"], mode="linear"),
        helper.make_node("Squeeze", ["large", "one"], ["probability"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "network",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 3, "H", "W"]),
            helper.make_tensor_value_info("inner", TensorProto.INT64, [2]),
            helper.make_tensor_value_info("size", TensorProto.INT64, [2]),
        ],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
        + [numpy_helper.from_array(np.array(array, np.int64), name) for name, array in numbers.items()],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if facts is not MISSING:
        helper.set_model_props(network, {"focus": facts if isinstance(facts, str) else json.dumps(facts)})
    change(network)
    file.write_bytes(network.SerializeToString())


def _bytes() -> Iterator[Case]:
    def of(change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
        return lambda inputs: (inputs / FILE).write_bytes(change((inputs / FILE).read_bytes()))

    for share in (0.001, 0.01, 0.1, 0.5, 0.9, 0.999):
        yield _case(
            "that is cut short", of(lambda content, share=share: content[: int(len(content) * share)]), MAY if share == 0.999 else WRONG
        )
    for content in (b"", b"\0" * 2000, b"not a network\n" * 50, b"<!doctype html><html></html>", b"PK\x03\x04" + bytes(60), b"\x89PNG\r\n\x1a\n",
                    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", pickle.dumps({"model": 1}), (2).to_bytes(8, "little") + b"{}"):  # fmt: skip
        yield _case("that is something else", of(lambda _, content=content: content))
    for place in range(0, 2200, 100):
        damage = of(
            lambda content, place=place: content[:place] + bytes(255 - byte for byte in content[place : place + 40]) + content[place + 40 :]
        )
        yield _case("that is damaged inside", damage, MAY)
    for make in (
        lambda inputs: ((inputs / FILE).unlink(), (inputs / FILE).mkdir()),
        lambda inputs: ((inputs / FILE).unlink(), (inputs / FILE).symlink_to("/dev/zero")),
        lambda inputs: ((inputs / FILE).unlink(), (inputs / FILE).symlink_to(inputs / FILE)),
        lambda inputs: ((inputs / FILE).unlink(), (inputs / "pipe").rename(inputs / FILE)),
        lambda inputs: (inputs / FILE).unlink(),
    ):
        yield _case("that is no file", make)

    def zipped(inputs: Path) -> None:
        with zipfile.ZipFile(inputs / FILE, "w") as file:
            file.writestr("model.onnx", "x" * 1000)

    yield _case("that is something else", zipped)
    for call in (("predict", "@/one.png", "--checkpoint", f"@/{FILE}", "--out", "out", "--json"), ("checkpoint", "inspect", f"@/{FILE}", "--json"),
                 ("train", "--task-plugin", "shadow", "--init", f"@/{FILE}", "--out", "run", "--json"), ("export", f"@/{FILE}", "--out", "new.onnx"),
                 ("serve", f"@/{FILE}", "--port", "0", "--stop-after", "0", "--device", "cpu"), ("checkpoint", "push", f"@/{FILE}", "me/mine")):  # fmt: skip
        yield Case(
            GROUP,
            "an exported file in place of a checkpoint",
            call,
            (FILE,),
            WRONG,
            lambda inputs: write_network(inputs / FILE),
            needs="onnx",
        )


WORDS: tuple[object, ...] = (7, None, [], {}, True)
NUMBERS: tuple[object, ...] = ("wrong", None, -64, float("nan"), float("inf"), [], {}, True, 1 << 70)
LISTS: tuple[object, ...] = ("wrong", 7, {}, [[]], ["x"], [None], [float("nan")] * 3, [1e300] * 3)
FIELDS: dict[str, tuple[object, ...]] = {
    "version": (*NUMBERS, 0, 2), "task": (*WORDS, "x"), "task.name": WORDS, "input": (*WORDS, "x"), "input.image": (*WORDS, "complex64"),
    "input.size": (*LISTS, [0, 64], [64], [64, 64, 64], [1 << 40, 64]), "input.multiple": (*NUMBERS, 0, 1_000_000), "preprocessing": (*WORDS, "x"),
    "preprocessing.size": (*NUMBERS, 0, 10_000_000), "preprocessing.resize": (*WORDS, "nonsense"), "preprocessing.longest": (*NUMBERS, 0),
    "preprocessing.mean": (*LISTS, [0.5, 0.5]), "preprocessing.std": (*LISTS, [0.5, 0.5], [0, 0, 0], [-1, 1, 1]), "prediction": (*WORDS, "x"),
    "prediction.threshold": (*NUMBERS, 7), "prediction.flip": ("wrong", 7, None, []), "prediction.scales": (*LISTS, [], [0], [100]),
    "prediction.tile": (*(value for value in NUMBERS if value is not None), 7), "prediction.overlap": (*NUMBERS, 0.9),
}  # fmt: skip


def _facts() -> Iterator[Case]:
    def told(facts: object) -> Callable[[Path], Any]:
        return lambda inputs: write_network(inputs / FILE, facts=facts)

    yield _case("that says nothing of itself", told(MISSING))
    for text in ("", "null", "[]", "7", "{", '"x"', "{}", "[" * 50_000 + "]" * 50_000, '{"version": 1}', "\x00"):
        yield _case("that says something else of itself", told(text))
    for path, values in FIELDS.items():
        for value in (*values, MISSING):
            null = path == "input.size" and value is MISSING
            yield _case("that says something wrong of itself", told(_with(path, value)), MAY if null else WRONG)
    yield _case("of a task with an odd name", told(_with("task.name", "../../x\n\x1b[31m" * 100)), OK)


def _with(path: str, value: object) -> dict[str, Any]:
    facts = json.loads(json.dumps(FACTS))
    *parents, last = path.split(".")
    table = facts
    for parent in parents:
        table = table[parent]
    if value is MISSING:
        del table[last]
    else:
        table[last] = value
    return facts


def _graphs() -> Iterator[Case]:
    def changed(change: Callable[[Any], Any]) -> Callable[[Path], Any]:
        return lambda inputs: write_network(inputs / FILE, change)

    def named(before: str, after: str) -> Callable[[Any], None]:
        def change(network: Any) -> None:
            for node in network.graph.node:
                node.input[:] = [after if name == before else name for name in node.input]
                node.output[:] = [after if name == before else name for name in node.output]
            for one in (*network.graph.input, *network.graph.output):
                one.name = after if one.name == before else one.name

        return change

    def of_type(index: int, kind: int) -> Callable[[Any], None]:
        return lambda network: setattr(network.graph.input[index].type.tensor_type, "elem_type", kind)

    def ending(*nodes: tuple[str, list[str], dict[str, Any]]) -> Callable[[Any], None]:
        """Puts nodes behind the last one; they begin with ``last`` and end in ``probability``."""

        def change(network: Any) -> None:
            from onnx import helper

            network.graph.node[-1].output[:] = ["last"]
            given = "last"
            for number, (kind, inputs, attributes) in enumerate(nodes):
                gives = "probability" if number == len(nodes) - 1 else f"more{number}"
                network.graph.node.append(helper.make_node(kind, [given, *inputs], [gives], **attributes))
                given = gives

        return change

    def weights(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], None]:
        def spoil(network: Any) -> None:
            from onnx import numpy_helper

            tensor = network.graph.initializer[0]
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), tensor.name))

        return spoil

    def outside(place: str) -> Callable[[Any], None]:
        """The first weights in a file of their own, which is not there or not theirs."""

        def change(network: Any) -> None:
            tensor = network.graph.initializer[0]
            tensor.ClearField("raw_data")
            tensor.data_location = 1
            for key, value in {"location": place, "offset": "0", "length": "768"}.items():
                entry = tensor.external_data.add()
                entry.key, entry.value = key, value

        return change

    def dims(*sizes: int) -> Callable[[Any], None]:
        return lambda network: network.graph.initializer[0].dims.__setitem__(slice(None), sizes)

    def first(name: str, value: Any) -> Callable[[Any], None]:
        return lambda network: setattr(network.graph.node[0], name, value)

    graphs: dict[str, list[Callable[[Any], Any]]] = {
        "with other inputs": [named("image", "picture"), named("size", "image2"), named("inner", "x" * 10_000), lambda n: n.graph.input.pop(1), of_type(0, 2), of_type(0, 7), of_type(2, 6), of_type(0, 8)],
        "with other outputs": [named("probability", "masks"), lambda n: n.graph.output.pop(), ending(("Cast", [], {"to": 7})), ending(("Cast", [], {"to": 9})), ending(("Shape", [], {})),
                               ending(("Flatten", [], {"axis": 1})), ending(("Transpose", [], {"perm": [1, 2, 0]})), ending(("Unsqueeze", ["one"], {})), ending(("SequenceConstruct", [], {}))],
        "that gives no probabilities": [ending(("Neg", [], {})), ending(("Log", [], {}), ("Sqrt", [], {})), ending(("Exp", [], {}), ("Exp", [], {})), weights(lambda array: array * np.nan), weights(lambda array: array + np.inf)],
        "with weights of another shape": [weights(lambda array: array[:, :2]), weights(lambda array: array[:0]), weights(lambda array: array.reshape(-1)), weights(lambda array: array.astype(np.int64)),
                                          dims(64, 3, 1, 2), dims(1 << 40, 3, 1, 1), dims(1 << 62, 1 << 62, 1, 1), dims(-1, 3, 1, 1)],
        "whose weights lie elsewhere": [outside("gone.data"), outside("../../../../etc/passwd"), outside("/dev/zero"), outside("pipe"), outside("note.txt"), outside("")],
        "with nodes that nobody knows": [first("op_type", "Nonsense"), first("domain", "some.where"), first("op_type", ""), lambda n: n.graph.node[0].input.append("no such"), lambda n: n.graph.node.pop(3)],
        "of another version": [lambda n: setattr(n.opset_import[0], "version", 999), lambda n: setattr(n, "ir_version", 999), lambda n: setattr(n.opset_import[0], "version", -1), lambda n: n.opset_import.pop()],
        "of nothing": [lambda n: n.ClearField("graph"), lambda n: n.graph.ClearField("node")],
    }  # fmt: skip
    for what, changes in graphs.items():
        for change in changes:
            yield _case(what, changed(change))
    yield _case("of other numbers", changed(weights(lambda array: array.astype(np.float32) * 0)), OK)


def _calls() -> Iterator[Case]:
    """Wrong calls of the runner."""
    for option, value in (("--tile", "7"), ("--tile", "abc"), ("--tile", "-1"), ("--threads", "abc"), ("--threads", "-5"), ("--threads", "9" * 30), ("--save", "nonsense"), ("--save", ""), ("--no-such", "7"),
                          ("--out", "@/note.txt"), ("--out", "@/note.txt/x"), ("--out", "/proc/none/x"), ("--model", "@/one.png"), ("--model", "@/empty"), ("--model", ""), ("--model", "no/such.onnx")):  # fmt: skip
        yield _case("and a wrong call", lambda inputs: None, WRONG, option, value, named=())
    for image in ("@/note.txt", "@/empty", "@/pipe", "no/such.png", "", "@/checkpoint.safetensors"):
        yield Case(
            GROUP,
            "an exported file and a wrong call",
            (image, *MASK[1:]),
            (),
            WRONG,
            lambda inputs: write_network(inputs / FILE),
            program=RUNNER,
            needs="onnx",
        )
