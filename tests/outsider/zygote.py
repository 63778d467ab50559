"""A server that has imported everything once and runs each call of ``focus`` in a fork of itself.

A fork costs hundredths of a second where a new interpreter with torch costs several, and is as separate: own file descriptors, working
folder, environment and end. ``python -m outsider.zygote SOCKET`` listens there and ends when its last client has gone.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

MEMORY = 12 << 30
"""Bytes of address space that a call may have: what asks for more shall be told so, not by the machine."""
LONELY = 300.0
"""Seconds for which it waits for its first client."""


def main(path: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    _import_all()
    gc.freeze()  # a collection in a child would copy every page it looks at
    listener.bind(path + ".new")
    listener.listen()
    Path(path + ".new").rename(path)
    clients: set[int] = set()
    last = time.monotonic() + LONELY
    while clients or time.monotonic() < last:  # who has started it may have given up
        ready = select.select([listener], [], [], 0.5)[0]
        while clients and (ended := os.waitpid(-1, os.WNOHANG)[0]):
            clients.discard(ended)
            if not clients:
                Path(path).unlink()
                return
        if ready:
            connection = listener.accept()[0]
            if not (child := os.fork()):
                listener.close()
                _serve(connection)
                os._exit(0)
            connection.close()
            clients.add(child)


def _import_all() -> None:
    import focus_plugins

    import focus_framework

    for package in (focus_framework, focus_plugins):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.rpartition(".")[2] != "__main__":
                _import(module.name)
    _import("onnxruntime")


def _import(name: str) -> None:
    with contextlib.suppress(ImportError):  # an extra that is not installed
        importlib.import_module(name)


def _serve(connection: socket.socket) -> None:
    with connection, connection.makefile("rw") as stream:
        for line in stream:
            stream.write(json.dumps(_run(json.loads(line))) + "\n")
            stream.flush()


def _run(request: dict[str, Any]) -> dict[str, Any]:
    """The call in a child, which is killed with all that it started when its time is over."""
    started = time.monotonic()
    child = os.fork()
    if not child:
        _become(request)
    exit_code = None
    while time.monotonic() - started < request["limit"]:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            exit_code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if exit_code is None:
        os.waitpid(child, 0)
    return {"exit": exit_code, "seconds": time.monotonic() - started}


def _become(request: dict[str, Any]) -> None:
    code = 1
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        os.chdir(request["folder"])
        os.environ.update(request["environment"])
        if address := request["environment"].get("HF_ENDPOINT"):
            _ask_hub(address)
        sys.path[:0] = request["path"]
        for descriptor, file in enumerate((os.devnull, request["stdout"], request["stderr"])):
            opened = os.open(file, os.O_RDWR | os.O_CREAT)
            os.dup2(opened, descriptor)
            os.close(opened)
        module, _, function = request["program"].partition(":")
        getattr(importlib.import_module(module), function)(request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _ask_hub(address: str) -> None:
    """As if the hub's client were imported now."""
    from huggingface_hub import constants, file_download
    from support.hub_server import client_settings

    for name, value in {**client_settings(address, Path(os.environ["FOCUS_HOME"])), "HF_HUB_OFFLINE": False}.items():
        setattr(constants, name, value)
    file_download.HUGGINGFACE_CO_URL_TEMPLATE = constants.HUGGINGFACE_CO_URL_TEMPLATE  # where an older client keeps it too


if __name__ == "__main__":
    main(sys.argv[1])
