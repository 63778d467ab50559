"""A hub on loopback that answers wrong, at each of the places where it is asked: while a checkpoint is fetched, and while one is shared."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat

from support.hub_server import Handler, HubServer

from .case import Case
from .checkpoints import FILE, _damage, _foreign, _weights

GROUP = "the hub"
NAME = "owner/odd"
KNOWN = "geshang/focus_large_sd"
"""Where the known checkpoint focus_large_sd is, whose checksum nobody states."""
OK, WRONG, MAY = frozenset({0}), frozenset({1, 2}), frozenset({0, 1, 2})
INSPECT = ("checkpoint", "inspect", f"hf://{NAME}", "--json")
FETCH = ("checkpoint", "fetch", "focus_large_sd", "--json")
PREDICT = ("predict", "@/one.png", "--checkpoint", f"hf://{NAME}", "--out", "out", "--json")
INIT = ("train", "--task-plugin", "shadow", "--init", f"hf://{NAME}", "--config", "@/tiny.toml", "--out", "run", "--json")
SERVE = ("serve", f"hf://{NAME}", "--port", "0", "--stop-after", "0", "--device", "cpu")
PUSH = ("checkpoint", "push", f"@/{FILE}", "owner/mine", "--no-images", "--json")
PLACES = {
    "info": r"GET /api/models/[^/]+/[^/]+(/revision/.+)?",
    "facts": "HEAD /.+/resolve/.+",
    "file": "GET /.+/resolve/.+",
    "create": "POST /api/repos/create",
    "preupload": "POST /api/models/.+/preupload/.+",
    "batch": r"POST /.+\.git/info/lfs/objects/batch",
    "put": "PUT /lfs/.+",
    "commit": "POST /api/models/.+/commit/.+",
}
PATIENCE = 60.0  # seconds that a hub may stay silent

Answer = Callable[[bytes], Iterable[bytes]]
"""What is sent, head and all, where the good checkpoint's content should be; then the connection is closed."""


@dataclass(frozen=True)
class Rule:
    """Which of `PLACES` answers wrong; every other answers as it should. Without a place none does."""

    place: str = ""
    answer: Answer = lambda content: ()


@dataclass
class WrongHub(HubServer):
    """One for all cases: of the address that a case is given, the first part is its number, by which its rule is found."""

    rules: dict[str, Rule] = field(default_factory=dict)

    def address(self, content: bytes, rule: Rule) -> str:
        for name in (NAME, KNOWN):
            self.add(name, {"model.safetensors": content})
        self.rules[number := str(len(self.rules))] = rule
        return f"{self.url}/{number}"

    def handler(self) -> type[Handler]:
        return _Wrong


class _Wrong(Handler):
    owner: WrongHub

    @property
    def base(self) -> str:
        return f"{self.owner.url}/{self.path.split('/')[1]}"

    @property
    def _path(self) -> str:
        return "/" + self.path.partition("?")[0].split("/", 2)[2]

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        rule = self.owner.rules[self.path.split("/")[1]]
        if not rule.place or not re.fullmatch(PLACES[rule.place], f"{self.command} {self._path}"):
            return True
        if length := int(self.headers.get("Content-Length") or 0):
            self.rfile.read(length)
        self.close_connection = True
        try:
            for piece in rule.answer(self.owner.repositories[NAME].files["model.safetensors"]):
                self.wfile.write(piece)
        except OSError:
            pass  # the client has had enough
        return False


def cases() -> Iterator[Case]:
    for call in (INSPECT, PREDICT, INIT, PUSH):
        yield _case("as it should be", Rule(), call, OK)
    for place in PLACES:
        for call in (PUSH,) if place in ("create", "preupload", "batch", "put", "commit") else (FETCH, INSPECT):
            yield from _refusals(place, call)
    yield from _told()
    yield from _sent()
    yield from _names()
    yield from _pushed()


def _case(what: str, rule: Rule, call: tuple[str, ...], exits: frozenset[int] = WRONG, limit: float = 60.0, heavy: bool = False) -> Case:
    named = {FETCH: ("focus_large_sd", KNOWN), PUSH: ("owner/mine",)}.get(call, (NAME, NAME.replace("/", "--")))
    return Case(GROUP, f"a hub {what}", call, named if exits == WRONG else (), exits, hub=rule, limit=limit, heavy=heavy)


