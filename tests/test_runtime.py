"""Waiting, threads and memory: settled before torch is loaded, and never against what the user has set."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from focus_framework import runtime, waiting
from focus_framework.training.record.summary import Summary

CLEAN = {name: value for name, value in os.environ.items() if name not in (*runtime.WAITING, "OMP_NUM_THREADS")}


def fresh(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], env={**CLEAN, **environment}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


SHOW = """
import os, sys
from focus_framework import runtime
from focus_framework.training.record.summary import Summary
done = runtime.prepare()
print(os.environ.get('GOMP_SPINCOUNT'), done.waiting, 'torch' in sys.modules)
"""
WATCHED = "None spinning, and sleeping soon while the machine is busy False"
SLEEPING = f"{runtime.SPINS} GOMP_SPINCOUNT={runtime.SPINS} False"
needs_proc = pytest.mark.skipif(waiting.used() is None, reason="the system does not say what other processes use")


@needs_proc
def test_waiting_is_watched_without_loading_torch() -> None:
    assert fresh(SHOW) == WATCHED


def test_where_nothing_can_be_watched_threads_sleep_soon() -> None:
    blind = "from pathlib import Path\nfrom focus_framework import waiting\nwaiting.STAT = Path('/nowhere')\n"
    assert fresh(blind + SHOW) == SLEEPING


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or runtime._affinity() < 3, reason="needs three processors")
def test_fewer_threads_than_processors_sleep_soon() -> None:
    """A crowd would have to be large: they are not watched."""
    assert fresh(SHOW, OMP_NUM_THREADS="2") == SLEEPING


@pytest.mark.parametrize(
    ("given", "allowed", "affinity", "expected"),
    [("", 4, 4, True), ("", 2, 8, False), ("4", 4, 4, True), ("3", 4, 4, False), ("1", 4, 4, True), ("8", 4, 4, True), ("4,2", 4, 4, True)],
)
def test_what_is_watched(given: str, allowed: int, affinity: int, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_affinity", lambda: affinity)
    assert runtime._all_busy({"OMP_NUM_THREADS": given} if given else {}, allowed) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_threads_follow_the_affinity() -> None:
    """One processor of those that there are: torch itself and what prepare says."""
    code = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from focus_framework import runtime\ndone = runtime.prepare()\nimport torch\nprint(done.threads, torch.get_num_threads())"
    assert fresh(code) == "1 1"


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "7"), ("KMP_BLOCKTIME", "0")])
def test_what_the_user_set_stays(name: str, value: str) -> None:
    spins = "7" if name == "GOMP_SPINCOUNT" else "None"
    assert fresh(SHOW, **{name: value}) == f"{spins} {name}={value} False"


def test_a_torch_that_is_loaded_already_is_said_where_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in runtime.WAITING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", sys)
    monkeypatch.setattr(waiting, "watch", lambda processors: False)
    with pytest.warns(RuntimeWarning, match="torch is already loaded"):
        assert runtime.prepare().torch_loaded
    assert "GOMP_SPINCOUNT" not in os.environ


BESIDE = """
import subprocess, sys, time
import torch
from focus_framework import runtime, waiting
print(runtime.prepare().torch_loaded)
neighbours = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(2)]
def work(until):
    end = time.monotonic() + 20
    while not until() and time.monotonic() < end:
        torch.ones(1 << 20).add_(1)
    return until()
try:
    print(work(lambda: waiting._watch.crowd is not None))
finally:
    for one in neighbours:
        one.kill()
