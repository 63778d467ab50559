"""The page: plain files in the package, read once, sent from memory."""

from __future__ import annotations

import hashlib
from importlib import resources

from fastapi import FastAPI, Request
from fastapi.responses import Response

MEDIA = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
DOORS = {"/": "index.html", "/docs": "interface.html"}


def add(app: FastAPI) -> None:
    """Put the page and its parts on an application."""
    for file in resources.files(__package__).joinpath("static").iterdir():
        suffix = f".{file.name.rpartition('.')[2]}"
        if suffix in MEDIA:
            content = file.read_bytes()
            for path in (f"/static/{file.name}", *(door for door, name in DOORS.items() if name == file.name)):
                _route(app, path, content, f"{MEDIA[suffix]}; charset=utf-8")


def _route(app: FastAPI, path: str, content: bytes, media: str) -> None:
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media, headers=headers)

    app.add_api_route(path, answer, methods=["GET", "HEAD"], include_in_schema=False)
