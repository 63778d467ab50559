"""Predicting by Ray on a cluster of two nodes: the same bytes, broken images told, a node or the driver killed in the middle."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_many import image

pytest.importorskip("ray.data", reason="the extra ray is not installed")
import ray
from pyarrow import parquet
from ray import cluster_utils
from support.training import tiny

from focus_framework import ConfigError, predict_many
from focus_framework.checkpoint import describe, write_checkpoint
from focus_framework.inference.many import cluster as engine
from focus_framework.inference.many.cluster import Cluster
from focus_framework.inference.many.journal import NAME
from focus_framework.model.build import build_network
from focus_framework.plugin.registry import registry

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
STORE = 80 << 20  # bytes of an object store, the least that Ray takes; no image passes through
COUNT, EVERY = 132, 33  # images, of which every 33rd is broken: 3 %


@pytest.fixture(scope="module")
def nodes() -> Iterator[cluster_utils.Cluster]:
    on_sigterm = signal.getsignal(signal.SIGTERM)
    head = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    signal.signal(signal.SIGTERM, on_sigterm)  # a node puts its own in its place


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config, entry = tiny().config, registry().find_task("shadow")
    path = tmp_path_factory.mktemp("ray") / "best.safetensors"
    write_checkpoint(path, build_network(config).state_dict(), describe(config, build_network(config), entry, entry.get().pairs()))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("images")
    for number in range(COUNT):
        path = image(place / f"{number:03}.png", number)
        if number % EVERY == 0:
            path.write_bytes(path.read_bytes()[:40])
    return place


@pytest.fixture(scope="module")
def expected(checkpoint: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What this process makes of them."""
    out = tmp_path_factory.mktemp("here") / "out"
    predict_many(folder, checkpoint, out, batch_size=1)
    return masks(out)


def masks(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("[0-9]*.png")}


def when(condition: Callable[[], bool], act: Callable[[], Any]) -> threading.Thread:
    def watch() -> None:
        until = time.monotonic() + 120
        while not condition() and time.monotonic() < until:
            time.sleep(0.005)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_masks_are_the_same_and_a_node_may_go_away(
    nodes: cluster_utils.Cluster,
    checkpoint: Path,
    folder: Path,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "BLOCK", 4)
    other = nodes.add_node(num_cpus=1, object_store_memory=STORE)
    out, settled = tmp_path / "out", []
    thread = when(lambda: len(masks(out)) >= 12, lambda: nodes.remove_node(other, allow_graceful=False))
    call, on_sigterm = Cluster(address=nodes.address, actors=2, device="cpu"), signal.getsignal(signal.SIGTERM)
    report = predict_many(folder, checkpoint, out, batch_size=1, cluster=call, on_done=lambda entry, *_: settled.append(entry.path.name))
    thread.join()
    broken = {f"{number:03}.png" for number in range(0, COUNT, EVERY)}
    assert masks(out) == expected
    assert sorted(settled) == [f"{number:03}.png" for number in range(COUNT)]  # each once, though some were begun twice
    assert {Path(path).name for path, _ in report.failures()} == broken
    rows = parquet.read_table(out / "inputs.parquet").to_pylist()
    assert len(rows) == COUNT
    assert {Path(row["input"]).name for row in rows if row["status"] == "failed"} == broken
    assert all("not an image" in row["error"] for row in rows if row["status"] == "failed")
    assert all(row["seconds"] > 0 for row in rows)
    assert ray.is_initialized() is False
    assert signal.getsignal(signal.SIGTERM) == on_sigterm  # whoever called keeps what Ctrl-C and its like do


def test_a_driver_that_is_killed_resumes(
    nodes: cluster_utils.Cluster, checkpoint: Path, folder: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    script = """
import sys
from focus_framework import predict_many
from focus_framework.inference.many import cluster, journal
cluster.BLOCK, journal.INTERVAL = 4, 0.0
model, folder, out, address = sys.argv[1:]
report = predict_many(folder, model, out, batch_size=1, cluster=cluster.Cluster(address=address, actors=1, device="cpu"))
print(report.before, report.done)
"""
    call = [sys.executable, "-c", script, str(checkpoint), str(folder), str(out), nodes.address]
    driver = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(masks(out)) < 20 and driver.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    assert driver.poll() is None
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    with sqlite3.connect(out / NAME) as table:
        done = {os.fsdecode(path) for (path,) in table.execute("SELECT name FROM images WHERE state = 1")}
        table.rollback()
    assert 0 < len(done) < COUNT - 4
    before = {name: (out / f"{name}.png").stat().st_mtime_ns for name in done}
    again = subprocess.run(call, capture_output=True, text=True)
    assert again.stdout.split() == [str(len(done)), str(COUNT - 4)], again.stderr
    assert {name: (out / f"{name}.png").stat().st_mtime_ns for name in done} == before  # what was done is not done again
    assert masks(out) == expected
    assert [path.name for path in out.iterdir() if path.name.startswith(".focus-") and path.name not in (NAME, ".focus-framework")] == []


def test_what_cannot_be_is_told(nodes: cluster_utils.Cluster, checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not fit this cluster"):
        predict_many(folder, checkpoint, tmp_path / "out", cluster=Cluster(address=nodes.address, cpus=64))
    with pytest.raises(ConfigError, match=r"Ray cannot be reached at 127\.0\.0\.1:1"):
        predict_many(folder, checkpoint, tmp_path / "out", cluster=Cluster(address="127.0.0.1:1"))
