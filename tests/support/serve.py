"""A service to test: a model that is known, and a server of its own on loopback that ends with its test."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from focus_framework.deploy.serve.collection import Collection
from focus_framework.deploy.serve.models import Served
from focus_framework.deploy.serve.server import make_server
from focus_framework.deploy.serve.service import Service
from focus_framework.deploy.serve.settings import Access, Limits
from focus_framework.inference.result import Result, Results


@dataclass
class RedModel:
    """The foreground is where the image is red. `before` is called with each batch."""

    before: Callable[[Sequence[Any]], None] = lambda images: None
    batches: list[int] = field(default_factory=list)
    task = "red"
    device = "cpu"
    config = SimpleNamespace(prediction=SimpleNamespace(threshold=0.5))

    def predict(self, images: Sequence[Any], *, batch_size: int) -> Results:
        self.batches.append(len(images))
        self.before(images)
        return Results([Result((image[..., 0] / 255).astype(np.float32), image) for image in images])


def served(name: str = "red", model: Any = None) -> Served:
    return Served(name, model or RedModel(), {"name": name, "task": "red"})


def service(*models: Served, collection: Collection | None = None, **limits: Any) -> Service:
    return Service(models or [served()], Limits(**limits), collection)


def picture(height: int = 20, width: int = 30, form: str = "PNG", seed: int = 0) -> bytes:
    """Noise with a red block."""
    pixels = np.random.default_rng(seed).integers(0, 100, (height, width, 3), np.uint8)
    pixels[4:10, 6:20, 0] = 250
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form)
    return content.getvalue()


@contextmanager
def running(made: Service, access: Access = Access(), *, stop_after: float = 60) -> Iterator[tuple[str, Any]]:  # noqa: B008 - it is frozen
    """The address and the server of a service that answers on a free port of this machine."""
    server = make_server(made, access, stop_after=stop_after)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        until = time.monotonic() + 10
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        try:
            yield f"127.0.0.1:{bound.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join(10)
            made.close()
    assert not thread.is_alive()
