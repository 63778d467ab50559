"""Runs that are stopped, and runs that go wrong: what they say, and what they leave."""

from __future__ import annotations

import itertools
import json
import logging
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from support.training import StopError, lines, run, saved, tiny

import focus_framework as focus
from focus_framework import ConfigError, DataError
from focus_framework import cli as frame
from focus_framework.files.atomic import BESIDE
from focus_framework.files.images import write_image
from focus_framework.plugin.registry import registry
from focus_framework.training.health import DivergedError
from focus_framework.training.loop import Progress
from focus_framework.training.memory import MemoryShortError
from focus_framework.training.processes.stopping import StoppedError
from focus_framework.training.record import folder as run_folder
from focus_framework.training.record.folder import SaveError
from focus_framework.training.run import train


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at them here, and drawing takes longer than training."""
    monkeypatch.setattr("focus_framework.training.run.write_report", lambda *arguments: None)


def at_step(step: int, act: Callable[[], object]) -> Callable[[Progress], None]:
    def on_progress(progress: Progress) -> None:
        if progress.step == step:
            act()

    return on_progress


def start(folder: Path, on_progress: Callable[[Progress], None], **settings: Any) -> None:
    train(tiny(**settings), registry().find_task("shadow"), folder, on_progress=on_progress)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run of which half is done."""

    def stop() -> None:
        raise StopError

    with pytest.raises(StopError):
        start(tmp_path / "run", at_step(3, stop))
    return tmp_path / "run"


