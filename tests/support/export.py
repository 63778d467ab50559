"""One exported file for all tests and all processes of a run: tracing takes half a minute."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from focus_framework.checkpoint.description import describe
from focus_framework.config.layers import resolve
from focus_framework.deploy.export.comparing import Comparison
from focus_framework.deploy.export.making import Export, export
from focus_framework.inference.model import Model
from focus_framework.model.build import build_network
from focus_framework.plugin.registry import registry

ROOT = Path(__file__).parents[2]
SMALL = {"enhancer.name": "none", "preprocessing.resize": "short-side"}


def small_model(**options: Any) -> Model:
    """A toy network."""
    config = resolve("shadow", file=ROOT / "tests" / "data" / "toy.toml", options=SMALL | options).config
    torch.manual_seed(1)
    network = build_network(config).eval()
    entry = registry().find_task("shadow")
    return Model(config, network, describe(config, network, entry, entry.get().pairs())).eval()


def exported(factory: pytest.TempPathFactory) -> tuple[Model, Export]:
    """A toy model and its ONNX file, which takes bytes."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    temporary = factory.getbasetemp()
    folder = (temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary) / "exported-once"
    folder.mkdir(exist_ok=True)
    model, path = small_model(), folder / "model.onnx"
    report = folder / "model.onnx.json"
    with FileLock(folder / ".lock"):
        if not report.exists():
            export(model, path, with_preprocessing=True)
    told = json.loads(report.read_text())
    return model, Export(path, report, [Comparison(**row) for row in told["check"]], told["facts"])
