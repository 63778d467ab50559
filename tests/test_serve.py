"""The routes of ``focus serve``, with a model that is known, and the bytes of ``focus predict``."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("fastapi", reason="the extra serve is not installed")
from fastapi.testclient import TestClient
from support.clip import write_model
from support.serve import RedModel, picture, served, service
from support.training import tiny

from focus_framework import ConfigError, Prompts, load
from focus_framework.checkpoint import describe, write_checkpoint
from focus_framework.data.pairs import find_pairs
from focus_framework.deploy.serve.app import create_app
from focus_framework.deploy.serve.collection import collecting
from focus_framework.deploy.serve.forms import png
from focus_framework.deploy.serve.judging import open_judge
from focus_framework.deploy.serve.models import card, load_all, names_of
from focus_framework.deploy.serve.service import Service
from focus_framework.deploy.serve.settings import Access, Limits, access_for, read_token
from focus_framework.deploy.serve.worker import Worker
from focus_framework.errors import DeviceError, WeightsError
from focus_framework.evaluation.prompts import score_pairs
from focus_framework.inference.explain.views import rows
from focus_framework.inference.many.listing import Listing
from focus_framework.inference.many.predicting import write_predictions
from focus_framework.model.build import build_network
from focus_framework.plugin.registry import registry


def client_of(made: Any, access: Access = Access(), **headers: str) -> TestClient:  # noqa: B008 - it is frozen
    return TestClient(create_app(made, access), base_url="http://localhost:8000", headers=headers, raise_server_exceptions=False)


@pytest.fixture
def client() -> Iterator[TestClient]:
    made = service(served(), served("second"), body=200_000, pixels=50_000, images=3)
    yield client_of(made)
    made.close()


def form(*contents: bytes, name: str = "image") -> list[tuple[str, tuple[str, bytes]]]:
    return [(name, (f"{number}.png", content)) for number, content in enumerate(contents)]


def opened(content: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config, entry = tiny().config, registry().find_task("shadow")
    path = tmp_path_factory.mktemp("serve") / "run" / "best.safetensors"
    write_checkpoint(path, build_network(config).state_dict(), describe(config, build_network(config), entry, entry.get().pairs()))
    return path


def test_masks_have_the_bytes_that_predict_writes(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    contents = [picture(40 + 9 * number, 64, "JPEG", number) for number in range(3)]
    for number, content in enumerate(contents):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(content)
    forms = ["mask", "binary", "cutout", "overlay"]
    write_predictions(load(checkpoint, device="cpu"), Listing([tmp_path / "in"]), tmp_path / "out", forms=forms, batch_size=1)
    made = service(*load_all([str(checkpoint)], device="cpu", prediction={}))
    client = client_of(made)
    for number, content in enumerate(contents):
        for wanted in forms:
            answer = client.post("/v1/predict", params={"form": wanted}, content=content, headers={"Content-Type": "image/jpeg"})
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "image/png"
            assert answer.headers["x-focus-model"] == "run"  # best.safetensors alone would say little
            assert answer.content == (tmp_path / "out" / wanted / f"{number}.png").read_bytes()
    made.close()


def test_every_form_comes_as_it_should(client: TestClient) -> None:
    red = opened(picture())[..., 0]
    assert np.array_equal(opened(client.post("/v1/predict?form=mask", content=picture()).content), red)
    webp = client.post("/v1/predict?form=binary&format=webp", content=picture())
    assert webp.headers["content-type"] == "image/webp"
    assert np.array_equal(opened(webp.content)[..., 0] > 127, red > 127)
    exact = np.load(io.BytesIO(client.post("/v1/predict?form=probability&format=npy", content=picture()).content))
    assert exact.dtype == np.float32
    assert np.array_equal(exact, (red / 255).astype(np.float32))
    sixteen = opened(client.post("/v1/predict?form=probability", content=picture()).content)
    assert np.array_equal(sixteen, np.rint(red / 255 * 65535))
    lengths = client.post("/v1/predict?form=rle", content=picture()).json()["results"][0]["rle"]
    values = [index % 2 == 1 for index, run in enumerate(lengths["counts"]) for _ in range(run)]
    assert np.array_equal(np.reshape(values, lengths["size"][::-1]).T, red > 127)
    low = client.post("/v1/predict?form=binary&threshold=0.1", content=picture())
    assert np.array_equal(opened(low.content) > 0, red / 255 > 0.1)


def test_several_images_come_as_json_and_a_bad_one_spoils_no_other(client: TestClient) -> None:
    answer = client.post("/v1/predict", params={"model": "second"}, files=form(picture(), b"nonsense", picture(30, 22)))
    assert answer.status_code == 200
    assert answer.json()["model"] == "second"
    first, bad, last = answer.json()["results"]
    assert (first["name"], first["width"], first["height"], first["media_type"]) == ("0.png", 30, 20, "image/png")
    assert np.array_equal(opened(base64.b64decode(first["data"])), opened(picture())[..., 0])
    assert (last["width"], last["height"]) == (22, 30)
    assert bad["status"] == 415
    assert "1.png is not an image" in bad["error"]


HOSTILE = {
    "nothing": (b"", 400),
    "no image": (b"nonsense", 415),
    "a truncated image": (picture()[:200], 422),
    "the beginning of a PNG": (picture()[:8], 415),
    "too many pixels": (picture(300, 200), 413),
    "too many bytes": (bytes(200_001), 413),
    "a page": (b"<html></html>", 415),
    "a drawing": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
    "a program for a printer": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", 415),
    "Radiance of immense size": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 999999 +X 999999\n", 413),
    "Radiance of no size": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n", 415),
    "Radiance cut off": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 20 +X 20\n", 422),
    "a pickle": (b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01x\x94.", 415),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_fit_image_is_answered_in_one_line(client: TestClient, what: str) -> None:
    content, status = HOSTILE[what]
    answer = client.post("/v1/predict", content=content)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert "\n" not in answer.text
    assert client.post("/v1/predict", content=picture()).status_code == 200


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it has 10,000 million pixels."""
    whole = picture()
    return whole[:16] + (100_000).to_bytes(4, "big") * 2 + whole[24:]


