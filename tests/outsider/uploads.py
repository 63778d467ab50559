"""What strangers send to a service, made by rule: damaged images of every format, bombs, forms and requests that are wrong."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import pictures

GROUP = "uploads"
REFUSED = frozenset({400, 404, 405, 408, 413, 414, 415, 421, 422, 431})
OK, MAY = frozenset({200}), REFUSED | {200}
CUT = frozenset({0})
"""The connection is closed without an answer, to whom is no client of HTTP or has gone."""
ENDING = b"--B--\r\n"


@dataclass(frozen=True)
class Upload:
    """Bytes that are sent through a socket, and the statuses that may answer them."""

    what: str
    words: tuple[str, ...]
    """The request as the page shows it."""
    content: Callable[[], bytes]
    exits: frozenset[int]
    number: int = 0
    group: str = GROUP
    script = ""
    needs = "fastapi"
    heavy = False

    def __str__(self) -> str:
        return f"{self.what}: {' '.join(self.words)} {self.number}"


def complaints(upload: Upload, answer: bytes) -> list[str]:
    """What an answer has of what no answer may have."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0
    found = [] if status in upload.exits else [f"status {status}, expected {sorted(upload.exits)}"]
    if b"Traceback" in answer:
        found.append("a traceback")
    if status >= 400:
        try:
            told = json.loads(body)["error"]
        except (ValueError, KeyError, TypeError):
            return [*found, f"no error in JSON: {body[:200]!r}"]
        if "\n" in told or len(told) > 400:
            found.append(f"an error of {len(told)} characters or several lines")
    return found


def cases() -> Iterator[Upload]:
    for number, upload in enumerate((*_images(), *_bombs(), *_forms(), *_requests())):
        yield Upload(upload.what, upload.words, upload.content, upload.exits, number)


def _post(content: bytes, path: str = "/v1/predict", head: str = "", length: object = None) -> bytes:
    size = len(content) if length is None else length
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\nConnection: close\r\n{head}\r\n".encode("latin-1") + content
    )


def _body(what: str, content: Callable[[], bytes], exits: frozenset[int] = REFUSED, path: str = "/v1/predict") -> Upload:
    return Upload(what, ("POST", path), lambda: _post(content(), path), exits)


def _pair(what: str, image: Callable[[], bytes], mask: Callable[[], bytes], exits: frozenset[int] = REFUSED) -> Upload:
    def content() -> bytes:
        return _form(_part("image", image()) + _part("mask", mask()) + ENDING, "/v1/pairs")

    return Upload(what, ("POST", "/v1/pairs"), content, exits)


def _form(content: bytes, path: str = "/v1/predict", kind: str = "multipart/form-data; boundary=B") -> bytes:
    return _post(content, path, f"Content-Type: {kind}\r\n")


def _part(name: str, content: bytes, told: str = "", filename: str = "a.png") -> bytes:
    told = told or f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
    return b"--B\r\n" + told.encode("latin-1") + b"\r\n\r\n" + content + b"\r\n"


def image(form: str = "PNG", **options: Any) -> bytes:
    """Noise of 48 x 64 in a format."""
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(content, form, **options)
    return content.getvalue()


def _mask() -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.where(np.arange(64) < 20, 255, 0).astype(np.uint8)[None].repeat(48, 0)).save(content, "PNG")
    return content.getvalue()


def _written(spoil: pictures.Spoil) -> Callable[[], bytes]:
    def content() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            spoil(Path(folder) / "1.png")
            return (Path(folder) / "1.png").read_bytes()

    return content


FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")


