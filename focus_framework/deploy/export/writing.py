"""A traced graph as a file, ONNX or torch.export."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from ...errors import ConfigError, PluginError
from ...plugin.calls import reason
from .facts import KEY
from .graph import INPUTS, OUTPUTS

OPSET = 18
"""The one that still calls the sampling of deformable attention bilinear; parsers of TensorRT read the later name, linear, as nearest."""
LARGEST = 1_900_000_000
"""Bytes of weights that fit into one ONNX file, which may have 2 GiB; more are written beside it."""
MULTIPLICATIONS = ("MatMul", "Gemm", "Conv", "ConvTranspose")
PARTS = {"network.encoder.backbone": "backbone", "network.encoder.prior": "enhancer"}


def write_pt2(path: Path, program: ExportedProgram, facts: Mapping[str, Any]) -> None:
    """A ``.pt2`` file, which ``torch.export.load`` reads; the facts are its extra file ``focus.json``."""
    # Tracing notes whatever it saw, as that two images are more than one; what it computes is the same without, as the check shows.
    program._guards_code = []
    torch.export.save(program, path, extra_files={f"{KEY}.json": json.dumps(facts)})


def write_onnx(path: Path, program: ExportedProgram, facts: Mapping[str, Any], *, half: bool, plugins: Mapping[str, str]) -> None:
    """An ONNX file, and beside it ``NAME.data`` where its weights are too many. `plugins` names the plugin of each kind for errors.
    Raises `PluginError` for an operation of a plugin that ONNX does not have, `ConfigError` for another one."""
    try:
        with _quiet():
            made: Any = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, input_names=INPUTS, output_names=OUTPUTS, optimize=True, verbose=False
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise _named(error, program, plugins) from error
    if half:
        halve(made.model)
    made.model.metadata_props[KEY] = json.dumps(facts)
    weights = sum(value.const_value.nbytes for value in made.model.graph.initializers.values())
    made.save(str(path), external_data=weights > LARGEST)


def halve(model: Any) -> None:
    """Let the products with weights of an ONNX model (of onnx_ir) be computed in float16, as autocast does. All else, above all where
    deformable attention looks, keeps float32: positions in halves would be off by pixels."""
    import onnx_ir as ir

    halves: dict[Any, Any] = {}
    for node in [node for node in model.graph if node.op_type in MULTIPLICATIONS]:
        weight = node.inputs[1]
        if weight is None or weight.const_value is None or weight.dtype != ir.DataType.FLOAT:
            continue
        for index, value in enumerate(node.inputs):
            if value is None:
                continue
            if value not in halves:
                halves[value] = _half_weight(model, value) if value.const_value is not None else _cast(node, value, ir.DataType.FLOAT16)
            node.replace_input_with(index, halves[value])
        _widen(node)
    initializers = model.graph.initializers
    for name in [name for name, value in initializers.items() if not value.uses() and not value.is_graph_output()]:
        del initializers[name]


def _half_weight(model: Any, value: Any) -> Any:
    import numpy as np
    import onnx_ir as ir

    array = value.const_value.numpy()
    limit = np.finfo(np.float16).max
    narrow = ir.Value(
        name=f"{value.name}_half", const_value=ir.tensor(np.clip(array, -limit, limit).astype(np.float16), name=f"{value.name}_half")
    )
    narrow.dtype, narrow.shape = ir.DataType.FLOAT16, value.shape
    model.graph.register_initializer(narrow)
    return narrow


def _cast(before: Any, value: Any, kind: Any) -> Any:
    """`value` in another type of number, made just before a node."""
    import onnx_ir as ir

    node = ir.node("Cast", [value], {"to": kind})
    node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = f"{value.name}_half", kind, value.shape
    before.graph.insert_before(before, node)
    return node.outputs[0]


def _widen(node: Any) -> None:
    """The output of a node that now gives halves, back in float32 for all who read it."""
    import onnx_ir as ir

    output = node.outputs[0]
    users = list(output.uses())
    wide = ir.node("Cast", [output], {"to": ir.DataType.FLOAT})
    wide.outputs[0].name, wide.outputs[0].dtype, wide.outputs[0].shape = f"{output.name}_wide", ir.DataType.FLOAT, output.shape
    for user, index in users:
        user.replace_input_with(index, wide.outputs[0])
    output.dtype = ir.DataType.FLOAT16
    node.graph.insert_after(node, wide)


def _named(error: Exception, program: ExportedProgram, plugins: Mapping[str, str]) -> PluginError | ConfigError:
    """The error of the exporter in one line: which operation, and whose."""
    told, cause = "", error.__cause__
    while cause is not None and not told:
        found = re.search(r"OpOverload\(op='([\w.:]+)'", str(cause))
        told, cause = found[1].replace("::", ".") if found else "", cause.__cause__
    if not told:
        return ConfigError(f"the network cannot be exported to ONNX: {reason(error)}")
    called = told.replace("aten._", "aten.")  # as it was called, before it was taken apart
    kind = next(filter(None, (_kind(node) for node in program.graph.nodes if str(node.target).startswith((told, called)))), "")
    whose = f"{kind} {plugins[kind]}" if kind else "the network"
    refusal = PluginError if kind else ConfigError
    return refusal(f"{whose} cannot be exported to ONNX: it computes {told}, which ONNX does not have; a .pt2 file may hold it")


def _kind(node: Any) -> str:
    """The kind of plugin whose module a node of the graph came from; empty where it was the framework's own."""
    for path, _ in node.meta.get("nn_module_stack", {}).values():
        for prefix, kind in PARTS.items():
            if str(path).startswith(prefix):
                return kind
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells its own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