def test_a_bomb_is_refused_by_its_header(client: TestClient) -> None:
    begin = time.monotonic()
    assert client.post("/v1/predict", content=bomb()).status_code in (413, 415)  # 415: its checksum is wrong, says Pillow
    assert time.monotonic() - begin < 2


def test_wrong_calls_are_told_what_is_wrong(client: TestClient) -> None:
    for query, told in {
        "form=nonsense": "form", "format=nonsense": "format", "threshold=7": "threshold", "threshold=nan": "threshold",
        "model=third": "third",
        "form=rle&format=png": "json", "form=mask&format=npy": "npy", "form=probability&format=webp": "webp",
    }.items():  # fmt: skip
        answer = client.post(f"/v1/predict?{query}", content=picture())
        assert answer.status_code in (400, 404)
        assert told in answer.json()["error"]
    assert client.post("/v1/predict?format=png", files=form(picture(), picture())).status_code == 400
    assert client.post("/v1/predict", files=form(*[picture()] * 4)).status_code == 400
    assert client.post("/v1/predict", files=form(picture(), name="file")).json()["error"].startswith("a part is named 'file'")
    broken = client.post("/v1/predict", content=b"--x", headers={"Content-Type": "multipart/form-data"})
    assert (broken.status_code, "form" in broken.json()["error"]) == (400, True)
    assert client.get("/v1/predict").status_code == 405
    assert client.get("/../../etc/passwd").status_code == 404
    assert client.get("/static/..%2f..%2fapp.py").status_code == 404


def test_a_name_is_a_word_and_never_a_path(client: TestClient) -> None:
    sent = [("image", (name, picture())) for name in ("../../etc/passwd", "C:\\x\\y.png", "a\nb\x07.png")]
    names = [row["name"] for row in client.post("/v1/predict", files=sent).json()["results"]]
    assert names[:2] == ["passwd", "y.png"]
    assert all(sign.isprintable() for sign in names[2])


def test_models_are_told_with_their_cards(client: TestClient, checkpoint: Path) -> None:
    told = client.get("/v1/models").json()
    assert [model["name"] for model in told["models"]] == ["red", "second"]
    assert told["limits"] == {"body": 200_000, "pixels": 50_000, "images": 3, "seconds": 60.0}
    shown = card("x", load(checkpoint, device="cpu"))
    assert shown["task"] == "shadow"
    assert shown["prompts"][0]["foreground"]
    assert "Parameters" in shown["facts"]
    assert str(checkpoint.parent) not in json.dumps(shown)


