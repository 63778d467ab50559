"""The frame of the command line: what is imported when, how calls and errors end."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from focus_framework import ConfigError, DataError, __version__
from focus_framework import cli as frame
from focus_framework.cli.common import Progress, print_json

FOCUS = (sys.executable, "-m", "focus_framework")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``focus`` in a fresh interpreter."""
    return subprocess.run([*FOCUS, *arguments], capture_output=True, text=True, timeout=60, env=os.environ | environment)


def call(*arguments: str) -> int:
    """``focus`` in this interpreter; its exit code."""
    with pytest.raises(SystemExit) as ended:
        frame.main(arguments)
    return ended.value.code  # type: ignore[return-value]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """A command ``fail`` that raises what a test puts into this dictionary."""
    planned: dict[str, Exception] = {}

    @click.command()
    @click.option("--count", type=int)
    def fail(count: int) -> None:
        """Fail."""
        raise planned["error"]

    monkeypatch.setitem(frame.COMMANDS, "fail", ("common:fail", "Fail."))
    monkeypatch.setattr("focus_framework.cli.common.fail", fail, raising=False)
    return planned


HEAVY = ("torch", "timm", "kornia", "open_clip", "cv2", "matplotlib", "scipy", "numpy")
LAZY = [("--help",), ("--version",), ("plugins", "list"), ("plugins", "list", "--json"), ("nonsense",)]
LAZY += [(name, "--help") for name in frame.COMMANDS]
LAZY += [("prompts", "show", "shadow")]