"""


@needs_proc
@pytest.mark.skipif(runtime.allowed_processors() != 2, reason="two neighbours and two threads are made for two processors")
def test_a_busy_machine_is_noticed_though_torch_was_loaded() -> None:
    assert fresh(BESIDE, OMP_NUM_THREADS="2").split() == ["True", "True"]


class StandIn:
    """In the place of a crowd."""

    native_id = 0

    def end(self) -> None: ...


def crowded(looks: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether there is a crowd after each look, a fifth of a second apart, on two processors."""
    monkeypatch.setattr(waiting, "Crowd", StandIn)
    monkeypatch.setattr(waiting, "loaded_torch", lambda: sys)
    one, found = waiting.Watch(2), []
    for index, (others, waited) in enumerate(looks):
        one.look(others, waited, index * waiting.PERIOD)
        found.append(one.crowd is not None)
    return found


BUSY_LOOK, CALM_LOOK = (1.0, 0.4), (0.05, 0.0)


def test_two_busy_looks_bring_the_crowd_and_seconds_of_calm_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = crowded([CALM_LOOK, BUSY_LOOK, CALM_LOOK, BUSY_LOOK, BUSY_LOOK, *[CALM_LOOK] * 12], monkeypatch)
    assert found[:5] == [False, False, False, False, True] and found[5:].index(False) == 10  # two seconds after the first calm look
    assert not any(crowded([(0.1, 0.3)] * 5, monkeypatch))  # own threads in one another's way
    assert not any(crowded([(0.9, 0.02)] * 5, monkeypatch))  # others take what is left over
    assert crowded([BUSY_LOOK] * 2 + [(0.9, 0.1)] * 20, monkeypatch)[-1]


def test_patience_grows_where_the_neighbour_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cycle = [*[BUSY_LOOK] * 2, *[CALM_LOOK] * 11]
    once = crowded(cycle, monkeypatch)
    twice = crowded([*cycle, *[BUSY_LOOK] * 2, *[CALM_LOOK] * 25], monkeypatch)[len(cycle) :]
    assert once.count(True) < twice.count(True) <= 2 * once.count(True) + 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the wheels for Linux alone carry libgomp")
def test_a_crowd_makes_libgomp_spin_less() -> None:
    """What libgomp itself does: with a worker that waits between short pieces of work, its processor time tells how long it spins."""
    code = """
import time, torch
from focus_framework.waiting import Crowd
def spent():
    start, wall = time.process_time(), time.perf_counter()
    for _ in range(20):
        torch.ones(1 << 17).add_(1)
        time.sleep(0.01)
    return (time.process_time() - start) / (time.perf_counter() - wall)
spent()
alone = spent()
crowd = Crowd()
time.sleep(0.3)
beside = spent()
crowd.end()
print(alone, beside, spent())
"""
    alone, beside, after = map(float, fresh(code, OMP_NUM_THREADS=str(os.cpu_count())).split())
    if alone < 0.1:
        pytest.skip("this OpenMP does not spin")
    assert beside < alone / 2 < after


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the wheels for Linux alone carry libgomp")
def test_libgomp_reads_it() -> None:
    """OMP_DISPLAY_ENV is libgomp's own word on what it has read."""
    code = "from focus_framework import runtime, waiting; waiting.used = lambda: None; runtime.prepare(); import torch"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env={**CLEAN, "OMP_DISPLAY_ENV": "VERBOSE"}, capture_output=True, text=True).stderr
    if "GOMP_SPINCOUNT" not in said:
        pytest.skip("this torch is not built with libgomp")
    assert f"GOMP_SPINCOUNT = '{runtime.SPINS}'" in said


@needs_proc
def test_the_command_settles_it() -> None:
    code = "from focus_framework import waiting\nfrom focus_framework.cli import main\ntry: main(['--version'])\n"
    assert fresh(code + "finally: print(waiting._watch.is_alive())").splitlines()[-1] == "True"