def test_a_task_that_draws_images_gives_one_to_try() -> None:
    shadow = SimpleNamespace(task="shadow")
    made = service(served("shadow", shadow), served())
    client = client_of(made)
    first = client.get("/v1/example?number=1")
    assert opened(first.content).shape == (384, 384, 3)
    assert first.content == client.get("/v1/example?number=1").content
    assert first.content != client.get("/v1/example?number=2").content
    assert client.get("/v1/example?model=red").status_code == 404
    made.close()


def test_names_say_what_a_model_is() -> None:
    given = ["starter-shadow", "hf://owner/name@main", "runs/shadow/best.safetensors", "a/x.safetensors", "b/x.safetensors", "ö ö.pth"]
    assert names_of(given) == ["starter-shadow", "name", "shadow", "x", "x-2", "model"]


def test_health_is_told_and_numbers_are_counted(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 200
    client.post("/v1/predict", content=picture())
    client.get("/" + "x" * 50)
    text = client.get("/metrics").text
    assert 'focus_requests_total{method="POST",route="/v1/predict",status="200"} 1.0' in text
    assert 'focus_images_total{model="red"} 1.0' in text
    assert "xxxx" not in text


def test_the_interface_describes_itself(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    versioned = {f"/v1/{name}" for name in ("predict", "explain", "read", "models", "pairs", "prompts", "example")}
    assert set(described["paths"]) == {*versioned, "/healthz", "/readyz", "/metrics"}
    assert "multipart/form-data" in described["paths"]["/v1/predict"]["post"]["requestBody"]["content"]


def test_every_answer_forbids_what_is_not_needed(client: TestClient) -> None:
    for answer in (client.get("/"), client.get("/nothing"), client.post("/v1/predict", content=b"x")):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers


def test_a_request_is_found_in_the_log(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "focus_framework"):
        asked = client.post("/v1/predict", content=picture(), headers={"X-Request-ID": "mine-7"})
        own = client.get("/healthz", headers={"X-Request-ID": "not\tfit"})
    assert asked.headers["x-request-id"] == "mine-7"
    assert any(line.startswith("mine-7 ") and "POST /v1/predict 200" in line for line in caplog.messages)
    assert any(line.startswith(own.headers["x-request-id"]) for line in caplog.messages)
    assert own.headers["x-request-id"] != "not\tfit"


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:9", 200), ("evil.example", 421), ("localhost.evil.example", 421), ("", 421)],
)
def test_only_names_of_this_service_are_answered(client: TestClient, host: str, status: int) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == status


def test_pages_of_others_cannot_call_unless_they_are_named() -> None:
    made = service()
    for origin, access, status in (
        ("http://localhost:8000", Access(), 200),
        ("https://evil.example", Access(), 403),
        ("null", Access(), 403),
        ("http://localhost:8001", Access(), 403),
        ("https://good.example", Access(origins=frozenset({"https://good.example"})), 200),
    ):
        answer = client_of(made, access, Origin=origin).post("/v1/predict", content=picture())
        assert answer.status_code == status, origin
        assert answer.headers.get("access-control-allow-origin") == (origin if "good" in origin else None)
    made.close()


def test_a_token_opens_all_but_the_page() -> None:
    made, access = service(), Access(token="x" * 20)
    closed = client_of(made, access)
    assert [closed.get(path).status_code for path in ("/static/icon.svg", "/healthz", "/readyz", "/v1/models", "/metrics")] == [
        200,
        200,
        200,
        401,
        401,
    ]
    wrong = closed.post("/v1/predict", content=picture(), headers={"Authorization": "Bearer " + "y" * 20})
    assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, "Bearer")
    assert client_of(made, access, Authorization="Bearer " + "x" * 20).post("/v1/predict", content=picture()).status_code == 200
    made.close()


def test_others_are_let_in_only_where_it_was_said(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "name.example"):
        with pytest.raises(ConfigError, match="--token-file"):
            access_for(host, "", no_auth=False)
        assert access_for(host, "", no_auth=True).token == ""
    assert access_for("127.0.0.1", "", no_auth=False) == access_for("127.0.0.1", "", no_auth=True)
    (tmp_path / "short").write_text("secret\n")
    with pytest.raises(ConfigError, match="16 letters"):
        read_token(tmp_path / "short")
    assert read_token(None, {"FOCUS_SERVE_TOKEN": "y" * 16}) == "y" * 16
    with pytest.raises(ConfigError, match="no origin"):
        access_for("localhost", "", no_auth=False, origins=["*"])


