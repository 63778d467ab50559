"""Runs cases: each in a folder of its own with its own copy of the good inputs, in a fork of the `zygote`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from filelock import FileLock
from support.hub_server import TOKEN
from support.runner import lay_out

from .case import Case, Outcome
from .hub import Rule, WrongHub
from .inputs import JOINT, TRAINING, write_inputs

START = 300.0
PROGRAM = "focus_framework.cli:main"


class House:
    """One for all processes of a test run: the first that needs it makes the inputs and starts the server."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.inputs = folder, folder / "inputs"
        self.calls = 0
        self._hub: WrongHub | None = None
        with FileLock(folder / "lock"):
            self._connect()
            if not (self.inputs / "checkpoint.safetensors").exists():
                self._make_inputs()

    def close(self) -> None:
        self._stream.close()
        self._socket.close()
        if self._hub:
            self._hub.__exit__()

    def run(self, case: Case) -> Outcome:
        self.calls += 1
        room = self.folder / f"{os.getpid()}-{self.calls}"
        work, inputs = room / "work", room / "inputs"
        work.mkdir(parents=True)
        shutil.copytree(self.inputs, inputs)
        os.mkfifo(inputs / "pipe")  # which copytree refuses to copy
        case.make(inputs)
        before = _seen(room)
        arguments = [argument.replace("@/", f"{inputs}/") for argument in case.arguments]
        path = [str(inputs / case.path)] * bool(case.path) + [str(self.folder / "runner")] * bool(case.program)
        if case.script:
            ended = _shell(case, work, inputs)
        else:
            environment = dict(case.environment)
            if case.hub:
                environment |= self._at_hub(case.hub, room / "home")
            ended = self._ask(arguments, work, limit=case.limit, path=path, environment=environment, program=case.program)
        after = _seen(room)
        changed = tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))
        out, err = ((room / name).read_text("utf-8", "replace").replace(str(room), "") for name in ("stdout", "stderr"))
        shutil.rmtree(room, ignore_errors=True)
        return Outcome(ended["exit"], out, err, ended["seconds"], changed)

    def _at_hub(self, rule: Rule, home: Path) -> dict[str, str]:
        """The environment of a call that asks the hub on loopback and keeps what it fetches at `home`."""
        if self._hub is None:
            self._hub = WrongHub().__enter__()
        address = self._hub.address((self.inputs / "checkpoint.safetensors").read_bytes(), rule)
        return {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN, "FOCUS_HOME": str(home)}

    def _ask(
        self, arguments: list[str], work: Path, *, limit: float, path: list[str], environment: dict[str, str], program: str = ""
    ) -> dict[str, Any]:
        room = work.parent
        quiet = {"HF_HUB_OFFLINE": "1", "HOME": str(self.folder), "OMP_NUM_THREADS": "1", "COLUMNS": "160"} | environment
        request = {
            "arguments": arguments,
            "folder": str(work),
            "limit": limit,
            "path": path,
            "environment": quiet,
            "program": program or PROGRAM,
        }
        request |= {"stdout": str(room / "stdout"), "stderr": str(room / "stderr")}
        self._stream.write(json.dumps(request) + "\n")
        self._stream.flush()
        return json.loads(self._stream.readline())

    def _connect(self) -> None:
        address = str(self.folder / "s")
        try:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(address)
        except OSError:
            Path(address).unlink(missing_ok=True)
            tests = str(Path(__file__).parents[1])
            environment = os.environ | {"PYTHONPATH": tests, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # read when it is imported
            server = subprocess.Popen(
                [sys.executable, "-m", "outsider.zygote", address], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            waited = time.monotonic()
            while not Path(address).exists():
                if server.poll() is not None or time.monotonic() - waited > START:
                    raise RuntimeError("the server of forks did not start") from None
                time.sleep(0.05)
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(address)
        self._stream = self._socket.makefile("rw")

    def _make_inputs(self) -> None:
        write_inputs(self.inputs)
        lay_out(self.folder / "runner")
        for name, training in {"joint": JOINT, "checkpoint": TRAINING}.items():
            work = self.folder / name / "work"
            work.mkdir(parents=True)
            arguments = ["train", *(argument.replace("@/", f"{self.inputs}/") for argument in training)]
            ended = self._ask(arguments, work, limit=120, path=[], environment={})
            if ended["exit"] != 0:
                raise RuntimeError(f"no checkpoint to begin with: {(work.parent / 'stderr').read_text()}")
            shutil.copy(work / "run" / "best.safetensors", self.inputs / f"{name}.safetensors")


def _shell(case: Case, work: Path, inputs: Path) -> dict[str, Any]:
    """The case's script, which is killed with all that it started when its time is over."""
    focus = Path(sys.executable).with_name("focus")
    environment = os.environ | {"FOCUS": str(focus), "IN": str(inputs), "HF_HUB_OFFLINE": "1"}
    started = time.monotonic()
    with (work.parent / "stdout").open("wb") as out, (work.parent / "stderr").open("wb") as err:
        shell = subprocess.Popen(
            ["bash", "-c", case.script], cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        try:
            code = shell.wait(case.limit)
        except subprocess.TimeoutExpired:
            code = None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    return {"exit": code, "seconds": time.monotonic() - started}


def _seen(room: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything below the working folder and the inputs."""
    found = {}
    for top in ("work", "inputs"):
        for folder, folders, files in os.walk(room / top):
            for name in (*folders, *files):
                path = Path(folder, name)
                facts = path.lstat()
                is_file = path.is_file() and not path.is_symlink()
                found[str(path.relative_to(room))] = (facts.st_size, facts.st_mtime_ns) if is_file else (0, 0)
    return found