@pytest.mark.parametrize(
    ("files", "line", "expected"),
    [
        ({"a/b/cpu.max": "150000 100000"}, "0::/a/b", 2),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, "0::/a/b", 1),
        ({"a/cpu.max": "max 100000"}, "0::/a", 64),
        ({"cpu.max": "300000 100000"}, "0::/../elsewhere", 3),
        ({"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/a", 2),
        ({"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/a", 64),
        ({"cpu/a/cpu.cfs_quota_us": "100000", "cpu/a/cpu.cfs_period_us": "100000"}, "5:memory:/a", 64),
        ({}, "", 64),
    ],
)
def test_threads_follow_the_quota(files: dict[str, str], line: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_affinity", lambda: 64)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    process = tmp_path / "process"
    process.write_text(line)
    assert runtime.allowed_processors(tmp_path, process) == expected


def test_the_quota_limits_openmp_threads_and_the_affinity_needs_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_affinity", lambda: 8)
    limited: dict[str, str] = {}
    runtime._settle(limited, 2)
    assert limited["OMP_NUM_THREADS"] == "2"
    whole: dict[str, str] = {}
    runtime._settle(whole, 8)
    assert "OMP_NUM_THREADS" not in whole
    given = {"OMP_NUM_THREADS": "5"}
    runtime._settle(given, 2)
    assert given["OMP_NUM_THREADS"] == "5"


MEMORY = """
import resource, sys
from focus_framework.runtime import keep_memory
kept = keep_memory() if sys.argv[1:] == ['keep'] else False
import numpy as np
np.ones(4 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(4 << 20)  # 32 MiB, above every threshold of glibc's
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="needs glibc")
def test_memory_that_is_kept_is_not_faulted_in_again() -> None:
    def faults(*arguments: str, **environment: str) -> tuple[str, int]:
        command = [sys.executable, "-c", MEMORY, *arguments]
        kept, number = subprocess.run(command, env={**CLEAN, **environment}, capture_output=True, text=True, check=True).stdout.split()
        return kept, int(number)

    assert faults("keep") < ("True", 200)
    assert faults("keep", MALLOC_TOP_PAD_="131072")[0] == "False"
    kept, number = faults()
    assert kept == "False"
    if number < 200:
        pytest.skip("huge pages: 32 MiB take few faults here")


@pytest.mark.skipif(not Path("/proc/self/schedstat").is_file(), reason="the system does not say how long threads wait")
def test_the_share_is_what_the_clocks_say() -> None:
    """One thread that always wants: what it got is its processor time, what it wanted is the time on the wall."""
    share, wall, processor = runtime.ProcessorShare(), time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < 0.4:
        pass
    got = share.now()
    expected = (time.process_time() - processor) / (time.perf_counter() - wall)
    assert got == pytest.approx(expected, abs=0.1)


def test_where_the_system_does_not_say_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "scheduled", dict)
    assert runtime.ProcessorShare().now() is None and runtime.share_of_a_moment(0.0) is None


def summary(share: float | None, minutes: float | None) -> Summary:
    here = Path()
    return Summary(here, here, here, 120, 60.0, {}, {}, {}, None, processor_share=share, minutes=minutes)


@pytest.mark.parametrize(
    ("share", "minutes", "said", "unsaid"),
    [
        (0.4, 1.0, ["40% of the time it wanted", "--steps 300"], []),
        (0.4, None, ["40% of the time it wanted"], ["--steps"]),
        (0.7, 1.0, ["70% of the time it wanted"], ["--steps"]),
        (0.95, 1.0, [], ["wanted"]),
        (None, 1.0, [], ["wanted"]),
    ],
)
def test_a_time_budget_on_a_busy_machine_is_told(share: float | None, minutes: float | None, said: list[str], unsaid: list[str]) -> None:
    told = summary(share, minutes).delay
    assert all(part in told for part in said) and not any(part in told for part in unsaid)


def test_the_doctor_says_that_the_machine_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    from focus_framework.deploy import doctor

    for share, busy in ((0.3, True), (0.97, False), (None, False)):
        monkeypatch.setattr(doctor, "share_of_a_moment", lambda share=share: share)
        assert any("the machine is busy" in problem for problem in doctor.examine("cpu")["problems"]) == busy
