"""Two processes on this machine's CPU (gloo), started as a user starts them, against one process with the same batch: each with the
whole network, and with one that is shared out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from support.clip import write_model
from support.training import TINY, run, saved
from torch import Tensor

import focus_framework as focus
from focus_framework.checkpoint import describe, write_checkpoint
from focus_framework.config.layers import resolve
from focus_framework.data.augment import Augmentation
from focus_framework.data.dataset import PracticeImages, TrainingSamples, batches
from focus_framework.errors import ConfigError
from focus_framework.model.build import build_network
from focus_framework.plugin.registry import registry
from focus_framework.training.processes.sharding import asked_by_launcher
from focus_framework.training.processes.unused import without_gradient
from focus_framework.training.update import share_of_batch

SETTINGS = {
    **TINY,
    "training.batch_size": 4,
    "training.steps": 6,
    "training.checkpoint_every": 3,
    "training.ema": 0.9,
    "backbone.options.drop_path_rate": 0.0,  # chance inside the network is of a process, not of a sample
    # What lies at a threshold, of an attention mask or of the most uncertain points, falls to one side by rounding, and then curves part by
    # 1e-4 to 5e-3 within six steps. With this seed nothing does, whatever the number of processes: what is left is rounding itself, 2e-6.
    "training.seed": 1,
}
TWO = ["--num_processes=2", "--main_process_port={port}", "-m", "focus_framework"]
LAUNCH = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "focus_framework"],
    "accelerate": ["accelerate.commands.launch", "--cpu", *TWO],
    "accelerate fsdp": ["accelerate.commands.launch", "--use_fsdp", "--fsdp_version=2", *TWO],
}
"""As docs/several-devices.md shows them, here on the CPU."""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SHARD = ("--set", "training.shard=true")
NAMES = ("loss", "loss_clip", "loss_label", "loss_mask", "loss_box", "gradient_norm")
PAGE = Path(__file__).parents[1] / "docs" / "several-devices.md"


def words(folder: Path) -> list[str]:
    assignments = [f"{name}={json.dumps(value)}" for name, value in SETTINGS.items()]
    return ["train", "--task-plugin", "shadow", *(word for text in assignments for word in ("--set", text)), "--out", str(folder)]


def launched(launcher: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:  # not every accelerate finds one by itself
        port = free.getsockname()[1]
    return finished([sys.executable, "-m", *(part.format(port=port) for part in LAUNCH[launcher]), *words(folder), *more])


def resumed(folder: Path, *more: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    return torchrun("-m", "focus_framework", "train", "--resume", str(folder), *more, processes=processes)


def torchrun(*program: str, processes: int) -> subprocess.CompletedProcess[str]:
    return finished([sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *program])


def finished(call: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(call, env=ENVIRONMENT, capture_output=True, text=True, timeout=500)


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one") / "run"
    run(folder, **SETTINGS)
    return folder


@pytest.fixture(scope="module", params=["whole", "shared out"])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "run"
    more = (*SHARD, "--set", "training.checkpoint_activations=true") if request.param == "shared out" else ()
    ended = launched("torchrun", folder, *more)
    assert ended.returncode == 0, ended.stderr[:9000]
    assert ended.stderr.count("training on ") == ended.stderr.count("deformable attention on ") == 1, "only the leading process speaks"
    assert ended.stdout.count("best checkpoint") == 1
    return folder


def largest_difference(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> float:
    """Relative, of any number of the curves."""
    return max(abs(one[name] - other[name]) / max(1.0, abs(other[name])) for one, other in zip(ours, theirs, strict=True) for name in NAMES)


def test_two_processes_give_the_loss_curve_of_one(alone: Path, together: Path) -> None:
    """Every sum of the losses, every norm and every gradient is over the whole batch, so only rounding differs."""
    ours, theirs = lines(together), lines(alone)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [1, 2, 3, 4, 5, 6]
    difference = largest_difference(ours, theirs)
    print(f"largest relative difference of the curves: {difference:.1e}")
    assert difference < 1e-4
    assert len({line["loss"] for line in theirs}) == 6


def test_the_scores_are_those_of_one(alone: Path, together: Path) -> None:
    scores = [
        {name: value for line in lines(folder) for name, value in line.items() if name.startswith("validation_")}
        for folder in (alone, together)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_checkpoint_and_state_are_those_of_one(alone: Path, together: Path) -> None:
    ours, theirs = load_file(together / "checkpoint.safetensors"), load_file(alone / "checkpoint.safetensors")
    close(ours, theirs)
    close(saved(together).update["network"], saved(alone).update["network"])
    moments = saved(alone).update["optimizer"]["state"]
    assert saved(together).update["optimizer"]["state"].keys() == moments.keys()
    assert all(name.startswith("network.") for name in moments)
    focus.load(together / "best.safetensors", device="cpu")


def close(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-3, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture(scope="module")
def expected(alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process, one step on."""
    folder = shutil.copytree(alone, tmp_path_factory.mktemp("expected") / "run")
    run(folder, resume=True, **{**SETTINGS, "training.steps": 7})
    return folder


