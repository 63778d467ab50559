"""The files in deploy/: they name commands, options, extras, places and ports that are there. Docker itself is not run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from focus_framework.cli import serve as command

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
NEEDED = ("read_only", "cap_drop", "mem_limit")


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, in order: the word and what follows, comments left out and lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def of(word: str) -> list[str]:
    return [rest.strip() for name, rest in instructions() if name == word]


def parsed(arguments: list[str]) -> dict[str, Any]:
    """The options of a call of ``focus serve``; fails where one is unknown."""
    return command.serve.make_context("serve", list(arguments)).params


def service() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["focus"]


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "focus-serve.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            found.setdefault(line.partition("=")[0], []).append(line.partition("=")[2])
    return found


def test_the_image_is_built_of_what_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    copied = [place for line in of("COPY") if not line.startswith("--from") for place in line.split()[:-1]]
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / place).exists() for place in copied)
    assert set(copied) == allowed  # what is not let through cannot be copied
    run = " ".join(of("RUN"))
    assert set(re.findall(r"\.\[([\w,]+)\]", run)) <= set(extras)
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert all(int(tag) >= int(python.rpartition(".")[2]) for tag in re.findall(r"python:3\.(\d+)-slim", "".join(of("FROM"))))


def test_the_image_runs_a_command_that_exists_as_nobody_in_particular() -> None:
    [entry] = of("ENTRYPOINT")
    name, group, *options = json.loads(entry)
    assert (name, group) == ("focus", "serve")
    given = parsed(options)
    assert given["host"] == "0.0.0.0"
    assert of("EXPOSE") == [str(given["port"])]
    assert of("USER") == [service()["user"].strip('"')]
    [health] = of("HEALTHCHECK")
    assert f"http://127.0.0.1:{given['port']}/readyz" in health
    compile(json.loads(health.partition("CMD ")[2])[2], "healthcheck", "exec")


def test_compose_starts_it_read_only_with_options_that_exist() -> None:
    made = service()
    [entry] = of("ENTRYPOINT")
    given = parsed([*json.loads(entry)[2:], *made["command"]])
    assert str(given["token_file"]) == "/run/secrets/token"
    assert made["ports"] == [f"127.0.0.1:{given['port']}:{given['port']}"]
    assert (DEPLOY / made["build"]["context"] / made["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert all(made[key] for key in NEEDED)
    assert set(made["build"]["args"]) == {line.partition("=")[0] for line in of("ARG")}
    assert float(made["stop_grace_period"].removesuffix("s")) > given["max_seconds"]


def test_the_unit_starts_a_command_that_exists() -> None:
    found = unit()
    program, group, *options = shlex.split(found["ExecStart"][0])
    assert (Path(program).name, group) == ("focus", "serve")
    given = parsed(options)
    assert given["host"] == "127.0.0.1"
    assert str(given["token_file"]).removeprefix("%d/") == found["LoadCredential"][0].partition(":")[0]
    assert float(found["TimeoutStopSec"][0]) > given["max_seconds"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    here = shutil.which("true")
    text = (DEPLOY / "focus-serve.service").read_text().replace("/opt/focus/bin/focus", str(here))  # it looks whether the program is there
    (tmp_path / "focus-serve.service").write_text(text)
    checked = subprocess.run(["systemd-analyze", "verify", str(tmp_path / "focus-serve.service")], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
