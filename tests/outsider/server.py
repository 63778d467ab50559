"""The service that `uploads` are sent to, and what must hold after each of them."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from support.serve import running, service

from focus_framework.deploy.serve.collection import Collection

from . import uploads
from .uploads import Upload

PATIENCE = 20.0  # seconds that a stranger waits


class Stranger:
    """Sends bytes through a socket to a service of small limits that reads images and keeps pairs; what stands for its network is quick."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._folder = folder
        self._noted: list[logging.LogRecord] = []

    def __enter__(self) -> Self:
        self._made = service(collection=Collection(self._folder), body=2 << 20, pixels=1_000_000, images=4, patience=2.0, seconds=5.0)
        self._address, _ = self._stack.enter_context(running(self._made, stop_after=7200))
        handler = logging.Handler()
        handler.emit = self._noted.append  # type: ignore[method-assign]
        logger = logging.getLogger("focus_framework.deploy.serve")
        logger.addHandler(handler)
        self._stack.callback(logger.removeHandler, handler)
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def complaints(self, upload: Upload) -> list[str]:
        """What is wrong with the answer, and with the service afterwards."""
        self._noted.clear()
        answer = self._send(upload.content(), PATIENCE if 0 not in upload.exits else 1.0)
        found = uploads.complaints(upload, answer)
        found += [f"logs {record.getMessage()}" for record in self._noted if record.exc_info]
        until = time.monotonic() + PATIENCE
        while (self._made.state.running or self._made._requests or self._made._bodies) and time.monotonic() < until:
            time.sleep(0.01)
        if self._made.state.running or self._made._requests or self._made._bodies:
            found.append("a request is still held")
        if not self._send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200"):
            found.append("the service is not ready any more")
        return found

    def _send(self, content: bytes, patience: float = PATIENCE) -> bytes:
        """What comes back until the connection ends; who has waited for so many seconds goes away."""
        host, _, port = self._address.rpartition(":")
        answer = b""
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            with suppress(ConnectionError):  # answered before it has read all, as it may
                connection.sendall(content)
            connection.settimeout(patience)
            with suppress(ConnectionError, TimeoutError):
                while piece := connection.recv(65536):
                    answer += piece
        return answer
