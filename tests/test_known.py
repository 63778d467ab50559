"""Checkpoints that have a name: who knows them, how they are fetched from a hub on loopback, verified, imported once and used."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from support.hub_server import RETRIES, TOKEN, HubServer, connected
from support.release import REFERENCE, released_shapes, released_state

import focus_framework as focus
from focus_framework import Checkpoint, WeightsError
from focus_framework import cli as frame
from focus_framework.checkpoint import download as download_module
from focus_framework.checkpoint import hub as hub_module
from focus_framework.checkpoint.known import find_known, obtain
from focus_framework.checkpoint.release import TRAINING_ONLY
from focus_framework.plugin import checkpoints
from focus_framework.plugin.checkpoints import KnownCheckpoint, known_checkpoints

REPOSITORY = "geshang/focus_large_sd"


@pytest.fixture(scope="module")
def released() -> bytes:
    """A released file in small, by the rule of the fixtures, without what serves training only."""
    file = io.BytesIO()
    shapes = {name: shape for name, shape in released_shapes("tiny").items() if not TRAINING_ONLY.fullmatch(name)}
    torch.save({"model": released_state(shapes)}, file)
    return file.getvalue()


@pytest.fixture(autouse=True)
def without_the_starter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment in which the starter is not installed, wherever the tests run."""
    all_of = checkpoints.entry_points_of
    monkeypatch.setattr(checkpoints, "entry_points_of", lambda group: [row for row in all_of(group) if row[0] != "focus-framework-starter"])
    checkpoints._offered.cache_clear()
    yield
    checkpoints._offered.cache_clear()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, released: bytes) -> Iterator[HubServer]:
    with HubServer() as server, connected(server, monkeypatch, tmp_path):
        server.add(REPOSITORY, {"README.md": b"a card", "model_final.pth": released})
        yield server


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        frame.main(arguments)
    return ended.value.code  # type: ignore[return-value]


def known(name: str = "mine", reference: str = "hf://owner/mine", **facts: object) -> KnownCheckpoint:
    return KnownCheckpoint(Checkpoint(name=name, title="mine", reference=reference, **facts), "shadow", "somebody's")  # type: ignore[arg-type]


