"""The process: a socket, uvicorn with connections that do not wait for ever, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...errors import ConfigError
from .app import create_app
from .service import Service
from .settings import Access, Limits

logger = logging.getLogger(__name__)
LINGER = 1.0
"""Seconds after the call to end for which new requests are at least told so, instead of meeting no one."""


class PatientProtocol(H11Protocol):
    """uvicorn's connection, which by itself waits for ever for the head of a request, and for a client that does not read its answer."""

    patience: float
    _limit: asyncio.TimerHandle | None = None
    _unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._be_patient()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering and self._limit:
            self._limit.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._answering:
            self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._limit:
            self._limit.cancel()
        super().connection_lost(exc)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _be_patient(self) -> None:
        if self._limit:
            self._limit.cancel()
        self._unread = self.transport.get_write_buffer_size()
        self._limit = self.loop.call_later(self.patience, self._give_up)

    def _give_up(self) -> None:
        if self.transport.get_write_buffer_size() < self._unread:  # a slow client, but it reads
            self._be_patient()
        else:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered in JSON too."""
        content = b'{"error":"this is not a request of HTTP"}'
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode()), (b"connection", b"close")]
        for event in (h11.Response(status_code=400, headers=head, reason=b"Bad Request"), h11.Data(data=content), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class GracefulServer(uvicorn.Server):
    """Told to end, it answers what it has taken, refuses what is new, and then ends; told twice, it ends at once."""

    def __init__(self, config: uvicorn.Config, service: Service, stop_after: float | None = None) -> None:
        super().__init__(config)
        self.service = service
        self._last = None if stop_after is None else time.monotonic() + stop_after
        self._told_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._told_at is not None:
            self.should_exit = self.force_exit = True
            return
        self._told_at = time.monotonic()
        self.service.state.ending = True
        logger.info("told to end: %d requests are being answered, new ones are refused", self.service.state.running)

    async def on_tick(self, counter: int) -> bool:
        if self._last is not None and self._told_at is None and time.monotonic() > self._last:
            self.handle_exit(0, None)
        if self._told_at is not None:
            passed = time.monotonic() - self._told_at
            if passed > self.service.limits.seconds or (passed > LINGER and not self.service.state.running):
                self.should_exit = True
        return await super().on_tick(counter)


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound. Raises `ConfigError` where it cannot be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}; choose another with --host and --port") from error


def serve(
    service: Service, access: Access, bound: socket.socket, *, stop_after: float | None = None, on_start: Callable[[], None] = lambda: None
) -> None:
    """Answer until the process is told to end by SIGTERM or SIGINT, or for `stop_after` seconds."""
    server = make_server(service, access, stop_after)
    try:
        with bound:
            asyncio.run(_serve(server, bound, on_start))
    finally:
        service.close()


def make_server(service: Service, access: Access, stop_after: float | None = None) -> GracefulServer:
    """A server for one socket; `serve` runs it."""
    config = uvicorn.Config(
        create_app(service, access),
        http=_protocol(service.limits),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=round(service.limits.patience),
        timeout_graceful_shutdown=round(service.limits.seconds) + 5,
    )
    return GracefulServer(config, service, stop_after)


async def _serve(server: GracefulServer, bound: socket.socket, on_start: Callable[[], None]) -> None:
    running = asyncio.ensure_future(server.serve([bound]))
    while not (server.started or running.done()):
        await asyncio.sleep(0.01)
    if server.started:
        on_start()
    await running


def _protocol(limits: Limits) -> type[Any]:
    return type("PatientProtocol", (PatientProtocol,), {"patience": limits.patience})