class TestSignals:
    @pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138)])
    def test_the_step_is_finished_and_saved_and_the_run_goes_on_exactly(self, tmp_path: Path, name: str, code: int) -> None:
        with pytest.raises(StoppedError, match=rf"{name} after step 3, .*focus train --resume") as stopped:
            start(tmp_path / "run", at_step(2, lambda: os.kill(os.getpid(), getattr(signal, name))))
        assert stopped.value.exit_code == code
        assert saved(tmp_path / "run").step == 3
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    def test_a_run_that_goes_on_after_a_signal_is_exact(self, tmp_path: Path) -> None:
        """The signal comes at a step where nothing would have been saved or scored."""
        settings = {"training.steps": 6, "training.checkpoint_every": 3, "training.ema": 0.9}
        whole = run(tmp_path / "whole", **settings)
        with pytest.raises(StoppedError):
            start(tmp_path / "run", at_step(1, lambda: os.kill(os.getpid(), signal.SIGTERM)), **settings)
        assert saved(tmp_path / "run").step == 2
        again = run(tmp_path / "run", resume=True, **settings)
        expected, found = saved(whole.folder).update, saved(again.folder).update
        for part in ("network", "average"):
            for name, tensor in expected[part].items():
                assert torch.equal(tensor, found[part][name]), name
        assert dict(again.validation) == dict(whole.validation)

    def test_a_second_interrupt_ends_at_once(self, tmp_path: Path) -> None:
        def twice() -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            start(tmp_path / "run", at_step(1, twice))

    def test_the_command_line_ends_with_the_shells_code(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def stopped(*arguments: Any, **options: Any) -> None:
            raise StoppedError(signal.SIGTERM, 7, tmp_path)

        monkeypatch.setattr("focus_framework.training.run.train", stopped)
        with pytest.raises(SystemExit) as ended:
            frame.main(["train", "--task-plugin", "shadow"])
        assert ended.value.code == 143
        assert f"focus train --resume {tmp_path}" in capsys.readouterr().err


class TestOneRunInAFolder:
    def test_a_second_run_refuses(self, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(run_folder, "LOCK_PATIENCE", 0.1)
        with FileLock(begun / run_folder.LOCK), pytest.raises(ConfigError, match=r"another run is writing to .*--out"):
            run(begun, resume=True)
        run(begun, resume=True)

    def test_what_differs_is_named(self, begun: Path) -> None:
        with pytest.raises(ConfigError) as refused:
            run(begun, resume=True, **{"training.seed": 3, "decoder.layers": 3, "data.practice_count": 9})
        message = str(refused.value)
        assert "training.seed = 3, was 0" in message
        assert "decoder.layers = 3, was 2" in message
        assert "data.practice_count = 9, was 8" in message
        assert "number of training images = 9, was 8" in message
        assert "training.steps" not in message

    def test_another_task_is_named(self, begun: Path) -> None:
        with pytest.raises(ConfigError, match="task = 'salient', was 'shadow'"):
            run(begun, "salient", resume=True)

    def test_what_may_change_may(self, begun: Path) -> None:
        changed = {
            "training.steps": 5,
            "data.workers": 1,
            "training.log_every": 2,
            "training.checkpoint_every": 3,
            "training.accumulate": 2,
        }
        summary = run(begun, resume=True, **changed)
        assert summary.steps == 5


class TestDisk:
    def check_that_the_last_checkpoint_is_whole(self, folder: Path) -> None:
        focus.load(folder / "checkpoint.safetensors", device="cpu")
        focus.load(folder / "best.safetensors", device="cpu")
        assert not [path for path in folder.rglob("*") if BESIDE.fullmatch(path.name)]
        assert run(folder, resume=True).steps == 4

    @pytest.mark.parametrize("share", [0.5, 1.5])
    def test_a_disk_that_is_full(self, tmp_path: Path, share: float) -> None:
        """First there is room for half a checkpoint, then for checkpoints but not for the state."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        folder = tmp_path / "run"

        def fill() -> None:
            checkpoint, state = ((folder / name).stat().st_size for name in ("checkpoint.safetensors", "training-state/state.pt"))
            assert 1.5 * checkpoint < state
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * checkpoint), before[1]))

        try:
            with pytest.raises(SaveError, match=r"cannot write to .*: .*make room"):
                start(folder, at_step(3, fill))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        self.check_that_the_last_checkpoint_is_whole(folder)

    @pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_became_read_only(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        try:
            with pytest.raises(SaveError, match="Permission denied"):
                start(folder, at_step(3, lambda: folder.chmod(0o500)))
        finally:
            folder.chmod(0o700)
        self.check_that_the_last_checkpoint_is_whole(folder)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
    def test_a_folder_that_is_removed(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"  # moved, not deleted: a deletion races with the thread that writes TensorBoard's events
        # The log or the checkpoint notices first.
        with pytest.raises(SaveError, match=r"(cannot write to|folder) \S*/run(:| is gone;)"):
            start(folder, at_step(3, lambda: folder.rename(tmp_path / "elsewhere")))
        assert not folder.exists()

    def test_a_run_that_never_began_leaves_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError):
            run(tmp_path / "run", **{"data.train": str(tmp_path / "nothing")})
        assert not (tmp_path / "run").exists()


class TestNumbers:
    def broken(self, monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> None:
        """Losses that are not numbers in the calls of these numbers, from 1."""
        from focus_framework.training import update

        original, calls = update.losses, itertools.count(1)

        def losses(*arguments: Any) -> Any:
            terms, heads = original(*arguments)
            return terms._replace(mask=terms.mask * (float("nan") if next(calls) in bad else 1.0)), heads

        monkeypatch.setattr(update, "losses", losses)

    def test_single_bad_steps_are_left_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken(monkeypatch, {2, 3})
        run(tmp_path)
        assert all(tensor.isfinite().all() for tensor in saved(tmp_path).update["network"].values())
        assert [line["loss"] is None for line in lines(tmp_path)] == [False, True, True, False]

    def test_too_many_in_a_row_stop_the_run_and_are_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken(monkeypatch, {3, 4, 5})
        with pytest.raises(DivergedError, match=r"at step 5, after 3 .*bad-batches.json"):
            run(tmp_path, **{"training.steps": 8, "training.log_every": 8, "training.checkpoint_every": 6})
        written = json.loads((tmp_path / "bad-batches.json").read_text())
        assert [bad["step"] for bad in written] == [3, 4, 5]
        assert all(len(bad["names"]) == 2 for bad in written)

    def test_weights_that_are_no_numbers_are_never_saved(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from focus_framework.training import loop

        original = loop.Update.state

        def poisoned(update: Any) -> Any:
            state = original(update)
            if update.optimizer.state and next(iter(update.optimizer.state.values()))["step"] > 2:
                update.model.network.decoder.class_head.bias.data[0] = float("inf")
            return state

        monkeypatch.setattr(loop.Update, "state", poisoned)
        with pytest.raises(DivergedError, match="the weights are NaN or infinite at step 4"):
            run(tmp_path)
        assert saved(tmp_path).step == 2


class TestMemory:
    @pytest.fixture
    def room_for(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
        from focus_framework.model.network import Network

        original = Network.forward

        def limit(pictures: int) -> None:
            def forward(network: Any, image: Any, **options: Any) -> Any:
                if network.training and len(image) > pictures:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
                return original(network, image, **options)

            monkeypatch.setattr(Network, "forward", forward)

        return limit

    def test_too_little_is_one_line_with_what_to_lower(self, tmp_path: Path, room_for: Callable[[int], None]) -> None:
        room_for(1)
        with pytest.raises(MemoryShortError, match=r"cpu ran out of memory at step 1; lower --batch-size .*--auto-batch") as error:
            run(tmp_path)
        assert len(str(error.value).splitlines()) == 1

    def test_auto_batch_finds_the_parts_and_changes_nothing_else(self, tmp_path: Path, room_for: Callable[[int], None]) -> None:
        settings = {"training.batch_size": 6, "training.steps": 2}
        by_hand = run(tmp_path / "by-hand", **settings, **{"training.accumulate": 3})
        room_for(2)
        found = run(tmp_path / "found", **settings, **{"training.auto_batch": True})
        weights = saved(found.folder).update["network"]
        for name, tensor in saved(by_hand.folder).update["network"].items():
            assert torch.equal(tensor, weights[name]), name
        room_for(0)
        with pytest.raises(MemoryShortError, match="not even one image"):
            run(tmp_path / "none", **settings, **{"training.auto_batch": True})

    def test_auto_batch_looks_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from focus_framework.training import loop

        calls, original = [], loop.find_parts
        monkeypatch.setattr(loop, "find_parts", lambda *arguments: (calls.append(arguments), original(*arguments))[1])
        run(tmp_path, **{"training.steps": 4, "training.log_every": 1, "training.checkpoint_every": 2, "training.auto_batch": True})
        assert len(calls) == 1


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Path]:
    """Eight pairs in a folder."""
    random = np.random.default_rng(0)
    for index in range(8):
        write_image(tmp_path / f"data/images/{index}.png", random.integers(0, 255, (80, 80, 3), dtype=np.uint8))
        write_image(tmp_path / f"data/masks/{index}.png", (np.indices((80, 80))[0] > 5 * index).astype(np.uint8) * 255)
    yield tmp_path / "data"


class TestData:
    settings = {"data.validation_share": 0.25, "preprocessing.resize": "square"}  # noqa: RUF012  (never changed)

    def test_a_image_that_becomes_unreadable_stops_the_run(self, pictures: Path, tmp_path: Path) -> None:
        def spoil() -> None:
            for picture in (pictures / "images").iterdir():
                picture.write_bytes(b"no image")

        with pytest.raises(DataError, match=r"images/\d.png"):
            start(tmp_path / "run", at_step(2, spoil), **self.settings, **{"data.train": str(pictures)})

    def test_or_is_skipped_and_counted(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(logging.getLogger("focus_framework"), "propagate", True)  # the command line turns it off
        training = {"data.train": f"images={pictures / 'images'},masks={pictures / 'masks'}", "data.unreadable": "skip"}
        bad = pictures / "images/3.png"
        bad.write_bytes(b"no image")
        run(tmp_path / "run", **self.settings, **training, **{"training.steps": 8})
        last = lines(tmp_path / "run")[-1]
        state = saved(tmp_path / "run")
        named = [record for record in caplog.messages if "3.png" in record]
        assert named
        assert last.get("skipped", 0) == len(state.skipped) <= 1
        assert "3" in state.skipped or "left out: " in named[0]

    def test_a_loader_process_that_dies(self, tmp_path: Path) -> None:
        def kill_one() -> None:
            import multiprocessing

            child = multiprocessing.active_children()[0]
            assert child.pid
            os.kill(child.pid, signal.SIGKILL)
            child.join(5)

        with pytest.raises(DataError, match=r"a process that reads images has died .*data.workers"):
            start(tmp_path / "run", at_step(1, kill_one), **{"data.workers": 1, "training.steps": 50})