@pytest.mark.parametrize("arguments", LAZY, ids=" ".join)
def test_asking_imports_neither_torch_nor_anything_else_heavy(arguments: tuple[str, ...]) -> None:
    heavy = HEAVY if arguments[0] == "prompts" else (*HEAVY, "pydantic")  # which prompts a run would use, its configuration tells
    code = (
        "import sys\n"
        "from focus_framework.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        f"heavy = {set(heavy)!r} & set(sys.modules)\n"
        f"heavy -= {{'pydantic'}} if {arguments!r}[0] == 'prompts' else set()\n"  # it reads the configuration
        "sys.exit(' '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout or "no command" in done.stderr
    assert done.returncode == 0, f"imported {done.stderr.splitlines()[-1]}"


def test_help_lists_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name, (_, summary) in frame.COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert summary in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", frame.COMMANDS)
def test_every_listed_command_exists_and_says_of_itself_what_the_list_says(name: str) -> None:
    command = frame.focus.get_command(click.Context(frame.focus), name)
    assert command is not None
    assert command.get_short_help_str(limit=200) == frame.COMMANDS[name][1]


def test_no_command_is_forgotten() -> None:
    """Every module of the package that defines a command of its own name is in the table."""
    folder = Path(frame.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "common"}
    assert {where.split(":")[0] for where, _ in frame.COMMANDS.values()} == modules


def test_version() -> None:
    assert run("--version").stdout == f"focus {__version__}\n"


@pytest.mark.parametrize("arguments", [("--debug", "plugins", "list"), ("plugins", "--debug", "list"), ("plugins", "list", "--debug")])
def test_debug_may_stand_anywhere(arguments: tuple[str, ...]) -> None:
    assert call(*arguments) == 0


@pytest.mark.parametrize(("error", "code"), [(DataError("sky.png is 3 by 4"), 1), (ConfigError("--size must be positive"), 2)])
def test_an_error_is_its_message_and_its_exit_code(
    command: dict[str, Exception], capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    command["error"] = error
    assert call("fail") == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {error}\n")


def test_an_error_of_the_system_names_the_file(command: dict[str, Exception], capsys: pytest.CaptureFixture[str]) -> None:
    command["error"] = PermissionError(13, "Permission denied", "/somewhere/run")
    assert call("fail") == 1
    assert capsys.readouterr().err == "error: Permission denied: /somewhere/run\n"


def test_an_unforeseen_error_shows_its_traceback_on_demand(command: dict[str, Exception], capsys: pytest.CaptureFixture[str]) -> None:
    command["error"] = ZeroDivisionError("by nought")
    assert call("fail") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ZeroDivisionError: by nought\n")
    assert "--debug" in err
    assert "Traceback" not in err
    assert call("fail", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("plugin",), "there is no command 'plugin'; did you mean plugins?"),
        (("fail", "--cuont", "3"), "--count"),
        (("fail", "--count", "many"), "'many' is not a valid integer"),
        (("fail", "extra", "more"), "Too many arguments: extra more"),
        (("plugins", "info"), "Missing argument 'NAME'"),
    ],
)
def test_a_wrong_call_ends_with_2_and_what_would_be_right(
    command: dict[str, Exception], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert expected in err
    assert len(err.splitlines()) == 2
    assert err.splitlines()[1].endswith("--help")


def test_a_group_without_a_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("plugins") == 2
    assert "Usage: focus plugins" in capsys.readouterr().err


def test_interrupt_ends_with_130() -> None:
    code = (
        "import click, sys, time\n"
        "from focus_framework import cli\n"
        "from focus_framework.cli import common\n"
        "@click.command()\n"
        "def wait():\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(30)\n"
        "common.wait = wait\n"
        "cli.COMMANDS['wait'] = ('common:wait', '')\n"
        "cli.main(['wait'])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen([*FOCUS, "plugins", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 1


def test_completion_knows_commands_and_plugins_and_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemError('torch was imported')")  # stands before the real one
    done = run(
        PYTHONPATH=str(tmp_path),
        _FOCUS_COMPLETE="bash_complete",
        COMP_WORDS="focus plu",
        COMP_CWORD="1",
    )
    assert done.stdout == "plain,plugins\n"
    assert done.stderr == ""


Printed = Callable[..., str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """What ``focus`` prints on stdout when it is called in this interpreter; nothing on stderr."""

    def printed(*arguments: str) -> str:
        assert call(*arguments) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return printed


class TestPlugins:
    def test_list_as_json(self, printed: Printed) -> None:
        listed = json.loads(printed("plugins", "list", "--json"))
        assert set(listed) == {"tasks", "backbones", "enhancers", "refiners", "conditioners"}
        tasks = {row["name"]: row for row in listed["tasks"]}
        assert {"salient", "camouflage", "shadow", "defocus", "forgery"} <= set(tasks)
        assert tasks["shadow"] == {
            "name": "shadow",
            "title": tasks["shadow"]["title"],
            "distribution": "focus-framework",
            "version": __version__,
            "status": "ok",
            "error": None,
        }

    def test_list_for_people_has_every_name_and_title(self, printed: Printed) -> None:
        listed = json.loads(printed("plugins", "list", "--json"))
        text = printed("plugins", "list")
        for rows in listed.values():
            for row in rows:
                assert row["name"] in text
                assert row["title"] in text

    def test_info_tells_what_the_task_says(self, printed: Printed) -> None:
        known = json.loads(printed("plugins", "info", "shadow", "--json"))
        assert known["kind"] == "task"
        assert known["prompts"][0]["foreground"] == "it's an image of shadow without background."
        assert known["primary_metric"] in known["metrics"]
        assert known["practice_images"] is True
        assert known["licence"] == "Apache-2.0"
        assert known["origin"] == "focus_plugins.tasks.shadow"

    def test_info_of_a_refiner_names_its_options(self, printed: Printed) -> None:
        known = json.loads(printed("plugins", "info", "clip", "--json"))
        assert {"name": "temperature", "type": "float", "default": 0.07} in known["options"]
        text = printed("plugins", "info", "clip")
        assert "name: temperature, type: float, default: 0.07" in text

    def test_info_of_a_backbone_tells_the_licence_of_code_and_weights(self, printed: Printed) -> None:
        known = json.loads(printed("plugins", "info", "vit_large_patch14_dinov2", "--kind", "backbone", "--json"))
        assert (known["kind"], known["licence"], known["weights_licence"]) == ("backbone", "Apache-2.0", "Apache-2.0")

    def test_info_of_a_network_that_only_a_family_knows(self, printed: Printed) -> None:
        known = json.loads(printed("plugins", "info", "resnet34", "--json"))
        assert known["name"] == "timm-pyramid"

    def test_info_of_something_unknown(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("plugins", "info", "shadoww") == 2
        assert "there is no plugin 'shadoww'; did you mean shadow?" in capsys.readouterr().err

    def test_info_of_a_task_in_a_file(self, printed: Printed, tmp_path: Path) -> None:
        file = tmp_path / "mine.py"
        file.write_text(
            "from focus_framework import Prompts, Task, hookimpl\n"
            "@hookimpl\n"
            "def focus_tasks():\n"
            "    yield Task(name='mine', title='Mine', prompts=Prompts('a', 'b'), metrics=['mae'], primary_metric='mae')\n"
        )
        known = json.loads(printed("plugins", "info", str(file), "--json"))
        assert (known["name"], known["origin"], known["practice_images"]) == ("mine", str(file), False)


def test_json_has_no_numbers_that_json_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"nan": float("nan"), "list": [1.5, float("inf")], "path": Path("a/b"), "word": "Größe"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"nan": None, "list": [1.5, None], "path": "a/b", "word": "Größe"}
    assert "Größe" in out and out.count("\n") == 1


def test_progress_in_a_file_is_plain_lines_at_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 3.0, 6.0, 11.0, 12.0])
    with Progress(4, "images", interval=10, clock=lambda: next(clock)) as progress:
        for name in ("a", "b", "c", "d"):
            progress.advance(name)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "images 3/4 c\nimages 4/4 d\n"


def test_progress_on_a_terminal_is_a_bar_with_log_lines_above_it() -> None:
    code = (
        "import logging, time\n"
        "from focus_framework.cli.common import Progress, log_to_stderr\n"
        "log_to_stderr()\n"
        "with Progress(3, 'images') as progress:\n"
        "    for name in 'abc':\n"
        "        progress.advance(name)\n"
        "    logging.getLogger('focus_framework.x').info('a line for the person')\n"
    )
    here, there = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=there, env=environment)
    os.close(there)
    shown = b""
    with contextlib.suppress(OSError):  # Linux tells the end of a terminal by an error
        while part := os.read(here, 4096):
            shown += part
    os.close(here)
    assert process.wait(timeout=30) == 0
    assert process.stdout is not None
    assert process.stdout.read() == b""
    lines = shown.decode().replace("\r", "").splitlines()
    assert any("━" in line and "3/3 c" in line for line in lines)
    assert any(line.strip().endswith("a line for the person") for line in lines)
