"""The page of ``focus serve`` in a real browser: what people see, change, keep and take home."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("playwright", reason="playwright is not installed")
from playwright import sync_api
from support.clip import write_model
from support.serve import running, served, service
from support.training import run as train_run
from support.training import tiny

from focus_framework.checkpoint import describe, write_checkpoint
from focus_framework.deploy.serve.collection import collecting
from focus_framework.deploy.serve.judging import open_judge
from focus_framework.deploy.serve.models import Served, load_all
from focus_framework.deploy.serve.service import Service
from focus_framework.deploy.serve.settings import Access, Limits
from focus_framework.files.sheets import overlay
from focus_framework.inference.explain.views import rows
from focus_framework.inference.outputs import render
from focus_framework.inference.result import Result
from focus_framework.model.build import build_network
from focus_framework.plugin.registry import registry

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed to look at the page with")

DROP = """([files]) => {
    const transfer = new DataTransfer();
    for (const [name, type, text] of files)
        transfer.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name, { type }));
    window.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def red(height: int, width: int, seed: int) -> np.ndarray[Any, Any]:
    """Noise whose red rises from left to right: the mask of the model that is known."""
    pixels = np.random.default_rng(seed).integers(0, 60, (height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    return pixels


def encoded(pixels: np.ndarray[Any, Any], form: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form)
    return content.getvalue()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # a container has none of its own
        yield started
        started.close()


def model(name: str) -> Served:
    made = served(name)
    told = {
        "title": "what is red",
        "prompts": [{"foreground": "a red thing", "background": "the rest", "source": "test"}],
        "threshold": 0.5,
    }
    more = {"facts": {"Parameters": "0"}, "scores": {"test": {"mae": 0.25}}, "known": None, "example": False}
    return Served(name, made.model, {**made.card, **told, **more})


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The page of a service with two models that keeps pairs; it must not complain of anything."""
    with collecting(tmp_path / "kept") as collection, running(service(model("red"), model("other"), collection=collection)) as (address, _):
        context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
        opened = context.new_page()
        troubles: list[str] = []
        opened.on("pageerror", lambda error: troubles.append(str(error)))
        opened.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        opened.on("request", lambda asked: troubles.append(asked.url) if address not in asked.url and "blob:" not in asked.url else None)
        opened.goto(f"http://{address}/")
        opened.set_default_timeout(20_000)
        yield opened
        context.close()
    assert [trouble for trouble in troubles if "415" not in trouble] == []


def drop(page: Any, files: dict[str, bytes]) -> None:
    import base64

    page.evaluate(DROP, [[[name, "image/png", base64.b64encode(content).decode()] for name, content in files.items()]])
    page.locator("#strip button:not(.waiting)").nth(len(files) - 1).wait_for()


def downloaded(page: Any, button: str) -> bytes:
    with page.expect_download() as waiting:
        page.click(button)
    return Path(waiting.value.path()).read_bytes()


def pixels_of(content: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(content)))


def foreground(page: Any) -> float:
    page.wait_for_timeout(100)  # a frame
    return float(page.inner_text("#share").split(" %")[0])


def test_images_are_dropped_thresholded_and_taken_home(page: Any) -> None:
    images = {f"{number}.png": red(60 + number, 100, number) for number in range(3)}
    drop(page, {name: encoded(image) for name, image in images.items()})
    assert page.locator("#strip button.ready").count() == 3
    assert foreground(page) == pytest.approx(50, abs=1)
    page.locator("#threshold").fill("0.8")
    assert foreground(page) == pytest.approx(20, abs=1)
    page.keyboard.press("2")
    image = images["0.png"]
    result = Result((image[..., 0] / 255).astype(np.float32), image, 0.8)
    assert np.array_equal(pixels_of(downloaded(page, "#download")), render("binary", result))
    packed = zipfile.ZipFile(io.BytesIO(downloaded(page, "#download-all")))
    assert packed.testzip() is None
    assert len(packed.namelist()) == 12
    for name, image in images.items():
        result = Result((image[..., 0] / 255).astype(np.float32), image, 0.8)
        assert packed.read(f"mask/{name}") == encoded(render("mask", result))  # the very bytes of focus predict
        assert np.array_equal(pixels_of(packed.read(f"cutout/{name}")), render("cutout", result))
        difference = np.abs(pixels_of(packed.read(f"overlay/{name}")).astype(int) - overlay(image, result.mask))
        assert difference.max() <= 1  # halves are rounded up there, to even here


def test_a_corrected_pair_is_kept_and_trained_on(page: Any, tmp_path: Path) -> None:
    image = red(64, 96, 7)
    drop(page, {"a.png": encoded(image)})
    page.click("#brush-add")
    box = page.locator("#after").bounding_box()
    at = (box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.5)
    page.mouse.move(*at)
    page.mouse.down()
    page.mouse.move(at[0] + box["width"] * 0.1, at[1], steps=4)
    page.mouse.up()
    grown = foreground(page)
    assert grown > 51
    page.keyboard.press("Control+z")
    assert foreground(page) == pytest.approx(50, abs=1)
    page.keyboard.press("e")  # takes away; by keys alone
    page.locator("#size").fill("20")
    page.locator("#after").focus()
    for key in (*["ArrowRight"] * 6, " "):
        page.keyboard.press(key)
    assert foreground(page) < 49
    page.click("#keep")
    page.locator("#kept").wait_for()
    assert "1 pair is kept" in page.inner_text("#kept")
    [mask], [kept] = ((tmp_path / "kept" / side).glob("*.png") for side in ("masks", "images"))
    assert np.array_equal(np.asarray(Image.open(kept)), image)
    white = np.asarray(Image.open(mask))
    assert set(np.unique(white)) == {0, 255}
    assert (image[..., 0][white == 0] > 127).any()  # what was taken away
    assert not white[image[..., 0] <= 127].any()
    drop(page, {"b.png": encoded(red(64, 80, 8))})
    page.keyboard.press("PageDown")
    page.wait_for_timeout(100)
    page.click("#keep")
    page.locator("#kept", has_text="2 pairs").wait_for()
    summary = train_run(tmp_path / "run", **{"data.train": str(tmp_path / "kept"), "training.steps": 2})
    assert summary.steps == 2


def test_the_divider_the_views_and_the_card_work_by_keys(page: Any) -> None:
    drop(page, {"a.png": encoded(red(64, 96, 1))})
    page.locator("#divider").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#divider", "aria-valuenow") == "52"
    page.keyboard.press("Home")
    assert page.get_attribute("#divider", "aria-valuenow") == "0"
    box = page.locator("#divider").bounding_box()
    frame = page.locator("#frame").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 0.75, box["y"] + 20, steps=3)
    page.mouse.up()
    assert page.get_attribute("#divider", "aria-valuenow") == "75"
    page.keyboard.press("4")
    assert page.locator("input[value=cutout]").is_checked()
    page.locator("#about").focus()
    page.keyboard.press("Enter")
    assert "a red thing" in page.inner_text("#card")
    assert "0.250" in page.inner_text("#card")
    page.keyboard.press("Escape")
    assert not page.locator("#card").is_visible()
    page.select_option("#model", "other")
    page.locator("#strip button.ready").wait_for()


def test_what_the_model_sees_and_prompts_are_on_the_page(browser: Any, tmp_path: Path) -> None:
    config, entry = tiny().config, registry().find_task("shadow")
    path, network = tmp_path / "net" / "best.safetensors", build_network(config)
    write_checkpoint(path, network.state_dict(), describe(config, network, entry, entry.get().pairs()))
    models = load_all([str(path)], device="cpu", prediction={})
    judge = open_judge(models, {"clip_model": write_model(tmp_path / "clip"), "clip_weights": "random"}, "cpu")
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    with running(Service(models, Limits(), judge=judge)) as (address, _):
        page.goto(f"http://{address}/")
        page.set_default_timeout(20_000)
        drop(page, {"a.png": encoded(red(60, 90, 1)), "b.png": encoded(red(60, 90, 2))})
        page.keyboard.press("6")
        page.locator("#inside img").first.wait_for()
        expected = [heading for heading, _ in rows(models[0].model.explain(red(60, 90, 1)))]
        assert page.locator("#inside h3").all_inner_texts() == expected
        first = page.locator("#inside img").first.get_attribute("src")
        assert page.evaluate("[...document.querySelectorAll('#inside img')].every(image => image.naturalWidth > 0)")
        assert page.locator("#download").is_disabled()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.keyboard.press("PageDown")
        page.wait_for_function(
            "before => document.querySelector('#inside img') && document.querySelector('#inside img').src !== before", arg=first
        )
        page.keyboard.press("1")
        page.locator("#inside").wait_for(state="hidden")
        page.click("#brush-add")  # half of the image, so that there are two sides
        page.locator("#size").fill("20")
        page.locator("#after").focus()
        page.keyboard.press(" ")
        page.click("#brush-take")
        page.locator("#after").focus()
        for key in (*["ArrowRight"] * 5, " "):
            page.keyboard.press(key)
        page.fill("#prompt-foreground", "a red thing")
        page.click("#judge")
        page.locator("#trouble p", has_text="pair").wait_for()  # one sentence is none
        page.fill("#prompt-background", "the rest")
        page.keyboard.press("Enter")
        page.locator("#judged li", has_text="a red thing").wait_for()
        assert "Yours." in page.inner_text("#judged")
        page.keyboard.press("Tab")
        page.locator("#strip button").first.click()
        page.locator("#judged").wait_for(state="hidden")
    context.close()
    assert troubles == []


def test_what_a_browser_cannot_show_is_shown_and_what_is_no_image_is_told(page: Any) -> None:
    drop(page, {"a.tif": encoded(red(64, 96, 1), "TIFF"), "b.png": b"nonsense"})
    assert page.locator("#strip button.ready").count() == 1
    assert foreground(page) == pytest.approx(50, abs=1)
    page.locator("#strip button.failed").click()
    page.locator("#note.bad").wait_for()
    assert "not an image" in page.inner_text("#note")
    assert page.locator("#download").is_disabled()


def test_a_phone_sees_all_of_it_and_a_token_is_asked_for(browser: Any) -> None:
    with running(service(model("red")), Access(token="t" * 20)) as (address, _):
        context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, color_scheme="dark")
        page = context.new_page()
        page.goto(f"http://{address}/")
        page.locator("#door").wait_for()
        page.fill("#token", "t" * 20)
        page.keyboard.press("Enter")
        page.locator("#model option").wait_for(state="attached")
        drop(page, {"a.png": encoded(red(90, 60, 1))})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 25)"
        footer, tools = page.locator("footer").bounding_box(), page.locator(".tools").bounding_box()
        assert footer["y"] >= tools["y"] + tools["height"] - 1
        assert page.locator("#keep").is_hidden()  # nothing is kept here
        page.goto(f"http://{address}/docs")
        page.locator("article").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        context.close()
