"""The command line where its streams are closed or full, and where Ctrl-C comes while Python is in the middle of an import."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, env={"PATH": "/usr/bin:/bin", "F": FOCUS})


FOCUS = f"{sys.executable} -m focus_framework"


@pytest.mark.parametrize("tail", ["2>&-", "2> /dev/full", "<&- 2>&-"])
def test_what_cannot_be_told_on_stderr_stops_nothing_and_does_not_come_on_stdout(tail: str) -> None:
    done = run(f"$F data list --json {tail}")
    assert done.returncode == 0
    assert isinstance(json.loads(done.stdout)["datasets"], list)


def test_an_interrupt_that_python_loses_in_a_callback_comes_again() -> None:
    code = (
        "import os, signal, sys, threading, time, weakref\n"
        "from focus_framework.cli import focus, main\n"
        "class Held: pass\n"
        "def lose(context):\n"
        "    held = Held()\n"
        "    kept = weakref.ref(held, lambda dead: os.kill(os.getpid(), signal.SIGINT) or sum(range(10)))\n"
        "    del held\n"  # the signal is handled inside the callback, where Python shows what is raised and goes on
        "    time.sleep(20)\n"
        "focus.invoke = lose\n"
        "main(['--debug', 'doctor'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert "Exception ignored" not in done.stderr


def test_a_home_that_cannot_be_written_to_is_nobodys_worry(tmp_path):
    (tmp_path / "file").touch()
    code = "from focus_framework.cli.common import log_to_stderr; log_to_stderr(); import matplotlib; matplotlib.get_cachedir()"
    call = [sys.executable, "-c", code]
    ended = subprocess.run(call, env={"HOME": str(tmp_path / "file" / "home")}, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
