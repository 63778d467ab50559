"""``focus serve`` as a process with sockets: slow, cut and endless senders, and the end that loses nothing."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
import httpx
from support.serve import RedModel, picture, running, served, service
from support.training import tiny

from focus_framework import ConfigError
from focus_framework import cli as frame
from focus_framework.checkpoint import describe, write_checkpoint
from focus_framework.deploy.serve.server import listen
from focus_framework.deploy.serve.settings import Limits
from focus_framework.model.build import build_network
from focus_framework.plugin.registry import registry


def raw(address: str, *pieces: bytes, wait: float = 5.0) -> bytes:
    """What comes back, until the connection ends, for bytes that are sent piece by piece."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def head(length: str) -> bytes:
    return f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n{length}\r\nConnection: close\r\n\r\n".encode()


def test_senders_that_are_slow_endless_or_gone_hold_nothing_up() -> None:
    made = service(body=100_000, patience=0.5, seconds=1.0)
    with running(made) as (address, _):
        begin = time.monotonic()
        assert raw(address, b"GET / HT") == b""  # a head that never ends
        assert raw(address) == b""  # nothing at all
        assert b"408" in raw(address, head("Content-Length: 1000"), b"x" * 10).splitlines()[0]
        assert time.monotonic() - begin < 5
        assert b"413" in raw(address, head("Content-Length: 100001")).splitlines()[0]
        chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
        assert b"413" in raw(address, head("Transfer-Encoding: chunked"), *[chunk] * 4).splitlines()[0]
        assert b"400" in raw(address, b"nonsense\r\n\r\n").splitlines()[0]
        assert b"400" in raw(address, head("Content-Length: 9" + "9" * 30)).splitlines()[0]
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as cut:
            cut.sendall(head("Content-Length: 1000") + b"x" * 10)
        for _ in range(20):
            if not made.state.running:
                break
            time.sleep(0.1)
        assert (made.state.running, made._requests, made._bodies) == (0, 0, 0)
        assert httpx.post(f"http://{address}/v1/predict", content=picture()).status_code == 200


def test_what_a_client_does_not_wait_for_is_not_predicted() -> None:
    go = threading.Event()
    model = RedModel(lambda images: go.wait(10) and None)
    made = service(served(model=model), batch=1)
    with running(made) as (address, _):
        first = threading.Thread(target=httpx.post, args=(f"http://{address}/v1/predict",), kwargs={"content": picture()})
        first.start()
        while not model.batches:
            time.sleep(0.01)
        content = picture()
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as cut:
            cut.sendall(head(f"Content-Length: {len(content)}") + content)
            while not made._workers["red"].waiting:
                time.sleep(0.01)
        while made._requests > 1:
            time.sleep(0.01)
        go.set()
        first.join(10)
        assert httpx.post(f"http://{address}/v1/predict", content=picture()).status_code == 200
    assert model.batches == [1, 1]


def test_told_to_end_it_answers_what_it_has_and_refuses_what_is_new() -> None:
    go = threading.Event()
    made = service(served(model=RedModel(lambda images: go.wait(10) and None)))
    answers: list[int] = []
    with running(made) as (address, server):
        url = f"http://{address}"
        threads = [
            threading.Thread(target=lambda: answers.append(httpx.post(f"{url}/v1/predict", content=picture(), timeout=20).status_code))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        while made._requests < 3:
            time.sleep(0.01)
        server.handle_exit(signal.SIGTERM, None)
        refused = httpx.post(f"{url}/v1/predict", content=picture())
        assert (refused.status_code, refused.headers["retry-after"], "about to end" in refused.text) == (503, "5", True)
        assert httpx.get(f"{url}/readyz").status_code == 503
        assert httpx.get(f"{url}/healthz").status_code == 200
        time.sleep(1.2)
        assert not server.should_exit  # three are still being answered
        go.set()
        for thread in threads:
            thread.join(10)
        until = time.monotonic() + 5
        while not server.should_exit and time.monotonic() < until:
            time.sleep(0.02)
        assert server.should_exit
    assert answers == [200, 200, 200]


def test_a_port_that_is_taken_is_told() -> None:
    with listen("127.0.0.1", 0) as bound, pytest.raises(ConfigError, match="cannot listen on 127"):
        listen("127.0.0.1", bound.getsockname()[1])
    with pytest.raises(ConfigError, match="cannot listen on no"):
        listen("no.such.host.invalid", 0)


def focus(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        frame.main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def test_wrong_calls_are_told_before_anything_is_loaded(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert focus(capsys, "serve", "--host", "0.0.0.0", "--port", "0")[0] == 2
    assert "--token-file" in focus(capsys, "serve", "--host", "0.0.0.0", "--port", "0")[2]
    code, _, told = focus(capsys, "serve", "no-such-checkpoint", "--port", "0")
    assert (code, "no-such-checkpoint" in told) == (1, True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, told = focus(capsys, "serve")
    assert (code, "pip install 'focus-framework[serve]'" in told) == (2, True)


def test_the_command_serves_and_ends_with_nothing_wrong(tmp_path: Path) -> None:
    config, entry = tiny().config, registry().find_task("shadow")
    network = build_network(config)
    path = tmp_path / "x.safetensors"
    write_checkpoint(path, network.state_dict(), describe(config, network, entry, entry.get().pairs()))
    call = [sys.executable, "-m", "focus_framework", "serve", path, "--port", "0", "--device", "cpu", "--json", "--stop-after", "60"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        told = json.loads(process.stdout.readline())
        assert told["models"] == [{"name": "x", "task": "shadow"}]
        answer = httpx.post(f"{told['url']}/v1/predict", content=picture(), timeout=30)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        process.send_signal(signal.SIGTERM)
        log = process.stderr.read()
        assert process.wait(20) == 0
    assert "POST /v1/predict 200" in log
    assert log.splitlines()[-1] == "ended"


def test_bounds_of_all_requests_are_those_of_some() -> None:
    limits = Limits()
    assert limits.bodies < 200 * 1024 * 1024
    assert limits.pixels_at_once * 7 < 1 << 30  # bytes of an image and its map
