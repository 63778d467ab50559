"""Checkpoints that share a file: the same masks, and clear words where a part is missing or another one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.training import tiny

from focus_framework import load
from focus_framework.checkpoint import describe, write_checkpoint
from focus_framework.checkpoint.format import read_shapes
from focus_framework.checkpoint.packing import in_order, pack, pack_whole
from focus_framework.config.prompts import choose
from focus_framework.errors import WeightsError
from focus_framework.model.build import build_network
from focus_framework.plugin.registry import registry


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    """Two checkpoints of one backbone."""
    made = {}
    for seed, name in enumerate(("shadow", "salient")):
        resolved = tiny(name)
        entry = registry().find_task(name)
        torch.manual_seed(seed)
        network = build_network(resolved.config)
        torch.manual_seed(9)
        for parameter in network.encoder.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        prompts = choose(entry.get(), resolved.config.prompts, resolved.sources, entry.distribution)
        made[name] = tmp_path / f"{name}.safetensors"
        write_checkpoint(made[name], network.state_dict(), describe(resolved.config, network, entry, prompts))
    return made


def test_packed_checkpoints_give_nearly_the_same_maps(parts: dict[str, Path], tmp_path: Path) -> None:
    packed = pack(parts, tmp_path / "packed", shared="shared.safetensors", prefix="encoder.")
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name, path in parts.items():
        whole, small = load(path), load(packed[name])
        assert small.task == name
        assert {p.dtype for p in small.network.parameters()} == {torch.float32}
        np.testing.assert_allclose(small.predict(image).probability, whole.predict(image).probability, atol=0.02)
    total = sum(path.stat().st_size for path in (tmp_path / "packed").iterdir())
    assert total < 0.45 * sum(path.stat().st_size for path in parts.values())
    assert read_shapes(packed["shadow"]) == read_shapes(parts["shadow"])


def test_a_checkpoint_whose_encoder_is_its_own_is_packed_whole(parts: dict[str, Path], tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    small = pack_whole(parts["shadow"], tmp_path / "alone" / "shadow.safetensors")
    assert small.stat().st_size < 0.55 * parts["shadow"].stat().st_size
    np.testing.assert_allclose(load(small).predict(image).probability, load(parts["shadow"]).predict(image).probability, atol=0.02)


def test_what_was_read_with_a_shared_file_is_written_whole(parts: dict[str, Path], tmp_path: Path) -> None:
    packed = pack(parts, tmp_path / "packed", shared="shared.safetensors", prefix="encoder.")
    model = load(packed["shadow"])
    write_checkpoint(tmp_path / "alone" / "model.safetensors", model.network.state_dict(), model.description)
    again = load(tmp_path / "alone" / "model.safetensors")  # nothing lies beside it
    assert all(torch.equal(a, b) for a, b in zip(again.network.state_dict().values(), model.network.state_dict().values(), strict=True))


def test_the_shared_file_stays_as_it_is_for_what_is_packed_later(parts: dict[str, Path], tmp_path: Path) -> None:
    packed = pack(parts, tmp_path / "packed", shared="shared.safetensors", prefix="encoder.")
    shared = tmp_path / "packed" / "shared.safetensors"
    with safe_open(shared, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        save_file(dict(reversed(tensors.items())), shared, metadata=dict(reversed(opened.metadata().items())))
    before = shared.stat().st_mtime_ns, shared.read_bytes()
    name = next(iter(parts))
    again = pack({name: parts[name]}, tmp_path / "packed", shared="shared.safetensors", prefix="encoder.")
    assert (shared.stat().st_mtime_ns, shared.read_bytes()) == before
    assert load(again[name]).task == name
    torch.save({}, shared)
    pack(parts, tmp_path / "packed", shared="shared.safetensors", prefix="encoder.")
    assert load(packed["shadow"]).task == "shadow"


def test_facts_in_a_header_have_one_order(tmp_path: Path) -> None:
    """The library writes them in another order in every process."""
    path, facts = tmp_path / "a.safetensors", {f"fact {number}": "é\n" * number for number in range(9)}
    save_file({"b": torch.arange(3.0), "a": torch.ones(2, 2)}, path, metadata=facts)
    size = path.stat().st_size
    in_order(path)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header["__metadata__"].items()) == sorted(facts.items())
    assert path.stat().st_size == size
    with safe_open(path, "pt") as file:
        assert file.metadata() == facts
        assert torch.equal(file.get_tensor("b"), torch.arange(3.0))


def test_a_missing_or_another_shared_file_is_named(parts: dict[str, Path], tmp_path: Path) -> None:
    packed = pack(parts, tmp_path / "packed", shared="shared.safetensors", prefix="encoder.")
    shared = tmp_path / "packed" / "shared.safetensors"
    content = shared.read_bytes()
    shared.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match=r"shared.safetensors is not the file .*sha256 differs"):
        load(packed["shadow"])
    shared.unlink()
    with pytest.raises(WeightsError, match=r"needs the file shared.safetensors beside it"):
        load(packed["shadow"])


def test_a_shared_file_lies_beside_the_checkpoint_and_nowhere_else(parts: dict[str, Path], tmp_path: Path) -> None:
    description = {**load(parts["shadow"]).description, "shared": {"file": "../salient.safetensors", "sha256": ""}}
    path = tmp_path / "inner" / "x.safetensors"
    path.parent.mkdir()
    write_checkpoint(path, {"a": torch.zeros(1)}, description)
    with pytest.raises(WeightsError, match="beside it"):
        load(path)


def test_what_differs_is_not_shared(parts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing to share: decoder\..* differs"):
        pack(parts, tmp_path / "packed", prefix="decoder.")
    with pytest.raises(WeightsError, match="none has tensors below nowhere"):
        pack(parts, tmp_path / "packed", prefix="nowhere")
    assert not (tmp_path / "packed").exists()