def _http(status: int, body: bytes = b"", **headers: object) -> bytes:
    lines = [
        f"HTTP/1.1 {status} Odd",
        *(f"{name.replace('_', '-')}: {value}" for name, value in {"Content_Length": len(body), **headers}.items() if value is not None),
    ]
    return "\r\n".join((*lines, "Connection: close", "", "")).encode("latin-1") + body


def _json(value: object) -> bytes:
    return _http(200, json.dumps(value).encode(), Content_Type="application/json")


def _refusals(place: str, call: tuple[str, ...]) -> Iterator[Case]:
    """What is no answer, whatever was asked; where a checkpoint is inspected, the whole list of it."""
    share = 1 if call == INSPECT else 4
    for status in (401, 404, 500, 400, 403, 410, 418, 429, 502, 503)[:: 1 if call == INSPECT else 2]:
        slow = status in (429, 500, 502, 503)  # the client asks again
        for body in (b"", b"<!doctype html><html><body>odd</body></html>") if status in (401, 404, 500) else (b"{}",):
            exits = MAY if place == "create" and status in (401, 403) else WRONG  # the repository may be there already
            yield _case(
                f"that answers {status}", Rule(place, lambda _, status=status, body=body: [_http(status, body)]), call, exits, heavy=slow
            )
    places = [
        (301, "/"),
        (307, "/"),
        (308, "/"),
        *(
            (302, where)
            for where in ("../..", "", "file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "//[", "\x01", "http://127.0.0.1:9/x")
        ),
    ]
    for status, where in places[::share]:
        yield _case(
            "that leads elsewhere",
            Rule(place, lambda _, status=status, where=where: [_http(status, Location=where)]),
            call,
            heavy=":9" in where,
        )
    for raw in (b"", b"\0" * 200, b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 999 \r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
                b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello")[::share]:  # fmt: skip
        yield _case(
            "that speaks no HTTP",
            Rule(place, lambda _, raw=raw: [raw]),
            call,
            MAY if place in ("put", "facts") else WRONG,
            heavy=len(raw) < 4,
        )

    def silent(content: bytes) -> Iterator[bytes]:
        time.sleep(PATIENCE)
        yield b""

    if call != FETCH:
        yield _case("that never answers", Rule(place, silent), call, limit=300, heavy=True)


def _told() -> Iterator[Case]:
    """What the hub says of a repository and of a file."""
    good = {"id": NAME, "sha": "a" * 40, "siblings": [{"rfilename": "model.safetensors"}]}
    values: tuple[object, ...] = (None, [], 7, "x", {}, {**good, "siblings": None}, {**good, "siblings": []}, {**good, "siblings": 7}, {**good, "siblings": [7]}, {**good, "siblings": [{}]},
                                  {**good, "siblings": [{"rfilename": None}]}, {**good, "siblings": [{"rfilename": 7}]}, {**good, "siblings": [{"rfilename": "a.pth"}, {"rfilename": "b.pth"}]},
                                  {**good, "siblings": [{"rfilename": "README.md"}]}, {**good, "sha": 7}, {**good, "sha": []}, {"id": NAME}, {**good, "id": None}, {**good, "id": 7}, {**good, "private": "perhaps", "tags": 7, "cardData": 7})  # fmt: skip
    for value in values:
        for call in (INSPECT, PREDICT):
            yield _case("that says something else of a repository", Rule("info", lambda _, value=value: [_json(value)]), call, MAY)
    for text in (b"", b"{", b"[" * 100_000, b"<html></html>", b"\xff\xfe"):
        yield _case(
            "that says something else of a repository",
            Rule("info", lambda _, text=text: [_http(200, text, Content_Type="application/json")]),
            INSPECT,
        )
    right = {"ETag": '"x"', "X_Repo_Commit": "a" * 40, "Content_Length": 7}
    for wrong in ({"ETag": None}, {"ETag": '""'}, {"ETag": "../../x"}, {"ETag": "x" * 5000}, {"X_Repo_Commit": None}, {"X_Repo_Commit": "../.."}, {"Content_Length": None}, {"Content_Length": "abc"}, {"Content_Length": -7},
                  {"Content_Length": 0}, {"Content_Length": 1 << 60}, {"Content_Length": "9" * 300}, {"X_Linked_Size": "abc"}, {"X_Linked_Size": 1 << 60}, {"X_Linked_Etag": "../../x"}, {"X_Xet_Hash": "nonsense", "X_Xet_Refresh_Route": "/x"}):  # fmt: skip
        yield _case(
            "that says something else of a file", Rule("facts", lambda _, wrong=wrong: [_http(200, **{**right, **wrong})]), INSPECT, MAY
        )


def _sent() -> Iterator[Case]:
    """What comes in place of a file."""
    bodies: dict[str, Callable[[bytes], bytes]] = {
        "that sends a file cut short": lambda content: content[:-100],
        "that sends a file that is too long": lambda content: content + b"more",
        "that sends another file": lambda content: bytes(255 - byte for byte in content),
        "that sends nothing": lambda content: b"",
        "that sends a web page in place of a file": lambda content: b"<!doctype html><html></html>",
    }
    for what, change in bodies.items():
        for told in (True, False):  # whether it says how long that is, or how long the file should be
            for call in (FETCH, INSPECT, INIT, SERVE):

                def answer(content: bytes, change: Callable[[bytes], bytes] = change, told: bool = told) -> Iterator[bytes]:
                    body = change(content)
                    yield _http(200, Content_Length=len(body) if told else len(content))
                    yield body

                too_much = "too long" in what and not told  # is never read
                yield _case(what, Rule("file", answer), call, MAY if too_much else WRONG)
    endless = _http(200, Content_Length=None)
    yield _case("that never ends a file", Rule("file", lambda _: chain([endless], repeat(bytes(1 << 16)))), INSPECT)
    chunked = _http(200, Content_Length=None, Transfer_Encoding="chunked")
    yield _case(
        "that never ends a file", Rule("file", lambda _: chain([chunked], repeat(b"10000\r\n" + bytes(1 << 16) + b"\r\n"))), INSPECT
    )
    yield _case(
        "that sends a part that was not asked for",
        Rule("file", lambda content: [_http(206, content[100:], Content_Range=f"bytes 100-{len(content) - 1}/{len(content)}")]),
        INSPECT,
    )

    def dripping(content: bytes) -> Iterator[bytes]:
        yield _http(200, Content_Length=len(content))
        for byte in content[:5]:
            yield bytes([byte])
            time.sleep(0.2)
        time.sleep(PATIENCE)

    yield _case("that stops in the middle of a file", Rule("file", dripping), INSPECT, limit=150, heavy=True)
    yield _case("that sends another file than is known", Rule(), FETCH, MAY)  # whose checksum nobody states


def _names() -> Iterator[Case]:
    """Names and commits that lead out of the folder they belong to."""
    for name in ("../../../../escaped.safetensors", "/tmp/escaped.safetensors", "a/../../../../../escaped.safetensors", "a\\..\\b.safetensors", "\0.safetensors", "a\nb.safetensors", ".safetensors",
                 "x" * 5000 + ".safetensors", "a//b.safetensors", "./model.safetensors", "%2e%2e/a.safetensors", "model.safetensors/"):  # fmt: skip
        told = {"id": NAME, "sha": "a" * 40, "siblings": [{"rfilename": name}]}
        yield _case(
            "whose names lead elsewhere", Rule("info", lambda _, told=told: [_json(told)]), INSPECT, MAY if name.startswith("./") else WRONG
        )
    for commit in ("../../../../escaped", "/tmp/escaped", "", ".", "..", "\0", "x" * 5000, "a/b", "main"):
        told = {"id": NAME, "sha": commit, "siblings": [{"rfilename": "model.safetensors"}]}
        yield _case(
            "whose names lead elsewhere",
            Rule("info", lambda _, told=told: [_json(told)]),
            INSPECT,
            MAY if commit in ("", "main") else WRONG,
        )


def _pushed() -> Iterator[Case]:
    """Damaged checkpoints, which are not shared, and names that are none."""
    for source in (_damage, _weights, _foreign):
        seen = set()
        for case in source():
            if case.what not in seen:
                seen.add(case.what)
                exits = MAY if case.what == "weights of another precision" else WRONG
                yield Case(GROUP, "a hub that is given a damaged checkpoint", PUSH, (FILE,), exits, case.make, hub=Rule())
    for name in (
        "",
        "mine",
        "a/b/c",
        "a b/c",
        "../..",
        "owner/",
        "/mine",
        "hf://",
        "x" * 200 + "/mine",
        "owner/..",
        "https://huggingface.co/owner/mine",
        "owner/\x01",
    ):
        yield Case(
            GROUP,
            "a hub that is given a name that is none",
            (*PUSH[:3], name, *PUSH[4:]),
            (name[:40] if name.isprintable() and name else "name", "argument"),
            WRONG,
            hub=Rule(),
        )
