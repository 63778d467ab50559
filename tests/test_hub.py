"""A model to the hub and back: what is pushed to a hub on loopback, what its card says, and what goes wrong clearly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from support.hub_server import BOUNDED, TOKEN, HubServer, connected
from support.training import tiny

import focus_framework as focus
from focus_framework import ConfigError, WeightsError
from focus_framework import cli as frame
from focus_framework.checkpoint import describe, read_description, write_checkpoint
from focus_framework.checkpoint.packing import pack
from focus_framework.model.build import build_network
from focus_framework.plugin.registry import registry

NAME = "owner/shadows"
PARENT = {"reference": "/home/somebody/secret/best.safetensors", "sha256": "ab" * 32, "step": 7, "task": "salient"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with everything that a run writes into it."""
    config, entry = tiny().config, registry().find_task("shadow")
    torch.manual_seed(0)
    network = build_network(config)
    told = {
        "step": 300,
        "data": "practice",
        "images": {"training": 1024, "validation": 64},
        "validation": {"ber": 12.5},
        "test": {"ber": 13.25},
        "baselines": {"otsu darkness": 31.0},
        "parent": PARENT,
        "ops": "native",
    }
    path = tmp_path_factory.mktemp("shared") / "best.safetensors"
    write_checkpoint(path, network.state_dict(), {**describe(config, network, entry, entry.get().pairs()), **told})
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server, connected(server, monkeypatch, tmp_path):
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        frame.main(["checkpoint", *arguments])
    return ended.value.code  # type: ignore[return-value]


def front_matter(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_push_and_back(
    hub: HubServer, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("push", str(file), NAME, "--private", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"page": f"{hub.url}/{NAME}", "reference": f"hf://{NAME}"}
    repository = hub.repositories[NAME]
    assert repository.private
    assert set(repository.files) == {"README.md", "model.safetensors", "samples.png"}
    pushed = repository.files["model.safetensors"]
    (tmp_path / "pushed.safetensors").write_bytes(pushed)
    ours, theirs = load_file(tmp_path / "pushed.safetensors"), load_file(file)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    told = read_description(tmp_path / "pushed.safetensors")
    assert told["parent"] == {**PARENT, "reference": "best.safetensors"}
    (tmp_path / "samples.png").write_bytes(repository.files["samples.png"])
    assert Image.open(tmp_path / "samples.png").height > 4 * 192

    card = repository.files["README.md"].decode()
    keys = front_matter(card)
    assert (keys["library_name"], keys["pipeline_tag"], keys["license"]) == ("focus-framework", "image-segmentation", "other")
    [result] = [entry for entry in keys["model-index"][0]["results"] if entry["dataset"]["split"] == "test"]
    assert (result["metrics"][0]["type"], result["metrics"][0]["value"]) == ("ber", 13.25)
    for words in ("1024 images for training and 64 for validation", "| otsu darkness | 31.0000 |", "protocol `standard`", "300 steps"):
        assert words in card
    assert "best.safetensors (task salient, step 7; sha256 abab" in card
    assert "somebody" not in card
    pair = registry().get("task", "shadow").pairs()[0]
    assert f"| {pair.foreground} | {pair.background} |" in card

    [snippet] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {})
    assert Image.open(tmp_path / "overlay.png").size == (56, 40)
    first = repository.commit
    repository.files["model.safetensors"] = b"a later one"
    path = tmp_path / "focus" / "hub" / "owner--shadows" / first / "model.safetensors"
    assert path.read_bytes() == pushed  # a revision is a commit


def test_a_loaded_model_is_pushed_with_its_settings(hub: HubServer, file: Path) -> None:
    page = focus.load(file, device="cpu", threshold=0.25).push_to_hub(f"hf://{NAME}", images=False)
    assert page == f"{hub.url}/{NAME}"
    files = hub.repositories[NAME].files
    assert set(files) == {"README.md", "model.safetensors"}
    again = focus.load(f"hf://{NAME}", device="cpu")
    assert again.config.prediction.threshold == 0.25
    expected = load_file(file)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.network.state_dict().items())
    assert again.description["parent"] == {**PARENT, "reference": "best.safetensors"}
    with pytest.raises(ConfigError, match="knows nothing of its training"):
        focus.Model(again.config, again.network).push_to_hub(NAME)


