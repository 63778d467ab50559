"""``focus train`` up to the point where training starts: options, their order of strength, what a wrong call gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from focus_framework import cli as frame
from focus_framework.cli.train import SETTINGS, train
from focus_framework.config.layers import known_settings

TASK = """
from focus_framework import Prompts, Task, hookimpl

@hookimpl
def focus_tasks():
    yield Task(
        name="mine",
        title="Mine",
        prompts=Prompts("inside", "outside"),
        metrics=["mae"],
        primary_metric="mae",
        defaults={"loss.clip": 0.25, "training.seed": 11, "training.warmup": 0.5, "loss.box": 0.75},
    )
"""


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        frame.main(["train", *arguments])
    return ended.value.code  # type: ignore[return-value]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration, flat, and its sources, as ``--show-config --json`` prints them."""
    assert call(*arguments, "--show-config", "--json") == 0
    printed = json.loads(capsys.readouterr().out)

    def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in table.items():
            found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        return found

    return flat(printed["config"]), printed["sources"]


def test_it_has_every_option_it_should_have() -> None:
    wanted = (
        "--task-plugin --data --data-root --preset --backbone --backbone-weights --enhancer --refiner --foreground-prompt "
        "--background-prompt --image-size --batch-size --steps --minutes --val-share --learning-rate --seed --precision --device --out "
        "--checkpoint-every --resume --auto-batch --compile --dry-run --clip-model --clip-weights --config --set --show-config --json"
    )
    assert set(wanted.split()) <= {name for parameter in train.params for name in parameter.opts}


def test_every_option_sets_a_setting_that_exists(capsys: pytest.CaptureFixture[str]) -> None:
    values = {int: "64", float: "0.5"}
    arguments, expected = ["--task-plugin", "shadow"], {}
    for setting, option in SETTINGS.items():
        assert setting in known_settings() or ".options." in setting
        if setting == "training.minutes":
            continue  # excludes --steps
        if option.is_flag:
            arguments.append(option.opts[0])
            expected[setting] = True
            continue
        kind = type(option.type.convert("64", option, None))
        value = "fp32" if setting == "training.precision" else values.get(kind, "word")
        arguments += [option.opts[0], value]
        expected[setting] = kind(value)
    config, sources = shown(capsys, *arguments)
    assert {setting: config[setting] for setting in expected} == expected
    assert {sources[setting] for setting in expected} == {"command line"}


def test_the_stronger_layer_wins_and_every_value_knows_its_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task, file = tmp_path / "mine.py", tmp_path / "run.toml"
    task.write_text(TASK)
    file.write_text("[training]\nseed = 12\nwarmup = 0.4\nbatch_size = 5\n[loss]\nclip = 0.3\n")
    arguments = ["--task-plugin", str(task), "--config", str(file)]
    arguments += ["--set", "training.seed=13", "--set", "training.warmup=0.3", "--seed", "14"]
    config, sources = shown(capsys, *arguments)
    told = {key: (config[key], sources[key]) for key in config}
    assert told["training.seed"] == (14, "command line")
    assert told["training.warmup"] == (0.3, "--set")
    assert told["loss.clip"] == (0.3, f"file {file}")
    assert told["training.batch_size"] == (5, f"file {file}")
    assert told["loss.box"] == (0.75, "task mine")
    assert told["training.gradient_norm"] == (1.0, "preset quick")
    assert told["loss.no_object"] == (0.1, "default")
    assert told["task"] == ("mine", "command line")
    assert set(sources) == set(config)


@pytest.mark.parametrize(
    ("arguments", "preset", "source"),
    [
        ((), "quick", "default"),
        (("--preset", "paper-large", "--set", "preset=quick"), "paper-large", "command line"),
        (("--set", "preset=paper-large"), "paper-large", "--set"),
    ],
)
def test_the_preset_knows_its_layer_too(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], preset: str, source: str) -> None:
    config, sources = shown(capsys, "--task-plugin", "shadow", *arguments)
    assert (config["preset"], sources["preset"]) == (preset, source)


def test_show_config_for_people_has_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    config, sources = shown(capsys, "--task-plugin", "shadow")
    assert call("--task-plugin", "shadow", "--show-config") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" = ")[0] for line in lines] == list(config)
    assert all(line.endswith(f"# {sources[key]}") for line, key in zip(lines, config, strict=True))


def test_a_file_may_name_the_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.toml"
    file.write_text('task = "defocus"\n')
    assert shown(capsys, "--config", str(file))[0]["task"] == "defocus"
    assert shown(capsys, "--config", str(file), "--task-plugin", "salient")[0]["task"] == "salient"


WRONG = {
    "no task": ([], "which task? Say --task-plugin NAME"),
    "unknown task": (["--task-plugin", "shadwo"], "there is no task 'shadwo'; did you mean shadow?"),
    "unknown preset": (["--task-plugin", "shadow", "--preset", "quik"], "there is no preset 'quik'; did you mean quick?"),
    "unknown setting": (
        ["--task-plugin", "shadow", "--set", "loss.clop=1"],
        "--set: there is no setting 'loss.clop'; did you mean loss.clip",
    ),
    "no value": (["--task-plugin", "shadow", "--set", "loss.clip"], "write it as dotted.key=value"),
    "out of range": (["--task-plugin", "shadow", "--batch-size", "0"], "command line: training.batch_size = 0: "),
    "not a number": (["--task-plugin", "shadow", "--steps", "many"], "'many' is not a valid integer"),
    "no such choice": (["--task-plugin", "shadow", "--precision", "fp8"], "training.precision = 'fp8': "),
    "no such file": (["--task-plugin", "shadow", "--config", "nowhere.toml"], "configuration file nowhere.toml does not exist"),
    "resume nothing": (["--resume", "nowhere"], "nowhere is not the folder of a run"),
    "resume and out": (["--resume", "nowhere", "--out", "there"], "--resume takes its settings from the run's own folder"),
    "misspelt option": (["--task-plugin", "shadow", "--bach-size", "4"], "--batch-size"),
}


@pytest.mark.parametrize(("arguments", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_call_gets_one_clear_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert reason in err
    assert len(err.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.toml"
    for text, reason in (
        ("training = [", "cannot be read as TOML"),
        ("[training]\nstep = 3", "there is no setting 'training.step'; did you mean"),
    ):
        file.write_text(text)
        assert call("--task-plugin", "shadow", "--config", str(file)) == 2
        err = capsys.readouterr().err
        assert str(file) in err
        assert reason in err


def test_completion_offers_tasks_presets_and_none() -> None:
    def offered(option: str, start: str) -> list[str]:
        words = f"focus train {option} {start}".split(" ")
        environment = {"_FOCUS_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        output = CliRunner().invoke(frame.focus, prog_name="focus", env=environment).output
        return [line.split(",")[1] for line in output.splitlines()]

    assert offered("--task-plugin", "sh") == ["shadow"]
    assert offered("--preset", "qu") == ["quick"]
    assert offered("--refiner", "no") == ["none"]
