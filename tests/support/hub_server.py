"""The part of the hub's HTTP interface that `huggingface_hub` itself uses here, on loopback: models, files with ranges, uploads.

``with HubServer() as hub: hub.add("owner/name", {"a.safetensors": b"..."})``; set HF_ENDPOINT to `hub.url`, or use `connected`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import huggingface_hub
import pytest

TOKEN = "hf_right"
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass
class Repository:
    """Files by name, and what they are a commit of."""

    files: dict[str, bytes]
    private: bool = False
    lies: bool = False
    """Whether the bytes that it sends differ from those it announces."""

    @property
    def commit(self) -> str:
        told = b"".join(name.encode() + data for name, data in sorted(self.files.items()))
        return hashlib.sha1(told).hexdigest()


@dataclass
class HubServer:
    """`cut_after` bytes of a file the connection is closed, once for every number in the list."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    slow: float = 0.0
    """Seconds between pieces of a file."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and range of all requests."""
    uploaded: dict[str, bytes] = field(default_factory=dict)
    cut_uploads: int = 0
    """How many of the uploads to come are cut off in their middle."""
    silent: threading.Event = field(default_factory=threading.Event)
    """While it is set, what is posted gets no answer."""

    def add(self, name: str, files: dict[str, bytes], **options: Any) -> Repository:
        self.repositories[name] = Repository(files, **options)
        return self.repositories[name]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def handler(self) -> type[Handler]:
        """What answers."""
        return Handler

    def __enter__(self) -> Self:
        handler = type("Handler", (self.handler(),), {"owner": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.server.shutdown()
        self.server.server_close()


BOUNDED = int(huggingface_hub.__version__.partition(".")[0]) >= 1
"""Whether the client can be told how long to wait for an answer to what it sends."""
RETRIES = int(huggingface_hub.__version__.partition(".")[0]) >= 2
"""Whether the client asks again by itself when a connection breaks; the older ones leave that to the next call."""


def client_settings(url: str, home: Path) -> dict[str, Any]:
    """What the client's module `constants` holds where the hub is at `url`; it reads them from the environment when it is imported."""
    return {
        "ENDPOINT": url,
        "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        "DOWNLOAD_CHUNK_SIZE": 65536,  # what is written at a time, and so what a break may cost
        "HF_HUB_DISABLE_XET": True,  # uploads by plain HTTP
        "HF_HUB_CACHE": str(home / "cache"),
        "HF_TOKEN_PATH": str(home / "token"),
    }


@contextmanager
def connected(hub: HubServer, patch: pytest.MonkeyPatch, home: Any) -> Iterator[None]:
    """This process's client talks to that hub, and nothing of the person's own is read or written."""
    from huggingface_hub import constants, file_download

    for name, value in client_settings(hub.url, home).items():
        patch.setattr(constants, name, value, raising=False)
    patch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", constants.HUGGINGFACE_CO_URL_TEMPLATE, raising=False)
    patch.delenv("HF_TOKEN", raising=False)
    patch.setenv("FOCUS_HOME", str(home / "focus"))
    yield


class Handler(BaseHTTPRequestHandler):
    owner: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._note()
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self._path):
            if repository := self._repository(match[1], match[2]):
                files = [{"rfilename": name} for name in repository.files]
                self._json(
                    {"id": match[1], "modelId": match[1], "sha": repository.commit, "siblings": files, "private": repository.private}
                )
        elif self._path == "/api/whoami-v2":
            self._json({"name": "owner", "type": "user"} if self._known() else {"error": "Invalid token"}, 200 if self._known() else 401)
        else:
            self._file(body=True)

    def do_HEAD(self) -> None:
        self._note()
        self._file(body=False)

    def do_POST(self) -> None:
        self._note()
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.owner.silent.is_set():
            threading.Event().wait(10)
        if not self._known():
            self._json({"error": "Invalid username or password."}, 401)
        elif self._path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked.get('organization') or 'owner'}/{asked['name']}"
            self.owner.repositories.setdefault(
                name, Repository({}, private=bool(asked.get("private")) or asked.get("visibility") == "private")
            )
            self._json({"url": f"{self.owner.url}/{name}", "name": name, "id": name})
        elif re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/.+", self._path):
            files = [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular", "shouldIgnore": False}
                for file in json.loads(content)["files"]
            ]
            self._json({"files": files})
        elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._path):
            rows = [{**row, "actions": {"upload": {"href": f"{self.base}/lfs/{row['oid']}"}}} for row in json.loads(content)["objects"]]
            self._json({"transfer": "basic", "objects": rows})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/.+", self._path):
            self._commit(match[1], content)
        elif self._path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        else:
            self._json({"error": "not here"}, 404)

    def do_PUT(self) -> None:
        self._note()
        if self.owner.cut_uploads:
            self.owner.cut_uploads -= 1
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            self.close_connection = True
            self.connection.close()
            return
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        oid = self._path.rpartition("/")[2]
        if hashlib.sha256(content).hexdigest() != oid:
            self._json({"error": "wrong bytes"}, 400)
            return
        self.owner.uploaded[oid] = content
        self._json({})

    def _commit(self, name: str, content: bytes) -> None:
        repository = self.owner.repositories[name]
        for line in content.splitlines():
            row = json.loads(line)
            if row["key"] == "file":
                repository.files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            elif row["key"] == "lfsFile":
                repository.files[row["value"]["path"]] = self.owner.uploaded[row["value"]["oid"]]
        self._json({"commitUrl": f"{self.owner.url}/{name}/commit/{repository.commit}", "commitOid": repository.commit})

    @property
    def base(self) -> str:
        return self.owner.url

    @property
    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _note(self) -> None:
        self.owner.requests.append((self.command, self._path, self.headers.get("Range", "")))

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, name: str, revision: str | None) -> Repository | None:
        repository = self.owner.repositories.get(name)
        if self.headers.get("Authorization") and not self._known():
            self._json({"error": "Invalid credentials in Authorization header"}, 401, {"X-Error-Message": "Invalid credentials"})
            return None
        if repository is None or (repository.private and not self._known()):
            self._json({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})
            return None
        if revision and revision not in ("main", repository.commit):
            self._json({"error": f"Invalid rev id: {revision}"}, 404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return repository

    def _file(self, *, body: bool) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._path)
        repository = self._repository(match[1], match[2]) if match else None
        if match is None:
            self._json({"error": "not here"}, 404)
        if match is None or repository is None:
            return
        if match[3] not in repository.files:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        content = repository.files[match[3]]
        start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])  # type: ignore[index]
        self.send_response(206 if self.headers.get("Range") else 200)
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        for name, value in {"ETag": tag, "X-Linked-Etag": tag, "X-Linked-Size": len(content), "X-Repo-Commit": repository.commit}.items():
            self.send_header(name, str(value))
        self.send_header("Content-Length", str(len(content) - start))
        if self.headers.get("Range"):
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body:
            self._send(bytes(255 - byte for byte in content) if repository.lies else content, start)

    def _send(self, content: bytes, start: int) -> None:
        end = start + self.owner.cut_after.pop(0) if self.owner.cut_after else len(content)
        try:
            for place in range(start, min(end, len(content)), 65536):
                self.wfile.write(content[place : min(place + 65536, end)])
                if self.owner.slow:
                    self.wfile.flush()
                    threading.Event().wait(self.owner.slow)
        except OSError:  # the client went away
            self.close_connection = True
        if end < len(content):
            self.close_connection = True
            self.connection.close()

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        told = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(told)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(told)
