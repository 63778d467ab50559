"""Exported files: they give the model's masks, one that does not is not left, and what cannot be exported is named."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from focus_plugins.enhancers.release_edges import release_edge_images
from PIL import Image
from support.export import exported, small_model
from timm.layers import Conv2dSame, create_pool2d
from timm.layers.std_conv import StdConv2dSame
from torch import Tensor, nn

from focus_framework import ConfigError, PluginError, WeightsError
from focus_framework.checkpoint.format import write_checkpoint
from focus_framework.cli import main
from focus_framework.deploy.export import comparing, making
from focus_framework.deploy.export.comparing import Comparison, picture_of
from focus_framework.deploy.export.making import export
from focus_framework.deploy.export.writing import halve, write_onnx
from focus_framework.inference.model import Model
from focus_framework.plugin.kit.timm_networks import padding_by_stride

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, making.Export]:
    return exported(tmp_path_factory)


@pytest.mark.parametrize(
    "layer",
    [
        *(Conv2dSame(3, 4, kernel, stride, dilation=dilation) for kernel in (1, 2, 3, 5) for stride in (1, 2, 4) for dilation in (1, 2)),
        *(create_pool2d(kind, kernel, 2, padding="same") for kind in ("max", "avg") for kernel in (2, 3)),
        StdConv2dSame(3, 4, 7, 2),
    ],
    ids=str,
)
def test_padding_by_stride_is_timms_for_multiples_of_32(layer: nn.Module) -> None:
    for size in ((32, 64), (96, 32)):
        image = torch.randn(2, 3, *size)
        expected = layer(image)
        with padding_by_stride():
            torch.testing.assert_close(layer(image), expected, rtol=0, atol=0)
    odd = torch.randn(1, 3, 33, 35)
    torch.testing.assert_close(layer(odd), layer(odd))


def test_a_file_gives_the_masks_of_the_model(made: tuple[Model, making.Export]) -> None:
    _, file = made
    rows = file.comparisons
    assert [row.batch for row in rows] == [1, 2, 3] * 3
    assert len({(row.height, row.width) for row in rows}) == 3
    assert max(row.largest_difference for row in rows) < 1e-4
    assert max(row.different_pixels for row in rows) < 1e-3
    report = json.loads(file.report.read_text())
    assert report["check"][0]["largest_difference"] == rows[0].largest_difference
    left = {path.name for path in file.path.parent.iterdir()}
    assert {name for name in left if not name.startswith(".lock")} == {"model.onnx", "model.onnx.json"}


@pytest.mark.parametrize(
    ("largest", "rounding", "refused"),
    [
        (9e-5, 0.0, ""),
        (2e-4, 0.0, "allowed is 0.0001"),
        (2e-4, 6e-5, ""),
        (3e-4, 6e-5, "allowed is 0.00024"),
        (2e-3, 0.1, "allowed is 0.001"),
    ],
)
def test_a_file_may_round_otherwise_as_far_as_the_model_rounds(largest: float, rounding: float, refused: str) -> None:
    told = Comparison(1, 64, 64, largest, 1e-6, 0.0, rounding).verdict(half=False, hard=False)
    assert refused in told and bool(told) == bool(refused)


def test_the_models_rounding_is_found_where_a_file_is_too_far_away() -> None:
    model = small_model()
    (case, *_) = comparing.cases(model, [(64, 64)])
    whole = comparing.Prepared(case.prepared[0].pixels, (64, 64), (64, 64))
    found = [np.stack([found.numpy() for found in model.probabilities(batch)]) for batch in (case.prepared, [whole])]
    assert comparing._compared(case, found, model).rounding == 0
    found[0][0, 5, 5] += 5e-4
    told = comparing._compared(case, found, model)
    assert 0 < told.rounding < 1e-5 and "a probability differs by 0.0005" in told.verdict(half=False, hard=False)
    assert next(model.network.parameters()).dtype == torch.float32
    found[0][0, 5, 5] += 0.01
    told = comparing._compared(case, found, model)
    assert told.rounding == 0 and "a probability differs by 0.01" in told.verdict(half=False, hard=False)


@pytest.mark.parametrize("error", [RuntimeError("expected Float"), PluginError("backbone mine: forward raised expected Float")])
def test_a_network_that_knows_no_doubles_is_not_excused(error: Exception) -> None:
    model = small_model()
    (case, *_) = comparing.cases(model, [(64, 64)])
    expected = np.stack([found.numpy() for found in model.probabilities(case.prepared)])
    assert comparing._rounding(case, expected, model) > 0

    def refuse(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].dtype == torch.float64:
            raise error

    model.network.register_forward_pre_hook(refuse)
    assert comparing._rounding(case, expected, model) == 0


def test_a_file_is_called_as_the_page_says(made: tuple[Model, making.Export]) -> None:
    """Not by the code of the check: an image resized as the facts say, and what `predict` gives for it."""
    import onnxruntime
    from torchvision.transforms.v2 import functional as V

    model, file = made
    session = onnxruntime.InferenceSession(str(file.path), providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["focus"])
    assert facts["prompts"][0]["foreground"].startswith("it's an image of shadow")
    assert facts["input"] == {"image": "uint8 [B, H, W, 3]", "size": None, "multiple": 32}
    assert facts["preprocessing"]["size"] == 64
    assert facts["prediction"]["threshold"] == 0.5
    image = picture_of("shadow", 3, (70, 101))
    height, width = 64, round(101 * 64 / 70)
    pixels = np.zeros((1, 64, 96, 3), np.uint8)
    pixels[0, :height, :width] = V.resize(torch.from_numpy(image).permute(2, 0, 1), [height, width]).permute(1, 2, 0).numpy()
    given = {"image": pixels, "inner": np.array([height, width]), "size": np.array(image.shape[:2])}
    [found] = session.run(["probability"], given)
    np.testing.assert_allclose(found[0], model.predict(image).probability, atol=1e-4)


def test_python_of_the_page_runs(made: tuple[Model, making.Export], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model, file = made
    image = picture_of("shadow", 4, (64, 64))
    Image.fromarray(image).save("photo.png")
    Path("model.onnx").symlink_to(file.path)
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "export.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    exec(compile(block.replace("photo.jpg", "photo.png"), "docs/export.md", "exec"), {})
    np.testing.assert_array_equal(np.asarray(Image.open("mask.png")), model.predict(image).mask)


def test_javascript_of_the_page_runs(made: tuple[Model, making.Export], tmp_path: Path) -> None:
    """Where `npm install -g onnxruntime-web` was done."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    modules = Path(subprocess.run(["npm", "root", "-g"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())
    if not (modules / "onnxruntime-web").is_dir():
        pytest.skip("onnxruntime-web is not installed for node")
    model, file = made
    image = picture_of("shadow", 5, (64, 64))
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "model.onnx").symlink_to(file.path)
    image.tofile(tmp_path / "pixels.raw")
    (block,) = re.findall(r"^```javascript\n(.*?)^```$", (ROOT / "docs" / "export.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    called = """
    import { readFileSync, writeFileSync } from "node:fs";
    writeFileSync("map.raw", await mask(new Uint8Array(readFileSync("pixels.raw")), 64, 64, 64));
    """
    (tmp_path / "call.mjs").write_text(block + called, encoding="utf-8")
    subprocess.run(["node", "call.mjs"], cwd=tmp_path, check=True)
    found = np.fromfile(tmp_path / "map.raw", np.float32).reshape(64, 64)
    np.testing.assert_allclose(found, model.predict(image).probability, atol=1e-4)


def test_sampling_keeps_the_name_that_parsers_know(made: tuple[Model, making.Export]) -> None:
    import onnx

    graph = onnx.load(made[1].path)
    assert {each.version for each in graph.opset_import if not each.domain} == {18}
    modes = {
        attribute.s for node in graph.graph.node if node.op_type == "GridSample" for attribute in node.attribute if attribute.name == "mode"
    }
    assert modes <= {b"bilinear"}
    assert any(node.op_type == "GridSample" for node in graph.graph.node)


def test_a_file_with_one_wrong_constant_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: tuple[Model, making.Export]
) -> None:
    import onnx

    model, file = made

    def corrupted(path: Path, *arguments: Any, **options: Any) -> None:
        graph = onnx.load(file.path)
        weight = next(each for each in graph.graph.initializer if each.name.endswith("class_head.bias"))
        values = onnx.numpy_helper.to_array(weight).copy()
        values[0] += 0.01
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(graph, path)

    monkeypatch.setattr(making, "write_onnx", corrupted)
    monkeypatch.setattr(making, "trace", lambda *arguments, **options: None)
    with pytest.raises(
        WeightsError, match=r"model\.onnx was not left: it does not give the model's masks. For 1 image of 64 x 64 a probability"
    ):
        export(model, tmp_path / "model.onnx", with_preprocessing=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_halves_is_smaller_and_near(made: tuple[Model, making.Export], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx_ir

    model, whole = made

    def halved(path: Path, *arguments: Any, half: bool, **options: Any) -> None:
        assert half
        graph = onnx_ir.load(whole.path)
        halve(graph)
        onnx_ir.save(graph, path)

    monkeypatch.setattr(making, "write_onnx", halved)
    monkeypatch.setattr(making, "trace", lambda *arguments, **options: None)
    half = export(model, tmp_path / "half.onnx", precision="fp16", with_preprocessing=True)
    types = [each.dtype for each in onnx_ir.load(half.path).graph.initializers.values()]
    assert types.count(onnx_ir.DataType.FLOAT16) > 20
    assert half.path.stat().st_size < whole.path.stat().st_size
    assert 1e-6 < max(row.mean_difference for row in half.comparisons) < 0.005


class Deciding(nn.Module):
    """Looks at a value to decide, which no graph can."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 8)[:, :1].expand(-1, 32, -1, -1) if x.sum() > 0 else x


class Decomposing(nn.Module):
    """A decomposition that ONNX does not have."""

    def forward(self, x: Tensor) -> Tensor:
        values = torch.linalg.svd(x[:, 0, :8, :8])[1].sum()
        return F.avg_pool2d(x, 8)[:, :1].expand(-1, 32, -1, -1) + values


def test_what_cannot_be_traced_is_named(tmp_path: Path) -> None:
    model = small_model()
    model.network.encoder.backbone.vit.patch_embed.proj = Deciding()  # type: ignore[union-attr]
    with pytest.raises(PluginError, match=r"^backbone vit cannot be exported: begin\(\) .* test_export.py line \d+, .* if x.sum\(\) > 0"):
        export(model, tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


def test_what_onnx_does_not_have_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.ModuleDict({"encoder": nn.ModuleDict({"backbone": Decomposing()})})

        def forward(self, image: Tensor, inner: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
            return self.network["encoder"]["backbone"](image) + inner.sum(), size + 1

    program = torch.export.export(Whole(), (torch.randn(2, 3, 16, 16), torch.tensor([1, 2]), torch.tensor([3, 4])), strict=False)
    with pytest.raises(
        PluginError, match=r"^backbone odd cannot be exported to ONNX: it computes aten\.\w*linalg_svd, which ONNX does not have"
    ):
        write_onnx(tmp_path / "model.onnx", program, {}, half=False, plugins={"backbone": "odd"})


def test_the_releases_edges_are_traced_with_the_same_bytes() -> None:
    class Edges(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return release_edge_images(image)

    image = torch.from_numpy(np.stack([picture_of("salient", number, (64, 96)) for number in range(2)])).permute(0, 3, 1, 2)
    traced = torch.export.export(Edges(), (image,), strict=False).module()
    assert torch.equal(traced(image), release_edge_images(image))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--out", "model.tflite"], "is no name for an exported file; it ends in .onnx or .pt2"),
        (["--out", "model.onnx", "--format", "pt2"], "--out model.onnx does not end in .pt2"),
        (["--out", "model.pt2", "--precision", "fp16"], "fp16 is for .onnx"),
        (["--out", "model.pt2", "--size", "100"], "a size of 100 cannot be exported; sides are multiples of 32 from 64 to 32768"),
        (["--out", "model.pt2", "--size", "large"], "'large' is no size such as 512, or 640x480"),
        (["--out", "there.pt2"], "there.pt2 exists and is not an exported file of ours"),
    ],
)
def test_wrong_calls_are_named(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.pt2").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["export", "toy.safetensors", *arguments])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.pt2"]


def test_without_the_extra_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'needs onnx, onnxscript, onnxruntime; run: pip install "focus-framework\[export\]"'):
        export(small_model(), "model.onnx")


def test_a_pt2_file_is_checked_in_a_process_that_knows_torch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = small_model(**{"prediction.rule": "release"})
    write_checkpoint(tmp_path / "toy.safetensors", model.network.state_dict(), model.description)
    with pytest.raises(SystemExit) as ended:
        main(["export", "toy.safetensors", "--out", "toy.pt2", "--json"])
    printed = capfd.readouterr()
    assert ended.value.code in (0, None), printed.err
    result = json.loads(printed.out)
    assert len({(row["width"], row["height"]) for row in result["check"]}) == 3
    assert max(row["different_pixels"] for row in result["check"]) < 1e-3
    assert result["bytes"] == (tmp_path / "toy.pt2").stat().st_size
    extra = {"focus.json": ""}
    program = torch.export.load("toy.pt2", extra_files=extra)
    assert json.loads(extra["focus.json"])["prediction"]["rule"] == "release"
    image = next(node for node in program.graph.nodes if node.op == "placeholder" and node.target == "image")
    assert [isinstance(side, torch.SymInt) for side in image.meta["val"].shape] == [True, False, True, True]