def test_a_folder_of_ones_own_is_not_named(hub: HubServer, file: Path, tmp_path: Path) -> None:
    written = read_description(file)
    places = {"train": "images=holiday/a,masks=holiday/b", "validation": "C:\\holiday", "root": "/home/somebody/sets"}
    config = {**written["config"], "data": {**written["config"]["data"], **places}}
    description = {**written, "data": "/home/somebody/holiday", "config": config, "calibration": {"seen": ["/home/somebody/x.png", "a/b"]}}
    description["prompts"] = [{"foreground": "/like this", "background": "none", "source": "command line"}]
    write_checkpoint(tmp_path / "own.safetensors", load_file(file), description)
    assert call("push", str(tmp_path / "own.safetensors"), NAME, "--no-images") == 0
    files = hub.repositories[NAME].files
    card = files["README.md"].decode()
    assert "images of its author's own, 1024 images" in card
    assert "holiday" not in card
    (tmp_path / "pushed.safetensors").write_bytes(files["model.safetensors"])
    told = read_description(tmp_path / "pushed.safetensors")
    assert not re.search("holiday|somebody", json.dumps(told))
    assert told["prompts"] == description["prompts"]
    assert told["calibration"] == {"seen": ["x.png", "a/b"]}
    assert focus.load(f"hf://{NAME}", device="cpu").config.data.train == "own-images"


def test_a_checkpoint_that_shares_a_file_is_pushed_whole(hub: HubServer, file: Path, tmp_path: Path) -> None:
    packed = pack({"shadow": file}, tmp_path / "packed", shared="shared.safetensors", prefix="encoder.")["shadow"]
    assert call("push", str(packed), NAME, "--no-images") == 0
    ours, theirs = focus.load(f"hf://{NAME}", device="cpu").network.state_dict(), load_file(file)
    assert all(torch.equal(tensor, theirs[name].to(torch.float16).to(tensor.dtype)) for name, tensor in ours.items() if tensor.dim())


def test_a_push_that_is_cut_off_goes_on_or_leaves_no_file(
    hub: HubServer, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between the client's attempts
    hub.cut_uploads = 100
    assert call("push", str(file), NAME, "--no-images") == 1
    *before, line = capsys.readouterr().err.splitlines()
    assert before in ([], ["the hub does not answer as it should; trying again for a while"])
    assert line.startswith(f"error: {NAME} cannot be pushed (")
    assert "disconnected" in line.lower()
    assert "none of its files is there" in line
    assert hub.repositories[NAME].files == {}
    hub.cut_uploads = 1
    hub.requests.clear()
    if call("push", str(file), NAME, "--no-images") == 1:  # some versions of the client leave it to the next call
        assert call("push", str(file), NAME, "--no-images") == 0
    assert [method for method, _, _ in hub.requests].count("PUT") == 2
    assert set(hub.repositories[NAME].files) == {"README.md", "model.safetensors"}


@pytest.mark.skipif(not BOUNDED, reason="this client waits for ever")
def test_a_hub_that_never_answers_is_not_waited_for_for_ever(
    hub: HubServer, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub.utils import get_session

    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between the client's attempts
    monkeypatch.setattr("focus_framework.inference.sharing.SILENCE", 0.2)
    before = get_session().timeout
    hub.silent.set()
    assert call("push", str(file), NAME, "--no-images") == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {NAME} cannot be pushed (")
    assert "timed out" in line.lower() or "timeout" in line.lower()
    assert get_session().timeout == before


def test_what_cannot_be_pushed_gets_one_line(
    hub: HubServer, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "else.safetensors")
    monkeypatch.chdir(tmp_path)
    for arguments, code, told in (
        (("nowhere.safetensors", NAME), 1, "does not exist"),
        (("else.safetensors", NAME), 1, "holds weights of something else"),
        ((str(file), "just-a-name", "--no-pictures"), 2, "write hf://owner/name"),
    ):
        assert call("push", *arguments) == code
        err = capsys.readouterr().err
        assert told in err
        assert len(err.splitlines()) == 1
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert call("push", str(file), NAME, "--no-pictures") == 1
    err = capsys.readouterr().err
    assert f"error: {NAME} cannot be pushed (the token is not accepted (401)" in err
    assert len(err.splitlines()) == 1
    assert NAME not in hub.repositories
    hub.server.shutdown()
    hub.server.server_close()
    with pytest.raises(WeightsError, match=f"{NAME} cannot be pushed"):
        focus.load(file, device="cpu").push_to_hub(NAME, images=False)
