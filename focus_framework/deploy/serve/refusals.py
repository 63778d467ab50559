"""What a request is told that is not answered with a mask: a status and one line of JSON."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse


class RefusedError(Exception):
    """A request cannot be answered: `status` is that of HTTP, the text is for the person."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})

    def response(self) -> JSONResponse:
        return JSONResponse({"error": one_line(str(self))}, self.status, self.headers)


UNEXPECTED = RefusedError(500, "something is wrong with this service; its log says more under this X-Request-ID")


def busy(message: str, seconds: float) -> RefusedError:
    """Too much is waiting already."""
    return RefusedError(429, message, {"Retry-After": str(max(1, min(60, round(seconds))))})


def one_line(text: str) -> str:
    """Text that a client sent or a decoder made, fit for a log and a line of JSON."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:400]
