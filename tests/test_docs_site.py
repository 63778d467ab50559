"""The documentation site: it builds without a warning, its links lead somewhere, it fetches nothing, and it leaves nothing out."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
import zlib
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).parents[1]
PUBLIC = ("focus_framework", "focus_framework.ops", "focus_framework.metrics", "focus_framework.testing")
pytest.importorskip("furo", reason="the site needs the extra docs: pip install '.[docs]'")
pytest.importorskip("myst_parser", reason="the site needs the extra docs: pip install '.[docs]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` builds. It fails for every warning, links between pages among them."""
    from sphinx.cmd.build import build_main

    out = tmp_path_factory.mktemp("site")
    warnings = out / "warnings.txt"
    status = build_main(
        ["-q", "-W", "--keep-going", "-n", "-w", str(warnings), "-d", str(out / "doctrees"), str(ROOT / "docs"), str(out / "html")]
    )
    assert status == 0, warnings.read_text("utf-8")
    return out / "html"


def pages(site: Path) -> dict[Path, str]:
    return {path: path.read_text("utf-8") for path in site.glob("*.html")}


def test_every_page_is_built(site: Path) -> None:
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= {path.stem for path in pages(site)}


def test_links_inside_the_site_lead_somewhere(site: Path) -> None:
    built = pages(site)
    anchors = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in built.items()}
    checked = 0
    for path, text in built.items():
        for target in re.findall(r'href="([^"]+)"', text):
            name, anchor = urldefrag(target)
            if ":" in name or name.startswith("_static/"):
                continue
            other = (path.parent / unquote(name)).resolve() if name else path
            assert other.exists(), f"{path.name} links to {target}"
            assert not anchor or other not in anchors or unquote(anchor) in anchors[other], f"{path.name} links to {target}"
            checked += 1
    assert checked > 500


def test_a_reader_needs_no_network(site: Path) -> None:
    for path, text in pages(site).items():
        fetched = re.findall(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="(\w+:)?//', text) + re.findall(
            r'<link\b[^>]*\bhref="https?:', text
        )
        assert not fetched, path.name
    styles = [path.read_text("utf-8") for path in (site / "_static").rglob("*.css")]
    assert styles and not any(re.search(r"@import|url\(['\"]?(https?:)?//", style) for style in styles)


def test_formulas_are_drawn_by_the_browser(site: Path) -> None:
    text = (site / "method.html").read_text("utf-8")
    assert text.count("<math") > 40
    assert "$" not in re.sub(r"<(pre|code|script)\b.*?</\1>", "", text, flags=re.DOTALL)


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]  # four lines of text come before what is compressed
    described = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    for module in PUBLIC:
        missing = {name for name in importlib.import_module(module).__all__ if f"{module}.{name}" not in described}
        assert missing <= {"__version__"}


def test_every_setting_and_preset_is_in_the_configuration_reference(site: Path) -> None:
    from focus_framework.config.layers import known_settings, presets

    text = re.sub(r"<[^>]+>", "", (site / "configuration.html").read_text("utf-8"))
    assert [name for name in known_settings() if name not in text] == []
    assert [name for name in presets() if name not in text] == []


def test_every_setting_says_what_it_is() -> None:
    from pydantic import BaseModel

    from focus_framework.config.schema import RunConfig

    def silent(section: type[BaseModel], path: str) -> list[str]:
        found = []
        for name, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found += silent(inner, f"{path}{name}.")
            elif not field.description:
                found.append(path + name)
        return found

    assert silent(RunConfig, "") == []


def test_the_architecture_page_has_the_rooms_in_the_order_that_is_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    floors = [set(re.findall(r"focus_framework\.(\w+)", layer)) for layer in reversed(layers)]
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8").split("Beside the package")[0]
    rooms = [set(re.findall(r"`(\w+)/?`", cells[0])) for cells in table_rows(page)][2:]
    side_by_side = [floor for floor in floors if len(floor) == 2 and floor not in rooms]
    assert [floor for floor in floors if floor not in side_by_side] == [room for room in rooms if not any(room < s for s in side_by_side)]
    assert set().union(*rooms) == set().union(*floors)


def test_the_architecture_page_has_the_shapes_that_the_network_has() -> None:
    import torch

    from focus_framework.config.layers import resolve
    from focus_framework.model.build import build_network

    network = build_network(resolve("shadow").config).eval()
    shapes: dict[str, list[int]] = {}

    def keep(name: str, tensor: torch.Tensor) -> None:
        shapes[name] = list(tensor.shape)

    encoder = network.encoder
    encoder.prior.overlay.register_forward_hook(lambda _m, _i, out: keep("edge image", out))
    encoder.prior.register_forward_hook(lambda _m, _i, out: keep("edge prior", out[0]))
    encoder.injectors[0].register_forward_hook(lambda _m, given, out: (keep("edge sequence", given[2]), keep("tokens", out), None)[2])
    encoder.register_forward_hook(lambda _m, _i, out: keep("fused maps", out.maps[0]))
    network.pixel_decoder.register_forward_hook(lambda _m, _i, out: keep("mask features", out.mask_features))
    image = torch.zeros(1, 3, 128, 128)
    keep("prepare", image)
    with torch.no_grad():
        heads = network(image, all_heads=True)
    for name, tensor in zip(("class logits", "mask logits", "boxes"), heads, strict=True):
        keep(name, tensor)
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    told = {cells[0]: json.loads(cells[-1].strip("`")) for cells in table_rows(page) if re.fullmatch(r"`\[[\d, ]+\]`", cells[-1])}
    assert told == shapes


def table_rows(page: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]


def test_figures_are_small() -> None:
    figures = list((ROOT / "docs" / "figures").iterdir())
    assert figures
    assert {path.name: path.stat().st_size for path in figures if path.stat().st_size > 150_000} == {}


def test_the_drawings_are_what_the_script_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    figures = importlib.import_module("figures")
    for name, drawing in (("image", figures.image_way()), ("prompt", figures.prompt_way())):
        assert (figures.FOLDER / f"architecture-{name}.svg").read_text("utf-8") == drawing.svg(), "python docs/figures.py draws them anew"


def test_docstrings_cite_sections_that_the_method_page_has() -> None:
    sections = set(re.findall(r"^## (\d+)\. ", (ROOT / "docs" / "method.md").read_text("utf-8"), re.MULTILINE))
    cited = {
        (path.name, number)
        for folder in ("focus_framework", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        for numbers in re.findall(r"docs/method\.md, ([\d, and]+)", path.read_text("utf-8"))
        for number in re.findall(r"\d+", numbers)
    }
    assert len(cited) >= 12
    assert {number for _, number in cited} <= sections
