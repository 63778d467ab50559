"""Images at addresses, in shards and in tables: what a call means, and that it resumes there as in a folder."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_many import Red, image

from focus_framework import ConfigError, DataError
from focus_framework.inference.many import places
from focus_framework.inference.many.listing import Listing
from focus_framework.inference.many.predicting import Report, write_predictions

fsspec = pytest.importorskip("fsspec", reason="the extra ray is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the extra ray is not installed")


@pytest.fixture
def store() -> Iterator[Any]:
    """A file system in memory."""
    system = fsspec.filesystem("memory")
    system.rm("/", recursive=True) if system.ls("/") else None
    yield system
    system.store.clear()


def png(number: int) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    pixels[..., 1] = number
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def predict(model: Any, listing: Listing, out: Any, **options: Any) -> Report:
    return write_predictions(model, listing, out, **{"fingerprint": {"weights": "a"}, **options})


def table(content: Any) -> list[dict[str, Any]]:
    return list(parquet.read_table(io.BytesIO(content)).to_pylist())


def test_a_bucket_is_predicted_into_a_bucket_and_resumed(store: Any, tmp_path: Path) -> None:
    for name in ("a.png", "deep/b.png", "deep/c.png"):
        store.pipe_file(f"/photos/{name}", png(ord(name[-5])))
    store.pipe_file("/photos/deep/broken.png", png(1)[:30])
    store.pipe_file("/photos/notes.txt", b"no image")
    call = {"forms": ["mask", "rle"]}
    report = predict(Red(), Listing(["memory://photos"], recursive=True), "memory://out", **call)
    assert (report.done, report.failed, report.total) == (3, 1, 4)
    [(failed, error)] = report.failures()
    assert failed == "memory:///photos/deep/broken.png"
    assert "broken.png" in error
    assert sorted(store.find("/out")) == [
        f"/out/{name}" for name in (".focus-journal", "a.png", "deep/b.png", "deep/c.png", "inputs.parquet", "rle.parquet")
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(png(ord("a")))
    predict(Red(), Listing([tmp_path / "in"]), tmp_path / "out", forms=["mask", "rle"])
    assert store.cat_file("/out/a.png") == (tmp_path / "out" / "a.png").read_bytes()  # the same bytes as in a folder
    rows = {row["input"]: row for row in table(store.cat_file("/out/inputs.parquet"))}
    assert {name.rpartition("/")[2]: row["status"] for name, row in rows.items()} == {
        **dict.fromkeys(("a.png", "b.png", "c.png"), "done"),
        "broken.png": "failed",
    }
    assert all(row["seconds"] > 0 for row in rows.values())
    here = json.loads((tmp_path / "out" / "rle.json").read_text())["annotations"][0]["segmentation"]["counts"]
    assert next(row for row in table(store.cat_file("/out/rle.parquet")) if row["input"].endswith("a.png"))["counts"] == here

    store.pipe_file("/photos/deep/broken.png", png(7))
    store.pipe_file("/photos/new.png", png(8))
    model = Red()
    report = predict(model, Listing(["memory://photos"], recursive=True), "memory://out", **call)
    assert (model.seen, report.before, report.done, report.failed) == (2, 3, 5, 0)
    with pytest.raises(ConfigError, match="of the model"):
        predict(Red(), Listing(["memory://photos"]), "memory://out", fingerprint={"weights": "b"}, **call)
    with pytest.raises(ConfigError, match="would replace an image"):
        predict(Red(), Listing(["memory:///photos/a.png"]), "memory:///photos", forms=["mask"])


def test_shards_and_tables_name_images(store: Any, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard-000.tar", "w") as shard:
        for name in ("x/1.png", "x/1.json", "2.png"):
            member = tarfile.TarInfo(name)
            content = png(int(name[-5])) if name.endswith("png") else b"{}"
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    store.pipe_file("/shards/shard-001.tar", (tmp_path / "shard-000.tar").read_bytes())
    listing = Listing([tmp_path / "shard-000.tar", "memory://shards/*.tar"])
    report = predict(Red(), listing, tmp_path / "out")
    made = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*.png")}
    assert set(made) == {f"shard-00{shard}/{name}" for shard in (0, 1) for name in ("x/1.png", "2.png")}
    assert report.failed == 0
    expected = Image.open(io.BytesIO(png(2))).getchannel(0)
    assert np.array_equal(np.asarray(Image.open(made["shard-001/2.png"])), np.asarray(expected))

    import pyarrow

    store.pipe_file("/more/3.png", png(3))
    rows = {"url": ["memory:///more/3.png", str(image(tmp_path / "4.png", 4)), None], "other": [1, 2, 3]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "images.parquet")
    found = list(Listing([], lists=[tmp_path / "images.parquet"], column="url"))
    assert [one.path.name for one in found] == ["3.png", "4.png"]
    with pytest.raises(DataError, match="no column path; it has url, other"):
        Listing([], lists=[tmp_path / "images.parquet"])


def test_what_is_not_there_is_told(store: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="memory://gone does not exist"):
        Listing(["memory://gone"])
    with pytest.raises(ConfigError, match="nowhere://x cannot be opened"):
        Listing(["nowhere://x"])
    store.pipe_file("/empty/notes.txt", b"")
    with pytest.raises(DataError, match="no images at memory://empty"):
        Listing(["memory://empty"])
    (tmp_path / "text.tar").write_text("no shard" * 100)
    with pytest.raises(DataError, match=r"cannot read the shard .*text\.tar"):
        Listing([tmp_path / "text.tar"])


def test_a_file_system_that_fails_fails_one_image(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        store.pipe_file(f"/photos/{number}.png", png(number))
    real = places.put

    def put(address: str, content: bytes) -> None:
        if address.endswith("2.png"):
            raise DataError(f"cannot write {address}: denied")
        real(address, content)

    monkeypatch.setattr(places, "put", put)
    report = predict(Red(), Listing(["memory://photos"]), "memory://out")
    assert (report.done, [error for _, error in report.failures()]) == (3, ["cannot write memory://out/2.png: denied"])


def test_nothing_of_ray_is_imported_unless_it_is_asked_for(tmp_path: Path) -> None:
    image(tmp_path / "in" / "a.png")
    script = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_many import Red, predict
predict(Red(), [Path(sys.argv[1]) / "in"], Path(sys.argv[1]) / "out")
print([name for name in ("ray", "pyarrow", "av") if name in sys.modules])
"""
    call = [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)]
    assert subprocess.run(call, capture_output=True, text=True, check=True).stdout == "[]\n"
