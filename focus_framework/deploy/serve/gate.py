"""What stands before the application: who may call, how much they may send, how long it may take, and a line in the log.

Plain ASGI and not a middleware of Starlette's: a body has to be counted while it comes, before anything keeps it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .counts import Counts
from .refusals import UNEXPECTED, RefusedError, one_line
from .settings import Access, Limits

logger = logging.getLogger(__name__)

OPEN = ("/", "/healthz", "/readyz", "/docs", "/openapi.json")
"""What is answered without a token, as is all below `PAGE`: they hold nothing that anybody sent."""
PAGE = "/static/"
ALWAYS = ("/healthz", "/readyz", "/metrics")
"""What is answered while the service ends."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass
class State:
    """Whether the service takes requests, and how many it has."""

    running: int = 0
    ending: bool = False


@dataclass
class Visit:
    """One request as the log tells it."""

    identifier: str
    method: str
    path: str
    client: str
    status: int = 0
    received: int = 0
    sent: int = 0
    whole: bool = False
    """Whether its body has come to its end."""
    answered: bool = False
    """Whether its answer has been sent to its end."""
    begin: float = field(default_factory=time.monotonic)

    def log(self) -> None:
        seconds = time.monotonic() - self.begin
        logger.info(
            "%s %s %s %s %s, %d bytes in, %d out, %.3f s",
            self.identifier, self.client, self.method, self.path, self.status or "cut off", self.received, self.sent, seconds,
        )  # fmt: skip


class Gate:
    """The application behind it sees only requests that may be answered."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits, state: State, counts: Counts) -> None:
        self.app, self.access, self.limits, self.state, self.counts = app, access, limits, state, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        visit = _visit(scope)
        scope.setdefault("state", {})["request_id"] = visit.identifier
        self.state.running += 1
        try:
            await self._answer(scope, receive, send, visit)
        finally:
            self.state.running -= 1
            self.counts.request(visit.path, visit.method, visit.status, time.monotonic() - visit.begin)
            visit.log()

    async def _answer(self, scope: Scope, receive: Receive, send: Send, visit: Visit) -> None:
        async def counted() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                visit.received += len(message.get("body", b""))
                visit.whole = not message.get("more_body", False)
                if visit.received > self.limits.body:
                    raise self._too_large()
            return message

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
                self._dress(MutableHeaders(scope=message), visit)
            else:
                visit.sent += len(message.get("body", b""))
                visit.answered = not message.get("more_body", False)
            await send(message)

        headers = Headers(scope=scope)
        try:
            self._check(headers, visit)
            async with asyncio.timeout(self.limits.seconds):
                await self.app(scope, counted, noted)
            return
        except RefusedError as error:
            refusal = error
        except TimeoutError:
            refusal = self._late(visit)
        except Exception:  # the application has answered already
            logger.exception("%s failed", visit.identifier)
            refusal = UNEXPECTED
        if not visit.status:
            await refusal.response()(scope, receive, noted)
        elif not visit.answered:
            raise ConnectionAbortedError(str(refusal))  # half an answer: the server closes the connection

    def _check(self, headers: Headers, visit: Visit) -> None:
        """Raise `RefusedError` for whom this service does not answer, before anything of the body is read."""
        host = headers.get("host", "")
        if not self.access.knows_host(host):
            raise RefusedError(421, f"this service is not called {one_line(host)!r}; --allow-host gives it further names")
        origin = headers.get("origin", "").lower()
        if origin and origin.partition("://")[2] != host.lower() and origin not in self.access.origins:
            raise RefusedError(403, f"pages of {one_line(origin)!r} may not call this service; --allow-origin lets them")
        if self.state.ending and visit.path not in ALWAYS:
            raise RefusedError(503, "this service is about to end", {"Retry-After": "5", "Connection": "close"})
        closed = visit.path not in OPEN and not visit.path.startswith(PAGE) and visit.method != "OPTIONS"
        if closed and self.access.token and not self._knows_token(headers):
            raise RefusedError(401, "a token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.limits.body:
            raise self._too_large()

    def _knows_token(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and secrets.compare_digest(token.strip().encode(), self.access.token.encode())

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"a request may have {self.limits.body / (1 << 20):g} MiB; send fewer or smaller images")

    def _late(self, visit: Visit) -> RefusedError:
        seconds = f"{self.limits.seconds:g} seconds"
        if not visit.whole and visit.method not in ("GET", "HEAD"):
            return RefusedError(408, f"the request did not arrive whole within {seconds}", {"Connection": "close"})
        return RefusedError(503, f"the answer took longer than {seconds}", {"Retry-After": "5"})

    def _dress(self, headers: MutableHeaders, visit: Visit) -> None:
        headers["X-Request-ID"] = visit.identifier
        for name, value in HEADERS.items():
            headers[name] = value
        headers.setdefault("Cache-Control", "no-store")


def _visit(scope: Scope) -> Visit:
    asked = Headers(scope=scope).get("x-request-id", "")
    identifier = asked if re.fullmatch(r"[\w.-]{1,64}", asked, re.ASCII) else secrets.token_hex(6)
    client = scope.get("client")
    return Visit(identifier, one_line(scope["method"])[:16], one_line(scope["path"])[:80], f"{client[0]}:{client[1]}" if client else "-")