def _images() -> Iterator[Upload]:
    for what, spoil, exits in (*pictures._broken(), *pictures._unusual()):
        if any(word in what for word in ("link", "pipe", "folder")):
            continue  # nothing that is sent
        content = _written(spoil)
        right = exits == pictures.OK
        for path in ("/v1/predict", "/v1/read", "/v1/predict?form=rle"):
            yield _body(f"an image that is {what}", content, OK if right else REFUSED, path)
        yield _pair(f"an image that is {what}", content, _mask, MAY)
        yield _pair(f"a mask that is {what}", image, content, MAY)
    for form in FORMATS:
        yield _body("an image of every format", lambda form=form: image(form), OK)
        for share in (0.02, 0.2, 0.5, 0.9, 0.99):
            yield _body("an image that is cut short", lambda form=form, share=share: (whole := image(form))[: int(len(whole) * share)], MAY)
        for share in (0.0, 0.01, 0.03, 0.1, 0.4, 0.8):

            def damaged(form: str = form, share: float = share) -> bytes:
                whole = image(form)
                place = int(len(whole) * share)
                return whole[:place] + bytes(255 - byte for byte in whole[place : place + 24]) + whole[place + 24 :]

            yield _body("an image that is damaged inside", damaged, MAY)
    yield _body("an empty body", lambda: b"")


def _bombs() -> Iterator[Upload]:
    """Small files that say to be large, or become so."""
    png = pictures._png(64, 64)

    def patched(form: str, place: int, values: str, *sizes: int) -> bytes:
        whole = bytearray(image(form))
        struct.pack_into(values, whole, place, *sizes)
        return bytes(whole)

    def jpeg() -> bytes:
        whole = image("JPEG")
        place = whole.index(b"\xff\xc0") + 5
        return whole[:place] + b"\xff\xff\xff\xff" + whole[place + 4 :]

    def chunked(kind: bytes, content: bytes) -> bytes:
        return png[:33] + pictures._chunk(kind, content) + png[33:]

    def tiff(*tags: tuple[int, int, int, int], after: int = 0) -> bytes:
        """A TIFF of little-endian tags (number, type, count, value) and an offset of the next directory."""
        return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", after)

    size = ((256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 0), (279, 4, 1, 4096))
    bombs: tuple[Callable[[], bytes], ...] = (
        lambda: pictures._claim(png, 40_000, 40_000), lambda: pictures._claim(png, 1 << 31, 1), lambda: pictures._claim(png, 1 << 30, 1 << 30), jpeg,
        lambda: patched("GIF", 6, "<HH", 65535, 65535), lambda: patched("BMP", 18, "<ii", 1 << 30, 1 << 30), lambda: patched("BMP", 18, "<ii", -1, -(1 << 31)),
        lambda: b"P6 999999999 999999999 255\n" + bytes(100), lambda: b"P5 1 99999999999999999999999 255\n" + bytes(100), lambda: b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 99999 +X 99999\n" + bytes(100),
        lambda: b"#?RADIANCE\n\n" + b"-Y 8 +X 8\n" * 500, lambda: tiff((256, 4, 1, 1 << 31), *size[1:]), lambda: tiff(*size, after=8), lambda: tiff(*size[:5], (273, 4, 1 << 30, 8), size[6]),
        lambda: tiff((256, 4, 1 << 31, 8)), lambda: tiff(), lambda: tiff(*size, after=1 << 31),
    )  # fmt: skip
    for bomb in bombs:
        yield _body("an image that says to be immense", bomb)
        yield _pair("an image that says to be immense", bomb, _mask)
        yield _pair("a mask that says to be immense", image, bomb)
    blown = zlib.compress(bytes(30_000_000), 9)
    for kind, content in ((b"zTXt", b"a\0\0" + blown), (b"iTXt", b"a\0\1\0\0\0" + blown), (b"iCCP", b"a\0\0" + blown), (b"eXIf", b"II*\0" + b"\xff" * 60_000), (b"acTL", b"\xff" * 8)):  # fmt: skip
        yield _body("an image with a bomb beside its pixels", lambda kind=kind, content=content: chunked(kind, content), MAY)
    yield _body(
        "an image whose pixels go on for ever", lambda: png[:33] + pictures._chunk(b"IDAT", blown) + pictures._chunk(b"IEND", b""), MAY
    )