def test_one_process_goes_on_with_what_two_began(expected: Path, together: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(together, tmp_path / "run")
    run(folder, resume=True, **{**SETTINGS, "training.steps": 7})
    went_on_as(expected, folder)


def test_two_that_share_go_on_with_what_one_began(expected: Path, alone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(alone, tmp_path / "run")
    ended = resumed(folder, "--steps", "7", *SHARD)
    assert ended.returncode == 0, ended.stderr[:9000]
    went_on_as(expected, folder)


def went_on_as(expected: Path, folder: Path) -> None:
    assert saved(folder).step == 7
    assert largest_difference(lines(folder), lines(expected)) < 1e-4
    close(load_file(folder / "checkpoint.safetensors"), load_file(expected / "checkpoint.safetensors"))


def test_each_process_has_its_share_of_every_parameter(tmp_path: Path) -> None:
    script = tmp_path / "shares.py"
    script.write_text(SHARES.format(settings=SETTINGS, tests=str(Path(__file__).parent)))
    ended = torchrun(str(script), processes=2)
    assert ended.returncode == 0, ended.stderr[:9000]
    shares = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    assert len(shares) == 2
    for part in ("weights", "average", "moments"):
        assert sum(share[part] for share in shares) == shares[0][f"all {part}"]
        assert max(share[part] for share in shares) < 0.6 * shares[0][f"all {part}"]
    assert shares[0]["layers"] >= 4 + 2  # blocks of the backbone, layers of the decoder


SHARES = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
from support.training import tiny
from torch.distributed.fsdp import FSDPModule
from focus_framework.plugin.registry import registry
from focus_framework.training.run import assemble, begin

settings = tiny(**{settings!r}, **{{"training.shard": True}})
accelerator, team = begin(settings.config)
trainer, data = assemble(settings, registry().find_task("shadow"), Path(), accelerator, team)
update = trainer.update
update(next(data.batches(settings.config, team, first_step=0, device=accelerator.device)), 0, 1e-4)
moments = [state["exp_avg"] for state in update.optimizer.state.values()]
found = {{"layers": sum(isinstance(module, FSDPModule) for module in update.model.network.modules())}}
parts = {{"weights": update.model.network.parameters(), "average": update.average.parameters(), "moments": moments}}
for name, tensors in parts.items():
    tensors = list(tensors)
    found[name], found[f"all {{name}}"] = sum(t.to_local().numel() for t in tensors), sum(t.numel() for t in tensors)
print(json.dumps(found) + "\\n", end="", flush=True)
team.wait()
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings of the refiner that is trained along, with a small CLIP of random weights. Steps are small: Adam makes whole ones of
    gradients that are rounding alone."""
    model = write_model(tmp_path_factory.mktemp("clip"))
    refiner = {"refiner.name": "clip-release", "refiner.options.model": model, "refiner.options.weights": "random"}
    return {**refiner, "training.learning_rate": 1e-5}


@pytest.mark.parametrize("more", [(), SHARD], ids=["whole", "shared out"])
def test_what_a_refiner_trains_along_is_that_of_one_process(
    clip: dict[str, Any], alone_with_clip: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """Its gradients and batch norms too are over all images."""
    words = (word for name, value in clip.items() for word in ("--set", f"{name}={json.dumps(value)}"))
    ended = launched("torchrun", tmp_path / "run", *words, *more, "--steps", "3")
    assert ended.returncode == 0, ended.stderr[:9000]
    assert largest_difference(lines(tmp_path / "run"), lines(alone_with_clip)) < 1e-4
    ours, theirs = saved(tmp_path / "run").update["refiner"], saved(alone_with_clip).update["refiner"]
    assert ours.keys() == theirs.keys() and "image_embed.bn1.running_var" in theirs
    for name, tensor in theirs.items():
        if name.endswith("bn1.bias"):  # the layer norm behind it takes it off again: its gradient is rounding alone
            continue
        torch.testing.assert_close(ours[name], tensor, atol=2e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture(scope="module")
def alone_with_clip(clip: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one-clip") / "run"
    run(folder, **{**SETTINGS, **clip, "training.steps": 3})
    return folder


@pytest.mark.parametrize("launcher", ["accelerate", "accelerate fsdp"])
def test_accelerate_launches_it_too(tmp_path: Path, launcher: str) -> None:
    ended = launched(launcher, tmp_path / "run", "--steps", "2")
    assert ended.returncode == 0, ended.stderr[:9000]
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2]
    shared = "weights and optimizer state are sharded" in ended.stderr
    assert shared == (launcher == "accelerate fsdp")


def test_the_first_fsdp_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(ConfigError, match="--fsdp_version 2"):
        asked_by_launcher()
    assert "ACCELERATE_USE_FSDP" not in os.environ


def test_the_page_shows_these_calls() -> None:
    page = PAGE.read_text("utf-8")
    assert "torchrun --standalone --nproc_per_node=2 -m focus_framework train --task-plugin shadow" in page
    assert "accelerate launch --num_processes=2 -m focus_framework train --task-plugin shadow" in page
    assert "accelerate launch --use_fsdp --fsdp_version=2 --num_processes=2 -m focus_framework train --task-plugin shadow" in page


@contextmanager
def long_run(folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Two processes that have done a step of many."""
    call = [sys.executable, "-m", *LAUNCH["torchrun"], *words(folder), "--steps", "5000", "--checkpoint-every", "5000", *more]
    with subprocess.Popen(call, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 300
        while not ((folder / "metrics.jsonl").exists() and len(lines(folder)) > 1) and time.monotonic() < until:
            time.sleep(0.2)
        yield process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_stops_all_at_one_step_and_saves(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    with long_run(folder, *(SHARD if number == signal.SIGINT else ())) as process:
        process.send_signal(number)
        _, told = process.communicate(timeout=300)
    assert process.returncode != 0
    assert told.count(f"stopped by {number.name} after step") == 1
    assert saved(folder).step == len(lines(folder))


def test_a_process_that_is_killed_ends_the_others_with_a_line(tmp_path: Path) -> None:
    with long_run(tmp_path / "run") as process:
        _, helper = psutil.Process(process.pid).children()
        helper.kill()
        killed = time.monotonic()
        _, told = process.communicate(timeout=300)
    assert process.returncode != 0
    assert time.monotonic() - killed < 45  # the launcher gives the others half a minute
    assert "error: process 0 of 2 lost another one" in told and "focus train --resume" in told


def test_a_dry_run_is_told_once(tmp_path: Path) -> None:
    ended = torchrun("-m", "focus_framework", *words(tmp_path / "run"), "--dry-run", *SHARD, processes=2)
    assert ended.returncode == 0, ended.stdout + ended.stderr[:6000]
    assert ended.stdout.count("nothing was written") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("shared_out", [False, True], ids=["whole", "shared out"])
def test_two_processes_train_several_tasks_as_one_does(shared_out: bool, tmp_path: Path) -> None:
    """Two tasks that are told apart by examples; three steps, two of which begin anew in two processes."""
    settings = {
        **SETTINGS,
        "training.steps": 3,
        "training.checkpoint_every": 3,
        "refiner.name": "none",
        "conditioner.name": "example",
        "conditioner.examples": 2,
        "training.shard": shared_out,
    }
    from focus_framework.training.plan import plan
    from focus_framework.training.run import train

    del settings["training.ema"]
    train(*plan("shadow,salient", options={**settings, "training.shard": False}), tmp_path / "one")
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    two = tmp_path / "two"
    ended = torchrun("-m", "focus_framework", "train", "--task-plugin", "shadow,salient", *words, "--out", str(two), processes=2)
    assert ended.returncode == 0, ended.stderr[:9000]
    assert largest_difference(lines(two), lines(tmp_path / "one")) < 1e-4
    ours, theirs = (load_file(folder / "checkpoint.safetensors")["conditioner.vectors"] for folder in (two, tmp_path / "one"))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_three_processes_go_on_where_one_stopped(tmp_path: Path) -> None:
    """With fewer validation images than processes."""
    folder = tmp_path / "run"
    settings = {**SETTINGS, "training.batch_size": 6, "data.validation_limit": 2, "training.steps": 2}
    run(folder, **settings)
    ended = resumed(folder, "--steps", "4", processes=3)
    assert ended.returncode == 0, ended.stderr[:9000]
    assert [line["step"] for line in lines(folder)] == [1, 2, 3, 4]
    assert saved(folder).step == 4


def test_every_sample_is_seen_once_a_pass() -> None:
    task = registry().get("task", "shadow")
    samples = TrainingSamples(PracticeImages(task, 12, size=64), Augmentation.of_task("none", 64, task), seed=0)
    seen: list[str] = []
    for rank in range(3):
        own = batches(samples, batch_size=2, rank=rank, processes=3)
        seen += [name for _, batch in zip(range(2), own, strict=False) for name in batch["name"]]
    assert sorted(seen) == sorted(samples.images.names)


def test_a_batch_that_cannot_be_shared_says_what_could() -> None:
    from support.training import tiny

    with pytest.raises(ConfigError, match=r"a batch of 4 cannot be shared by 3 process.*multiple of 3"):
        share_of_batch(tiny(**{"training.batch_size": 4}).config, 3)
    assert share_of_batch(tiny(**{"training.batch_size": 12, "training.accumulate": 2}).config, 3) == 4


FROM_PARENT = """
import json, sys
from pathlib import Path
from support.training import TINY
from focus_framework.training.plan import plan
from focus_framework.training.run import train

parent, folder = Path(sys.argv[1]), Path(sys.argv[2])
routine = {name: value for name, value in TINY.items() if name.startswith(("training.", "data.", "loss."))}
for name, more in {"all": {}, "frozen": {"backbone.frozen": True}}.items():
    settings = {**routine, "training.steps": 2, "decoder.layers": 3, "data.validation_limit": 1, "init": str(parent), **more}
    train(*plan("shadow", options=settings), folder / name)
"""


def test_from_a_checkpoint_with_parts_that_are_new_frozen_or_never_run(tmp_path: Path) -> None:
    """The last norm of `pit_ti_224` is there and is not run: no gradient ever comes for it."""
    settings = {name: value for name, value in TINY.items() if not name.startswith("backbone.options.")}
    resolved = resolve("shadow", options={**settings, "backbone.name": "pit_ti_224", "backbone.weights": "none", "enhancer.name": "none"})
    entry = registry().find_task("shadow")
    torch.manual_seed(0)
    network = build_network(resolved.config)
    assert without_gradient(network, 64) == ["encoder.backbone.body.body.norm.weight", "encoder.backbone.body.body.norm.bias"]
    parent = tmp_path / "parent.safetensors"
    write_checkpoint(parent, network.state_dict(), describe(resolved.config, network, entry, entry.get().pairs()))
    program = tmp_path / "program.py"
    program.write_text(FROM_PARENT)
    environment = {**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parent)}
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(program), str(parent), str(tmp_path)]
    ended = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stderr[-9000:]
    before, tuned = load_file(parent), {name: load_file(tmp_path / name / "checkpoint.safetensors") for name in ("all", "frozen")}
    body = [name for name in before if name.startswith("encoder.backbone.") and ".body.norm." not in name]
    assert not any(torch.equal(tuned["all"][name], before[name]) for name in body if name.endswith("qkv.weight"))
    assert all(torch.equal(tuned["frozen"][name], before[name]) for name in body)
    assert [line["step"] for name in tuned for line in lines(tmp_path / name)] == [1, 2, 1, 2]