def test_pairs_become_what_training_reads(tmp_path: Path) -> None:
    with collecting(tmp_path / "kept") as collection:
        made = service(collection=collection)
        client = client_of(made)
        mask = np.zeros((20, 30), np.uint8)
        mask[3:9, 5:11] = 255
        content = io.BytesIO()
        Image.fromarray(mask).save(content, "PNG")
        files = {"image": ("../x.png", picture()), "mask": ("m.png", content.getvalue())}
        answer = client.post("/v1/pairs", files=files)
        assert (answer.status_code, answer.json()["collected"]) == (201, 1)
        assert client.post("/v1/pairs", files=files).json() == answer.json()  # the same image again
        other = client.post("/v1/pairs", files={**files, "image": ("x", picture(21, 30))})
        assert (other.status_code, "30 x 20" in other.json()["error"]) == (422, True)
        assert client.post("/v1/pairs", files=form(picture())).status_code == 400
        assert client.get("/v1/models").json()["collected"] == 1
        made.close()
    [pair] = find_pairs(str(tmp_path / "kept"), task=None, root=None)
    assert np.array_equal(np.asarray(Image.open(pair.image)), opened(picture()))
    assert np.array_equal(np.asarray(Image.open(pair.mask)), mask)
    with collecting(tmp_path / "kept") as again:
        assert again is not None
        assert len(again) == 1
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "letter.txt").touch()
    with pytest.raises(ConfigError, match="holds other files"), collecting(tmp_path / "theirs"):
        pass


def test_what_a_model_sees_is_told_as_explain_shows_it(checkpoint: Path) -> None:
    made = service(*load_all([str(checkpoint)], device="cpu", prediction={}))
    client, content = client_of(made), picture(40, 64)
    explanation = load(checkpoint, device="cpu").explain(content)
    told = client.post("/v1/explain", content=content).json()["rows"]
    expected = rows(explanation)
    assert [row["heading"] for row in told] == [heading for heading, _ in expected]
    for row, (_, images) in zip(told, expected, strict=True):
        assert [one["caption"] for one in row["images"]] == [caption for caption, _ in images]
        for one, (_, image) in zip(row["images"], images, strict=True):
            assert np.array_equal(opened(base64.b64decode(one["data"])), image)
    sheet = client.post("/v1/explain?format=png", content=content)
    assert np.array_equal(opened(sheet.content), np.asarray(explanation.sheet()))
    assert client.post("/v1/explain", content=b"no image").status_code == 415
    made.close()


def test_explanations_and_predictions_wait_for_each_other_and_both_come() -> None:
    entered, go = threading.Event(), threading.Event()

    def hold(images: Any) -> None:
        entered.set()
        go.wait(10)

    model = RedModel(before=hold)
    worker = Worker(model, name="red", batch=8, pixels=10**6, on_batch=lambda images, seconds: None)  # type: ignore[arg-type]
    image = np.zeros((4, 4, 3), np.uint8)
    first = worker.submit(image)
    assert entered.wait(10)  # the others come while it is at work
    waiting = [worker.submit(image), worker.submit(image), worker.apply(lambda model, image: threading.current_thread().name, image)]
    waiting += [worker.submit(image), worker.apply(lambda model, image: 1 / 0, image), worker.submit(image)]
    go.set()
    assert waiting[2].result(10) == "model red"
    assert isinstance(waiting[4].exception(10), ZeroDivisionError)
    assert all(one.result(10).mask.shape == (4, 4) for one in (first, *waiting[:2], waiting[3], waiting[5]))
    assert model.batches == [1, 2, 1, 1]
    worker.close()


def test_prompts_are_compared_on_an_image_and_its_mask(checkpoint: Path, tmp_path: Path) -> None:
    models = load_all([str(checkpoint)], device="cpu", prediction={})
    options = {"refiner": None, "clip_model": write_model(tmp_path / "clip"), "clip_weights": "random"}
    judge = open_judge(models, options, "cpu")
    assert judge is not None
    assert open_judge(models, dict.fromkeys(options), "cpu") is None
    made = Service(models, Limits(), judge=judge)
    client, image, mask = client_of(made), picture(40, 64), np.zeros((40, 64), np.uint8)
    mask[10:30, 20:40] = 255
    sent = {"image": image, "mask": png(mask).content}
    own = {"foreground": "a red thing", "background": "the rest of it"}
    pairs = client.post("/v1/prompts", params=own, files=sent).json()["pairs"]
    examples = [(torch.from_numpy(opened(image).copy()).permute(2, 0, 1) / 255, torch.from_numpy(mask > 0))]
    expected = score_pairs(judge, examples, [Prompts(own["foreground"], own["background"], source="yours")])
    [mine] = [pair for pair in pairs if pair["source"] == "yours"]
    assert mine == pytest.approx(expected[0].as_json())
    assert any(pair["source"] == "model run" for pair in pairs)
    assert client.get("/v1/models").json()["judges"]
    assert "pair" in client.post("/v1/prompts?foreground=a", files=sent).json()["error"]
    long = client.post("/v1/prompts", params={**own, "foreground": "a " * 140}, files=sent)
    assert (long.status_code, "at most 77" in long.json()["error"]) == (400, True)
    assert "empty" in client.post("/v1/prompts", files={**sent, "mask": png(mask * 0).content}).json()["error"]
    assert client.post("/v1/prompts", files={"image": image}).status_code == 400
    made.close()