def _forms() -> Iterator[Upload]:
    good = image()

    def form(what: str, content: Callable[[], bytes], exits: frozenset[int] = REFUSED, **told: str) -> Upload:
        return Upload(what, ("POST", "/v1/predict"), lambda: _form(content(), **told), exits)

    for kind in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=C", f"multipart/form-data; boundary={'x' * 5000}", "multipart/", "multipart/mixed; boundary=B",
                 "MULTIPART/FORM-DATA; boundary=B", 'multipart/form-data; boundary="B"', "multipart/form-data; boundary=B; charset=utf-77", "multipart/form-data; boundary=\xe4"):  # fmt: skip
        yield form("a form of another kind", lambda: _part("image", good) + ENDING, MAY, kind=kind)
    for content in (b"", b"--B", b"--B--", b"--B\r\n", b"--B\r\n\r\n", b"--B\r\n\r\n\r\n--B--\r\n", b"nonsense", b"--B\n--B--", _part("image", good), _part("image", good)[:-40], _part("image", good) + b"--B", b"\r\n" * 5000,
                    b"--B\r\n" * 3000, _part("image", good) + ENDING + b"more" * 1000, b"preamble\r\n" + _part("image", good) + ENDING):  # fmt: skip
        yield form("a form that is cut short or wrong", lambda content=content: content, MAY)
    for told in ("", "Content-Disposition", "Content-Disposition: form-data", 'Content-Disposition: form-data; name="image"', 'Content-Disposition: form-data; filename="a.png"', 'Content-Disposition: attachment; name="image"; filename="a.png"',
                 "Content-Disposition: form-data; name=image; filename=a.png", 'Content-Disposition: form-data; name="image', "X: " + "y" * 100_000, "\r\n".join(f"X{n}: y" for n in range(2000)), ": x", "\x00: \x00",
                 'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Transfer-Encoding: base64', 'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: text/html; charset=nonsense'):  # fmt: skip
        yield form("a form whose part has a wrong head", lambda told=told: _part("image", good, told or " ") + ENDING, MAY)
    for filename in (
        "../../etc/passwd",
        "C:\\\\x\\\\y.png",
        "",
        " ",
        "a" * 60_000,
        "\x01\x02",
        "\xe4\xf6.png",
        "<script>",
        "a.png; name=mask",
        "%00",
        "/dev/zero",
        "CON",
        "." * 300,
    ):
        yield form("a file with an odd name", lambda filename=filename: _part("image", good, filename=filename) + ENDING, MAY)
        yield form(
            "a file with an odd name that is no image", lambda filename=filename: _part("image", b"text", filename=filename) + ENDING
        )
    for name in ("", "mask", "picture", "image[]", "IMAGE", "images\x00", "x" * 10_000):
        yield form("a part of another name", lambda name=name: _part(name, good) + ENDING, MAY)
    for count in (3, 4, 5, 50, 500):
        yield form("many files", lambda count=count: _part("image", good) * count + ENDING, MAY)
        yield form(
            "many fields",
            lambda count=count: b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n' * count + _part("image", good) + ENDING,
            MAY,
        )
    yield form(
        "a field that is large", lambda: b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + b"y" * 100_000 + b"\r\n" + ENDING
    )
    yield _pair("an image and a mask of two sizes", lambda: pictures._png(60, 60), _mask)
    yield Upload("a pair of one part", ("POST", "/v1/pairs"), lambda: _form(_part("image", good) + ENDING, "/v1/pairs"), REFUSED)
    yield Upload("a pair of two images", ("POST", "/v1/pairs"), lambda: _form(_part("image", good) * 2 + ENDING, "/v1/pairs"), REFUSED)


