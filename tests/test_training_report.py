"""The page that a run leaves: that it says what was done, needs nothing beside it, and takes any text for text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.training import lines, run, tiny

from focus_framework.training.record.report import render
from focus_framework.training.record.summary import Summary

HOSTILE = "<script>alert('$x$ & \"y\"')</script>"


class Elements(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def summary(folder: Path, **changes: Any) -> Summary:
    scores = {"mae": 0.25, "s_measure": 0.5}
    given: dict[str, Any] = {"validation": scores, "test": scores, "baselines": {HOSTILE: 0.125, "otsu": 0.5}, "skipped": (HOSTILE,)}
    return Summary(folder, folder / "c", folder / "b", 40, 12.0, samples=None, **{**given, **changes})


def described(text: str) -> dict[str, Any]:
    return {
        "framework_version": "9.8.7",
        "task": {"name": text, "title": text, "metrics": ["s_measure", "mae"], "primary_metric": "mae"},
        "prompts": [{"foreground": text, "background": text, "source": text}],
        "plugins": [{"kind": "task", "name": text, "distribution": text, "version": text}],
        "parameters": 1234567,
        "step": 20,
        "ops": "native",
    }


def page(summary: Summary, text: str, log: list[Mapping[str, Any]]) -> str:
    config = tiny(**{"data.train": text, "training.seed": 77}).config
    tiles = {kind: np.zeros((8, 8), np.uint8) for kind in ("image", "truth", "prediction")}
    return render(summary, config, described(text), {"Data": text}, {text: tiles}, log)


LOG: list[Mapping[str, Any]] = [
    {"step": 1, "loss": None, "loss_mask": 3.0, "learning_rate": 1e-3},
    {"step": 2, "loss": 4.0, "loss_mask": 3.0, "loss_clip": 0.0, "learning_rate": 1e-4, "validation_mae": 0.25},
]


def test_any_text_is_text(tmp_path: Path) -> None:
    whole = page(summary(tmp_path), HOSTILE, LOG)
    found = Elements(whole)
    assert [tag for tag, _ in found.tags].count("script") == 1  # the page's own, which sorts tables
    assert whole.count("<script>") == 1
    assert found.text.count(HOSTILE) >= 10


def test_it_needs_nothing_beside_it(tmp_path: Path) -> None:
    found = Elements(page(summary(tmp_path), "a", LOG))
    sources = [value for _, attributes in found.tags for name, value in attributes.items() if name in ("src", "href", "xlink:href")]
    assert len([source for source in sources if source and source.startswith("data:image/")]) == 3
    assert all(source and source.startswith(("data:image/", "#")) for source in sources), sources


def test_it_says_what_was_done(tmp_path: Path) -> None:
    text = Elements(page(summary(tmp_path), "a", LOG)).text
    for said in ("1,234,567", "9.8.7", "40 steps of 2 images, 12 s", "step 20", "the best MAE (lower is better)", "standard", "0.2500"):
        assert said in text
    assert "reaches 0.1250" in text  # the lowest baseline, for MAE
    assert re.search(r"Seed\s*77", text)
    assert "seed = 77" in text  # the configuration
    labels = set(re.findall(r">([^<>]+)</text>", page(summary(tmp_path), "a", LOG)))
    assert {"loss", "loss_mask", "learning rate", "MAE", "S"} <= labels
    assert "loss_clip" not in labels  # 0 throughout: there was no refiner


@pytest.mark.filterwarnings("error")
def test_a_run_without_scores_has_a_page_too(tmp_path: Path) -> None:
    bare = summary(tmp_path, validation={"mae": float("nan")}, test={}, baselines={}, skipped=())
    text = Elements(render(bare, tiny().config, described("a"), {}, {}, LOG[:1])).text
    assert "nan" not in text.lower()
    assert "Left out" not in text


def test_a_run_writes_it(tmp_path: Path) -> None:
    done = run(tmp_path)
    found = Elements(done.report.read_text("utf-8"))
    best = min((line for line in lines(tmp_path) if "validation_ber" in line), key=lambda line: line["validation_ber"])
    assert f"step {best['step']}:" in found.text
    assert f"{done.test['ber']:.2f}" in found.text
    assert "8 images, 3 for validation, 3 for the test" in found.text
    assert [tag for tag, _ in found.tags].count("img") == 3 * 3
