"""A checkpoint as a file that needs no framework, checked before it is left."""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from ...errors import ConfigError, DataError, WeightsError
from ...files.atomic import replacing
from ...inference.model import Model, load
from ...model.network import MULTIPLE
from .comparing import Comparison, as_rows, compare
from .facts import facts_of
from .graph import SIDES, Size, trace
from .writing import write_onnx, write_pt2

Format = Literal["onnx", "pt2"]
Precision = Literal["fp32", "fp16"]
NEEDED = ("onnx", "onnxscript", "onnxruntime")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Export:
    """An exported file and how near it comes to its model."""

    path: Path
    report: Path
    """The figures of the check as JSON, ``NAME.json`` beside the file."""
    comparisons: list[Comparison]
    facts: dict[str, Any]
    """What the file says of itself."""


def export(
    checkpoint: Model | str | PathLike[str],
    out: str | PathLike[str],
    *,
    precision: Precision = "fp32",
    size: int | Size | None = None,
    with_preprocessing: bool = False,
    said: Callable[[str], None] = logger.info,
) -> Export:
    """Write a model as ``.onnx`` or ``.pt2``, by the suffix of `out`, for use without this framework, and check it.

    Args:
        checkpoint: a model, or what `load` takes.
        precision: ``fp16`` stores the weights in halves and multiplies in halves (ONNX alone).
        size: (height, width) of the network's input, or its side; by default any multiple of 32 goes.
        with_preprocessing: the file takes bytes and normalises them itself.
        said: gets a line for each step.

    The file is run before it is left: three sizes, batches of 1, 2 and 3. Raises `WeightsError` where it is further from the model than
    allowed, and leaves nothing then; `PluginError` where a plugin does what cannot be exported; `ConfigError` for a wrong call.
    """
    path = Path(out)
    form = checked_call(path, precision)
    fixed = checked_size(size)
    model = checkpoint if isinstance(checkpoint, Model) else load(checkpoint, device="cpu")
    model = model.for_task(model.task)
    if model.device.type != "cpu":
        raise ConfigError(f'the model is on {model.device}; load it with device="cpu" to export it')
    model = Model(
        model.config.model_copy(update={"prediction": model.config.prediction.model_copy(update={"precision": "fp32"})}),
        model.network,
        model.description,
    ).eval()
    facts = facts_of(model, form=form, precision=precision, size=fixed, raw=with_preprocessing)
    said("tracing the network")
    program = trace(model, size=fixed, raw=with_preprocessing)
    plugins = {"backbone": model.config.backbone.name, "enhancer": model.config.enhancer.name}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".focus-{uuid.uuid4().hex}"
    beside.mkdir()
    try:
        said(f"writing {form}")
        made = beside / path.name
        if form == "onnx":
            write_onnx(made, program, facts, half=precision == "fp16", plugins=plugins)
        else:
            write_pt2(made, program, facts)
        del program
        said("checking the file against the model")
        comparisons = compare(made, model, fixed, raw=with_preprocessing)
        _refuse_far(comparisons, path, half=precision == "fp16", hard=model.config.prediction.rule == "release")
        for file in sorted(beside.iterdir(), key=lambda file: file == made):  # weights beside it first
            file.replace(path.parent / file.name)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    report = path.with_name(f"{path.name}.json")
    with replacing(report) as file:
        file.write_text(json.dumps({"file": path.name, "facts": facts, "check": as_rows(comparisons)}, indent=1) + "\n", encoding="utf-8")
    return Export(path, report, comparisons, facts)


def checked_call(path: Path, precision: str) -> Format:
    """The format that the name of a file says. Raises `ConfigError` for none, for one that cannot be had in that precision, and where
    what it needs is not installed."""
    if path.suffix.lower() not in (".onnx", ".pt2"):
        raise ConfigError(f"{path} is no name for an exported file; it ends in .onnx or .pt2")
    form: Format = "onnx" if path.suffix.lower() == ".onnx" else "pt2"
    if precision not in ("fp32", "fp16"):
        raise ConfigError(f"precision {precision!r} is not known; use fp32 or fp16")
    if form == "pt2" and precision == "fp16":
        raise ConfigError("fp16 is for .onnx; a .pt2 file keeps fp32, call it under torch.autocast")
    if form == "onnx" and (missing := [name for name in NEEDED if find_spec(name) is None]):
        raise ConfigError(f'exporting to ONNX needs {", ".join(missing)}; run: pip install "focus-framework[export]"')
    return form


def checked_size(size: int | Size | None) -> Size | None:
    """(height, width), both multiples of 32. Raises `ConfigError`."""
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    for side in (height, width):
        if side % MULTIPLE or not 2 * MULTIPLE <= side <= SIDES * MULTIPLE:
            raise ConfigError(
                f"a size of {side} cannot be exported; sides are multiples of {MULTIPLE} from {2 * MULTIPLE} to {SIDES * MULTIPLE}"
            )
    return height, width


def _refuse_far(comparisons: list[Comparison], path: Path, *, half: bool, hard: bool) -> None:
    for found in comparisons:
        if why := found.verdict(half=half, hard=hard):
            images = f"{found.batch} image{'s' if found.batch > 1 else ''} of {found.width} x {found.height}"
            raise WeightsError(f"{path} was not left: it does not give the model's masks. For {images} {why}")