def _requests() -> Iterator[Upload]:
    good = image()

    def raw(what: str, content: bytes, exits: frozenset[int] = REFUSED | CUT) -> Upload:
        return Upload(what, ("POST", "/v1/predict"), lambda: content, exits)

    for length in (
        0,
        1,
        len(good) - 1,
        len(good) + 1,
        1 << 20,
        1 << 40,
        "9" * 30,
        "9" * 5000,
        "-1",
        "abc",
        "",
        "1e3",
        "0x10",
        " ",
        "1, 2",
        "\xb2",
        "+5",
    ):
        yield raw("a length that is not that of the body", _post(good, length=length), MAY | CUT)
    yield raw("two lengths", _post(good, head="Content-Length: 7\r\n"))
    for chunks in (b"", b"0", b"ZZ\r\n", b"-1\r\n", b"FFFFFFFFFFFFFFFFFFFFFFFF\r\n", b"5\r\nab\r\n0\r\n\r\n", b"1;" + b"x" * 100_000 + b"\r\na\r\n", b"0\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"7FFFFFFF\r\n" + b"x" * 1000,
                   b"1\r\na\r\n" * 5000 + b"0\r\n\r\n"):  # fmt: skip
        head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        yield raw("a body in wrong chunks", head + chunks)
    for coding in ("gzip", "chunked, gzip", "nonsense", "identity"):
        yield raw("a body in another coding", _post(gzip.compress(good), head=f"Content-Encoding: {coding}\r\n"))
        yield raw(
            "a body in another coding",
            f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {coding}\r\nConnection: close\r\n\r\n".encode() + good,
        )
    for head in ("", "Host: \r\n", "Host: elsewhere.org\r\n", "Host: localhost\r\nHost: localhost\r\n", "Host: localhost:99999999\r\n", "Host: \xff\r\n", f"Host: {'x' * 70_000}\r\n", "Host: localhost\r\nOrigin: https://elsewhere.org\r\n",
                 "Host: localhost\r\nX-Request-ID: <script>\r\n", "Host: localhost\r\nExpect: 200-ok\r\n", "Host: localhost\r\nUpgrade: websocket\r\n", "Host: localhost\r\n folded: x\r\n", "Host: localhost\r\nRange: bytes=0-\r\n"):  # fmt: skip
        yield raw(
            "a head that is wrong or foreign",
            f"GET /v1/models HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode("latin-1"),
            MAY | CUT | {403},
        )
    for line in ("GET /", "GET / HTTP/0.9", "GET / HTTP/9.9", "PRI * HTTP/2.0", "CONNECT localhost:1 HTTP/1.1", "TRACE / HTTP/1.1", "DELETE /v1/predict HTTP/1.1", "PUT /v1/pairs HTTP/1.1", "get / HTTP/1.1", "\x16\x03\x01", "GET http://elsewhere.org/ HTTP/1.1",
                 "GET /../../etc/passwd HTTP/1.1", "GET /static/..%2f..%2fapp.py HTTP/1.1", "GET /static/%00 HTTP/1.1", f"GET /{'x' * 70_000} HTTP/1.1", "GET /v1/none HTTP/1.1", "GET /%ff%fe HTTP/1.1", "GET //v1//predict HTTP/1.1", "OPTIONS * HTTP/1.1", "GET /docs HTTP/1.1"):  # fmt: skip
        yield raw("a request that is none of ours", f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("latin-1"), MAY | CUT)
    for query in ("form=nonsense", "form=", "format=nonsense", "format=npy", "form=rle&format=png", "threshold=abc", "threshold=nan", "threshold=inf", "threshold=-1", "threshold=1", "threshold=0", "threshold=1e999", "model=nonsense", "model=" + "x" * 500,
                  "model=%00", "model=..%2f..", "model=%0a%0d", "form=probability&format=webp", "threshold=" + "9" * 500, "threshold=0.5&threshold=abc"):  # fmt: skip
        yield Upload(
            "a wrong query", ("POST", f"/v1/predict?{query[:60]}"), lambda query=query: _post(good, f"/v1/predict?{query}"), REFUSED
        )
    for query in ("number=-1", "number=abc", "number=1e30", "number=" + "9" * 500, "model=nonsense"):
        yield Upload(
            "a wrong query",
            ("GET", f"/v1/example?{query[:60]}"),
            lambda query=query: f"GET /v1/example?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(),
            REFUSED,
        )
    for path in ("/v1/prompts", "/v1/explain?format=nonsense", "/v1/predict/", "/healthz"):
        yield _body("a request that is none of ours", lambda: good, MAY | {307}, path)