def test_a_service_without_a_text_encoder_says_so(client: TestClient) -> None:
    assert not client.get("/v1/models").json()["judges"]
    refused = client.post("/v1/prompts", files={"image": picture(), "mask": picture()})
    assert (refused.status_code, "--clip-weights" in refused.json()["error"]) == (404, True)


def test_nothing_is_kept_where_nobody_asked_for_it(client: TestClient) -> None:
    answer = client.post("/v1/pairs", files={"image": ("x", picture()), "mask": ("m", picture())})
    assert (answer.status_code, "--collect" in answer.json()["error"]) == (404, True)


def test_images_that_wait_go_through_together_and_a_failing_one_fails_alone() -> None:
    first, go = threading.Event(), threading.Event()

    def before(images: Any) -> None:
        first.set()
        go.wait(10)
        if any(image.shape[1] == 31 for image in images):
            raise DeviceError("memory is too small")

    model = RedModel(before)
    made = service(served(model=model), batch=4)
    client, statuses = client_of(made), {}

    def post(number: int) -> None:
        statuses[number] = client.post("/v1/predict", content=picture(20, 31 if number == 2 else 30)).status_code

    threads = [threading.Thread(target=post, args=(number,)) for number in range(5)]
    threads[0].start()
    first.wait(10)
    for thread in threads[1:]:
        thread.start()
    while made._workers["red"].waiting < 4:
        time.sleep(0.01)
    go.set()
    for thread in threads:
        thread.join(10)
    assert statuses == {0: 200, 1: 200, 2: 503, 3: 200, 4: 200}
    assert model.batches[:2] == [1, 4]
    made.close()


def test_a_service_that_is_full_or_late_says_so() -> None:
    go = threading.Event()
    made = service(served(model=RedModel(lambda images: go.wait(10) and None)), waiting=2, seconds=0.6)
    client, answers = client_of(made), []
    threads = [threading.Thread(target=lambda: answers.append(client.post("/v1/predict", content=picture()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    while made._requests < 2:
        time.sleep(0.01)
    full = client.post("/v1/predict", content=picture())
    assert (full.status_code, int(full.headers["retry-after"]) >= 1) == (429, True)
    assert client.get("/healthz").status_code == 200
    for thread in threads:
        thread.join(10)
    assert [answer.status_code for answer in answers] == [503, 503]
    assert "0.6 seconds" in answers[0].json()["error"]
    waited = time.monotonic() + 8  # its batch began a little after the request, and the model is at it until then
    while client.get("/readyz").status_code != 503:
        assert time.monotonic() < waited
        time.sleep(0.02)
    go.set()
    made.close()


def test_an_error_of_ours_is_told_without_its_inside() -> None:
    def fail(images: Any) -> None:
        raise ZeroDivisionError("/secret/place")

    made = service(served(model=RedModel(fail)), served("second", RedModel(lambda images: _raise(WeightsError("gives NaN")))))
    answer = client_of(made).post("/v1/predict", content=picture())
    assert (answer.status_code, "secret" in answer.text) == (500, False)
    assert client_of(made).post("/v1/predict?model=second", content=picture()).status_code == 503
    made.close()


def _raise(error: Exception) -> None:
    raise error


def test_an_image_is_shown_as_a_model_reads_it(client: TestClient) -> None:
    content = io.BytesIO()
    Image.fromarray(opened(picture())).save(content, "TIFF")
    answer = client.post("/v1/read", content=content.getvalue())
    assert answer.headers["content-type"] == "image/png"
    assert np.array_equal(opened(answer.content), opened(picture()))
