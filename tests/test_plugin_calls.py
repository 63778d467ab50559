"""What strangers' code raises and prints."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from focus_framework.errors import ConfigError, Interrupted, PluginError
from focus_framework.plugin.calls import calling

ODD = type("Odd", (BaseException,), {})


@pytest.mark.parametrize("error", [ValueError("why"), SystemExit(7), MemoryError(), StopIteration(), ODD("why")])
def test_whatever_it_raises_names_plugin_and_function(error: BaseException) -> None:
    with pytest.raises(PluginError, match=rf"task mine: practice\(\) raised {type(error).__name__}"), calling("task mine", "practice()"):
        raise error


def test_our_own_errors_and_an_interruption_pass() -> None:
    for error in (ConfigError("as it is"), Interrupted()):
        with pytest.raises(type(error)), calling("task mine", "practice()"):
            raise error


def test_prints_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with calling("task mine", "practice()"):
        print("hello")
    assert capsys.readouterr() == ("", "hello\n")


def test_in_a_thread_stdout_is_left_alone() -> None:
    seen = []

    def work() -> None:
        with calling("task mine", "practice()"):
            seen.append(sys.stdout)

    before = sys.stdout
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_json_alone_is_on_stdout_whatever_else_is_written_there() -> None:
    code = (
        "import os, focus_framework.plugin.registry as r\n"
        "real = r.Registry.load\n"
        "r.Registry.load = lambda self: (os.write(1, b'noise'), print('noise'), real(self))\n"
        "from focus_framework.cli import main\nmain(['plugins', 'list', '--json'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith('{"tasks"')
    assert "noise" in done.stderr
