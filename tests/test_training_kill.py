"""A run that is killed (SIGKILL) at any moment, also while it writes a checkpoint, ends bit for bit as one that never was; so does one
that fine-tunes, whether its parent is still there or not.

The runs happen in a process of their own, which imports everything once and forks for each of them:
``python tests/test_training_kill.py FOLDER``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MOMENTS = 10


class Moments:
    """Counts what a run does, and kills its process in the middle of number `last`."""

    def __init__(self, last: int = -1) -> None:
        self.last, self.log = last, []

    def __call__(self, what: str, halve: Path | None = None) -> None:
        self.log.append(what)
        if len(self.log) - 1 == self.last:
            if halve:
                os.truncate(halve, halve.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)


def watched_run(folder: Path, moments: Moments, *, resume: bool = False, workers: int = 0, parent: Path | None = None) -> None:
    """A run in which every step, every half-written file, and every file before and after it gets its name is a moment."""
    import torch
    from support.training import TINY, tiny

    from focus_framework.checkpoint import format as checkpoint_format
    from focus_framework.files import atomic as files
    from focus_framework.plugin.registry import registry
    from focus_framework.training import run as module
    from focus_framework.training.plan import plan

    def after(function: Callable[..., Any], what: str, where: int | None = None) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            moments(what, None if where is None else Path(arguments[where]))
            return result

        return wrapped

    torch.save = after(torch.save, "half a state", 1)
    checkpoint_format.save_file = after(checkpoint_format.save_file, "half a checkpoint", 1)
    files.os.fsync = after(os.fsync, "before a file has its name")
    settings = {
        "training.steps": 6,
        "training.checkpoint_every": 2,
        "data.workers": workers,
        "training.ema": 0.5,
        "data.validation_limit": 2,
    }
    module.write_report = lambda *arguments: None  # nobody looks at them here, and drawing takes longer than training
    resolved, task = tiny(**settings), registry().find_task("shadow")
    if parent and resume:
        resolved, task = plan(None, resume=folder)
    elif parent:
        routine = {key: value for key, value in TINY.items() if key.startswith(("training.", "data.", "loss."))}
        resolved, task = plan("defocus", options={**routine, **settings, "training.parent_share": 0.25, "init": str(parent)})
    module.train(resolved, task, folder, resume=resume, on_progress=lambda progress: moments("step"))


def forked(work: Callable[[], None]) -> int:
    """The status of a child that does the work."""
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def main(folder: Path) -> None:
    """One whole run; then one for each of ten moments, killed and taken up again. Prints what was done as JSON."""
    import torch
    import torch.utils.tensorboard
    from support.training import tiny

    from focus_framework.training.run import train

    assert train and tiny
    torch.set_num_threads(1)
    whole = folder / "whole"

    def count() -> None:
        moments = Moments()
        watched_run(whole, moments)
        (folder / "moments.json").write_text(json.dumps(moments.log))

    assert forked(count) == 0
    log = json.loads((folder / "moments.json").read_text())
    chosen = np.random.default_rng(0).choice(np.arange(2, len(log)), MOMENTS, replace=False)  # before 2 there is no config.toml
    done = []
    for moment in sorted(chosen.tolist()):
        run = folder / f"killed-{moment}"
        status = forked(lambda run=run, moment=moment: watched_run(run, Moments(moment)))
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"moment {moment}: {status}"
        assert forked(lambda run=run: watched_run(run, Moments(), resume=True)) == 0, f"moment {moment} cannot go on"
        done.append({"what": log[moment], "folder": str(run), "whole": str(whole)})
    killed = folder / "workers"
    forked(lambda: watched_run(killed, Moments(len(log) // 2)))
    assert forked(lambda: watched_run(killed, Moments(), resume=True, workers=2)) == 0
    done.append({"what": "goes on with two loader processes", "folder": str(killed), "whole": str(whole)})
    for moment in range(2):
        early = folder / f"early-{moment}"
        assert os.WIFSIGNALED(forked(lambda run=early, moment=moment: watched_run(run, Moments(moment)))), f"moment {moment}"
        assert forked(lambda run=early: watched_run(run, Moments())) == 0, f"moment {moment} keeps others out"
        done.append({"what": "begins again", "folder": str(early), "whole": str(whole)})
    parent, tuned, killed = folder / "parent.safetensors", folder / "tuned", folder / "killed-tuned"
    shutil.copy(whole / "best.safetensors", parent)
    assert forked(lambda: watched_run(tuned, Moments(), parent=parent)) == 0
    assert os.WIFSIGNALED(forked(lambda: watched_run(killed, Moments(len(log) // 2), parent=parent)))
    parent.unlink()
    assert forked(lambda: watched_run(killed, Moments(), resume=True, parent=parent)) == 0
    done.append({"what": "fine-tunes", "folder": str(killed), "whole": str(tuned)})
    print(json.dumps(done))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("kill")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    ended = subprocess.run([sys.executable, __file__, str(folder)], env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_killed_run_ends_bit_for_bit_as_one_that_was_not(runs: list[dict[str, str]]) -> None:
    import torch
    from safetensors.torch import load_file

    from focus_framework.files.atomic import BESIDE
    from focus_framework.training.record.state import load_state

    assert len(runs) == MOMENTS + 4
    assert {"half a state", "half a checkpoint", "step"} <= {run["what"] for run in runs}

    def same(ours: Any, theirs: Any, where: str) -> None:
        if isinstance(theirs, dict):
            assert ours.keys() == theirs.keys(), where
            for key in theirs:
                same(ours[key], theirs[key], f"{where}.{key}")
        elif isinstance(theirs, list):
            for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                same(one, other, f"{where}.{index}")
        elif isinstance(theirs, torch.Tensor):
            assert torch.equal(ours, theirs), where
        else:
            assert ours == theirs, where

    for run in runs:
        folder, whole = Path(run["folder"]), Path(run["whole"])
        state, expected = load_state(folder), load_state(whole)
        for field in ("identity", "step", "update", "best", "scores", "stale"):
            same(getattr(state, field), getattr(expected, field), f"{run['what']}: {field}")
        for name in ("best.safetensors", "checkpoint.safetensors"):
            same(load_file(folder / name), load_file(whole / name), f"{run['what']}: {name}")
        logs = [[json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()] for place in (folder, whole)]
        kept = [[{k: v for k, v in line.items() if k.startswith(("step", "loss", "validation"))} for line in log] for log in logs]
        assert kept[0] == kept[1], run["what"]
        assert not [path for path in folder.rglob("*") if BESIDE.fullmatch(path.name)], run["what"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