def test_the_ten_released_ones_are_listed_with_their_figures(hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("checkpoint", "list", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    rows = [row for row in told["checkpoints"] if row["reference"].startswith("hf://geshang/")]
    assert len(rows) == 10
    assert not any(row["ready"] for row in rows)
    assert {figures["protocol"] for row in rows for figures in row["figures"]} == {"release"}
    assert hub.requests == []
    assert call("checkpoint", "list", "--task", "shadow") == 0
    shown = capsys.readouterr().out
    assert "focus_large_sd  the authors' release, DINOv2-L, 2.1 GB, not here" in shown
    assert "focus_large_cod" not in shown


@pytest.mark.skipif(not REFERENCE.exists(), reason="the authors' model zoo is not here")
def test_the_figures_are_those_of_the_model_zoo() -> None:
    zoo = json.loads((REFERENCE / "model_zoo.json").read_text())["rows"]
    ours = {
        (known.checkpoint.reference.removeprefix("hf://"), f.data): f.metrics
        for known in known_checkpoints()
        for f in known.checkpoint.figures
    }
    spelt = {"camo-test": "CAMO", "cod10k-test": "COD10k", "chameleon": "CHAMELEON", "nc4k": "NC4K", "duts-test": "DUTS", "casia1": "CASIA"}
    spelt |= {"dut-omron": "DUT-OMRON", "hku-is": "HKU-IS", "ecssd": "ECSSD", "pascal-s": "PACAL-S", "istd-test": "ISTD"}
    spelt |= {"defocus-dut": "DUT", "defocus-cuhk": "CUHK"}
    for row in zoo:
        [metrics] = [found for (model, data), found in ours.items() if model == row["model"] and spelt[data] == row["data"]]
        for name in metrics:
            assert metrics[name] == row[{"ber": "ber_release", "auc": "auc_release"}.get(name, name)], (row["model"], row["data"], name)
    assert len(zoo) == sum(model.startswith("geshang/") for model, _ in ours)


def test_one_command_from_an_image_to_its_mask(hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    arguments = ["predict", str(tmp_path / "x.png"), "--task-plugin", "shadow", "--out", str(tmp_path / "out"), "--overwrite"]
    assert call(*arguments) == 0
    err = capsys.readouterr().err
    assert "task shadow: checkpoint focus_large_sd, the authors' release, DINOv2-L (2.1 GB)" in err
    assert err.index("fetching focus_large_sd, 2.1 GB, from hf://geshang/focus_large_sd") < err.index("fetched ")
    assert Image.open(tmp_path / "out" / "x.png").size == (64, 48)
    kept = [path for path in (tmp_path / "focus").rglob("*") if path.suffix in (".pth", ".safetensors")]
    assert kept == [tmp_path / "focus" / "focus_large_sd.safetensors"]  # imported, and what was fetched for that is gone
    hub.requests.clear()
    assert focus.load("shadow", device="cpu").config.task == "shadow"
    assert call("checkpoint", "fetch", "focus_large_sd") == 0
    assert hub.requests == []


def test_what_is_cut_off_is_gone_on_with(hub: HubServer, released: bytes) -> None:
    hub.cut_after = [200_000]
    if not RETRIES:
        with pytest.raises(hub_module.UnreachableError, match="geshang/focus_large_sd cannot be fetched"):
            hub_module.fetch(f"hf://{REPOSITORY}")
    assert hub_module.fetch(f"hf://{REPOSITORY}").read_bytes() == released
    first, second = [where for method, path, where in hub.requests if method == "GET" and "resolve" in path]
    assert first == ""
    assert 131_072 <= int(second.removeprefix("bytes=").removesuffix("-")) <= 200_000


def test_a_killed_fetch_is_gone_on_with(hub: HubServer, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(25_000_000)  # the client writes ten million at a time
    hub.add("owner/big", {"model.safetensors": content})
    hub.slow = 0.01
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache"), "FOCUS_HOME": str(tmp_path / "focus")}
    code = "from focus_framework.checkpoint.hub import fetch; fetch('hf://owner/big')"
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    waited = time.monotonic() + 120
    while sum(path.stat().st_size for path in (tmp_path / "focus").rglob(".*.partial")) < 300_000:
        assert process.poll() is None
        assert time.monotonic() < waited
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hub.slow = 0.0
    hub.requests.clear()
    assert hub_module.fetch("hf://owner/big").read_bytes() == content
    [where] = [where for method, path, where in hub.requests if method == "GET" and "resolve" in path]
    assert int(where.removeprefix("bytes=").removesuffix("-")) >= 300_000
    assert not list((tmp_path / "focus").rglob(".*.partial"))


def test_bytes_that_are_not_those_announced_are_removed(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[REPOSITORY].lies = True
    with pytest.raises(WeightsError, match="did not come as it is on the hub: its sha256 is"):
        hub_module.fetch(f"hf://{REPOSITORY}")
    assert not [path for path in (tmp_path / "focus").rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("name", ["../../../escaped.safetensors", "/tmp/escaped.safetensors", "a/../../b.safetensors", "a\nb.safetensors"])
def test_names_that_lead_out_of_the_folder_are_refused(hub: HubServer, tmp_path: Path, name: str) -> None:
    hub.add("owner/odd", {name: b"content"})
    with pytest.raises(WeightsError, match="is no name in a repository"):
        hub_module.fetch("hf://owner/odd")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_file_of_another_checksum_is_refused(hub: HubServer, released: bytes, tmp_path: Path) -> None:
    right = hashlib.sha256(released).hexdigest()
    assert obtain(known(reference=f"hf://{REPOSITORY}", sha256=right)).is_file()
    assert obtain(known(reference=f"hf://{REPOSITORY}", sha256=right)).is_file()  # the imported file remembers the fetched one's
    with pytest.raises(WeightsError, match=f"is not mine: its sha256 is {right}, known is {'0' * 64}"):
        obtain(known(reference=f"hf://{REPOSITORY}", sha256="0" * 64))


def test_offline_one_line_says_which_file_from_where_to_which_folder(hub: HubServer, released: bytes, tmp_path: Path) -> None:
    hub.server.shutdown()
    hub.server.server_close()
    with pytest.raises(WeightsError) as failure:
        focus.load("shadow", device="cpu")
    line = str(failure.value)
    assert "\n" not in line
    assert f"{REPOSITORY}/tree/main" in line
    assert f"into {tmp_path / 'focus'} as focus_large_sd.pth" in line
    (tmp_path / "focus" / "focus_large_sd.pth").write_bytes(released)
    assert focus.load("focus_large_sd", device="cpu").config.task == "shadow"


WRONG = {
    "private": ("owner/private", "there is no such repository, or it is private"),
    "missing": ("owner/missing", "there is no such repository, or it is private"),
    "without a checkpoint": ("owner/empty", "holds no .pth or .safetensors file"),
    "with two": ("owner/two", r"several checkpoints \(a.pth, b.safetensors\)"),
    "no such revision": (f"{REPOSITORY}@v9", "there is no such revision"),
}


@pytest.mark.parametrize(("name", "reason"), WRONG.values(), ids=WRONG)
def test_repositories_that_give_no_checkpoint(hub: HubServer, name: str, reason: str) -> None:
    hub.add("owner/private", {"a.pth": b""}, private=True)
    hub.add("owner/empty", {"README.md": b""})
    hub.add("owner/two", {"a.pth": b"", "b.safetensors": b""})
    with pytest.raises(WeightsError, match=reason) as failure:
        hub_module.fetch(f"hf://{name}")
    assert "\n" not in str(failure.value)


def test_a_token_opens_what_is_private_and_a_wrong_one_is_named(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("owner/private", {"a.pth": b"anything"}, private=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert hub_module.fetch("hf://owner/private").read_bytes() == b"anything"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(WeightsError, match=r"the token is not accepted \(401\)"):
        hub_module.fetch(f"hf://{REPOSITORY}")


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("focus_framework.checkpoint.download.shutil.disk_usage", lambda folder: namedtuple("Usage", "free")(1000))
    with pytest.raises(WeightsError, match=r"needs .* MB in .*, where 0.0 MB are free; make room, or set FOCUS_HOME"):
        hub_module.fetch(f"hf://{REPOSITORY}")
    assert not [path for method, path, _ in hub.requests if method == "GET" and "resolve" in path]


def test_a_disk_that_fills_up_in_the_middle_keeps_what_came(
    hub: HubServer, released: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = download_module._Counted.write

    def full(self: download_module._Counted, chunk: bytes) -> int:
        if self.tell() > 200_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, chunk)

    with (
        monkeypatch.context() as patch,
        pytest.raises(WeightsError, match="No space left on device; make room, or set FOCUS_HOME") as failure,
    ):
        patch.setattr(download_module._Counted, "write", full)
        hub_module.fetch(f"hf://{REPOSITORY}")
    assert "\n" not in str(failure.value)
    [kept] = [path for path in (tmp_path / "focus").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert kept.name.endswith(".partial")
    hub.requests.clear()
    assert hub_module.fetch(f"hf://{REPOSITORY}").read_bytes() == released
    [where] = [where for method, path, where in hub.requests if method == "GET" and "resolve" in path]
    assert int(where.removeprefix("bytes=").removesuffix("-")) > 200_000


def test_a_disk_that_is_full_at_the_import_keeps_what_was_fetched(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with (
        monkeypatch.context() as patch,
        pytest.raises(WeightsError, match=r"focus_large_sd cannot be .*No space left") as failure,
    ):
        patch.setattr("focus_framework.checkpoint.format.save_file", full)
        obtain(find_known("focus_large_sd"))
    assert "\n" not in str(failure.value)
    hub.requests.clear()
    assert obtain(find_known("focus_large_sd")).is_file()
    assert not [path for method, path, _ in hub.requests if method == "GET" and "resolve" in path]


def test_a_name_that_nobody_knows_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("checkpoint", "fetch", "focus_larg_sd") == 1
    assert "focus_larg_sd is neither a file nor a known checkpoint; did you mean focus_large_sd" in capsys.readouterr().err
    with pytest.raises(WeightsError, match="did you mean shadow"):
        focus.load("shadwo")
    with pytest.raises(WeightsError, match="does not exist"):
        focus.load("shadow.safetensors")


MODULE = """
from pathlib import Path
from focus_framework import Checkpoint, Figures

checkpoints = [
    Checkpoint(
        name="small-shadow", title="small", task="shadow", reference=str(Path(__file__).parent / "small.safetensors"), sha256="{sha256}",
        figures=[Figures(data="my images", metrics={{"ber": 12.5}}, source="my page")],
    )
]
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution that brings a file for a task of another one, and one that is broken."""
    site = tmp_path / "site"
    (site / "shadow_knowledge").mkdir(parents=True)
    file = site / "shadow_knowledge" / "small.safetensors"
    file.write_bytes(b"a network")
    (site / "shadow_knowledge" / "__init__.py").write_text(MODULE.format(sha256=hashlib.sha256(b"a network").hexdigest()))
    (site / "broken_knowledge.py").write_text("raise OSError('no')")
    for name, target in (("shadow-knowledge", "shadow_knowledge:checkpoints"), ("broken-knowledge", "broken_knowledge:x")):
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[focus_framework.checkpoints]\n{name} = {target}\n")
    monkeypatch.syspath_prepend(site)
    checkpoints._offered.cache_clear()
    yield file
    checkpoints._offered.cache_clear()


def test_a_distribution_of_its_own_brings_the_first_checkpoint_of_a_task(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [row.checkpoint.name for row in known_checkpoints("shadow")] == ["small-shadow", "focus_large_sd", "focus_giant_sd"]
    assert obtain(find_known("shadow")) == installed
    assert call("checkpoint", "list", "--task", "shadow") == 0
    shown = capsys.readouterr().out
    assert "small-shadow  small, size not stated, here  (shadow-knowledge)" in shown
    assert "my images (standard): BER % 12.5" in shown
    assert "BROKEN: broken-knowledge of broken-knowledge: OSError: no" in shown
    installed.write_bytes(b"another network")
    with pytest.raises(WeightsError, match="is not small-shadow: its sha256 is"):
        obtain(find_known("small-shadow"))
    installed.unlink()
    with pytest.raises(WeightsError, match="is missing from distribution shadow-knowledge; install that again"):
        obtain(find_known("small-shadow"))


def test_a_call_names_a_checkpoint_or_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    assert call("predict", str(tmp_path / "x.png")) == 2
    assert "give either --checkpoint, a file or a name, or --task-plugin" in capsys.readouterr().err
    assert call("predict", str(tmp_path / "x.png"), "--checkpoint", "a", "--task-plugin", "shadow") == 1
    assert "a is neither a file nor a known checkpoint" in capsys.readouterr().err  # the task says which of a network's several is meant
