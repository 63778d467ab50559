"""Many images: what a call means, what its journal remembers, and that a kill in the middle loses and doubles nothing."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from focus_framework import ConfigError, DataError
from focus_framework.files.atomic import BESIDE, remove_leftovers
from focus_framework.inference.many.journal import NAME
from focus_framework.inference.many.listing import Listing
from focus_framework.inference.many.pipeline import Ahead
from focus_framework.inference.many.predicting import Report, write_predictions
from focus_framework.inference.result import Result


class Red:
    """A model that is known: the foreground is where the image is red. It remembers how many images it saw."""

    def __init__(self, log: Path | None = None, seconds: float = 0.0) -> None:
        self.seen, self.log, self.seconds = 0, log, seconds

    def stream(self, images: Iterable[Any], batch_size: int) -> Iterator[Result]:
        for image in images:
            self.seen += 1
            time.sleep(self.seconds)
            if self.log:
                with self.log.open("a") as file:
                    file.write(f"{image[0, 0, 1]}\n")  # its number
            yield Result((image[..., 0] / 255).astype(np.float32), image)


def image(path: Path, number: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    pixels[..., 1] = number
    Image.fromarray(pixels).save(path)
    return path


def outputs(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != NAME}


def names(listing: Listing) -> list[str]:
    return [found.path.name for found in listing]


def predict(model: Any, inputs: Any, out: Path, *, recursive: bool = False, **options: Any) -> Report:
    return write_predictions(model, Listing(inputs, recursive=recursive), out, **{"fingerprint": {"weights": "a"}, **options})


def test_folders_in_folders_keep_their_places(tmp_path: Path) -> None:
    for name in ("a.png", "deep/a.png", "deep/er/b.png", ".hidden/c.png", "deep/.d.png"):
        image(tmp_path / "in" / name)
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    out = tmp_path / "in" / "masks"
    for _ in range(2):  # the second time masks lie among the images, and are none
        report = predict(Red(), [tmp_path / "in"], out, recursive=True)
        (out / ".focus-framework").write_text("predictions\n")
    assert set(outputs(out)) == {"a.png", "deep/a.png", "deep/er/b.png", ".focus-framework"}
    assert (report.total, report.before) == (3, 3)


def test_patterns_and_lists_name_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.jpg", "deep/c.png", "note.txt"):
        image(tmp_path / name) if name != "note.txt" else (tmp_path / name).touch()
    assert names(Listing([f"{tmp_path}/*.png", f"{tmp_path}/*"])) == ["a.png", "b.jpg"]
    assert [found.place for found in Listing([f"{tmp_path}/**/*.png"])] == ["", "deep"]
    (tmp_path / "list").write_text(f"{tmp_path}/deep\n\n{tmp_path}/b.jpg\r\n{tmp_path}/gone.png")
    assert names(Listing([], lists=[tmp_path / "list"])) == ["c.png", "b.jpg", "gone.png"]
    (tmp_path / "zeros").write_bytes(f"{tmp_path}/b.jpg\0{tmp_path}/new\nline.png\0".encode())
    assert names(Listing([], lists=[tmp_path / "zeros"])) == ["b.jpg", "new\nline.png"]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(f"{tmp_path}/a.png\n".encode())))
    assert names(Listing(["-"])) == ["a.png"]


def test_what_names_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.png does not exist"):
        Listing([tmp_path / "gone.png"])
    with pytest.raises(DataError, match=r"no image matches .*\*\.png"):
        Listing([f"{tmp_path}/*.png"])
    (tmp_path / "empty").touch()
    with pytest.raises(DataError, match="the list is empty"):
        Listing([], lists=[tmp_path / "empty"])
    (tmp_path / "binary").write_bytes(b"x" * 200_000)
    with pytest.raises(DataError, match="no list of paths"):
        Listing([], lists=[tmp_path / "binary"])


def test_a_list_is_read_whole_whatever_its_length(tmp_path: Path) -> None:
    wanted = [f"{tmp_path}/{number:0{1 + number % 90}}.png" for number in range(3000)]
    (tmp_path / "list").write_text("\n".join(wanted))
    assert [str(found.path) for found in Listing([], lists=[tmp_path / "list"])] == wanted


def test_the_same_call_does_only_what_is_missing(tmp_path: Path) -> None:
    first, _, third = (image(tmp_path / "in" / f"{name}.png", number) for number, name in enumerate("abc"))
    bad = tmp_path / "in" / "bad.png"
    bad.write_bytes(first.read_bytes()[:40])
    out = tmp_path / "out"
    report = predict(Red(), [tmp_path / "in"], out, forms=["mask", "rle"])
    assert (report.done, report.failed, report.before) == (3, 1, 0)
    before = outputs(out)

    model = Red()
    report = predict(model, [tmp_path / "in"], out, forms=["mask", "rle"])
    assert (model.seen, report.done, report.failed, report.before) == (0, 3, 1, 3)
    assert outputs(out) == before
    assert [path for path, _ in report.files(written=True)] == []

    image(bad, 9)  # mended
    image(third, 7)  # changed
    (out / "b.png").unlink()  # lost
    image(tmp_path / "in" / "new" / "a.png", 8)
    model = Red()
    report = predict(model, [tmp_path / "in", tmp_path / "in" / "new"], out, forms=["mask", "rle"])
    assert (model.seen, report.done, report.failed) == (4, 5, 0)
    assert set(outputs(out)) == {"a.png", "b.png", "c.png", "bad.png", "a-2.png", "rle.json"}
    assert outputs(out)["b.png"] == before["b.png"]
    table = json.loads((out / "rle.json").read_text())
    assert [one["file_name"] for one in table["images"]] == ["a.png", "b.png", "bad.png", "c.png", "a.png"]
    assert [one["id"] for one in table["images"]] == [1, 2, 3, 4, 5]

    fresh = tmp_path / "fresh"
    predict(Red(), [tmp_path / "in", tmp_path / "in" / "new"], fresh, forms=["mask", "rle"])
    assert outputs(fresh) == outputs(out)


def test_names_stay_whatever_is_named_before_them(tmp_path: Path) -> None:
    first, second = image(tmp_path / "a" / "cat.png", 1), image(tmp_path / "b" / "cat.png", 2)
    predict(Red(), [second], tmp_path / "out")
    report = predict(Red(), [first, second], tmp_path / "out")
    assert {path: files[0].name for path, files in report.files()} == {second: "cat.png", first: "cat-2.png"}


def test_another_model_or_setting_is_refused_by_name(tmp_path: Path) -> None:
    source, out = image(tmp_path / "cat.png"), tmp_path / "out"
    predict(Red(), [source], out, fingerprint={"model": "old", "weights": "1" * 64, "prediction.flip": False}, forms=["mask", "overlay"])
    before = outputs(out)
    with pytest.raises(ConfigError, match=r"predictions of the model old \(1{12}\), not of new \(2{12}\).*--again"):
        predict(
            Red(), [source], out, fingerprint={"model": "new", "weights": "2" * 64, "prediction.flip": False}, forms=["mask", "overlay"]
        )
    with pytest.raises(ConfigError, match=r"prediction\.flip was False and is True"):
        predict(Red(), [source], out, fingerprint={"weights": "1" * 64, "prediction.flip": True}, forms=["mask", "overlay"])
    with pytest.raises(ConfigError, match="forms was mask,overlay and is mask"):
        predict(Red(), [source], out, fingerprint={"weights": "1" * 64, "prediction.flip": False})
    assert outputs(out) == before
    (out / "mine.txt").touch()
    report = predict(Red(), [source], out, fingerprint={"weights": "2" * 64}, again=True)
    assert (report.before, report.done) == (0, 1)
    assert set(outputs(out)) == {"cat.png", "mine.txt"}


def test_a_damaged_journal_is_told_and_started_over(tmp_path: Path) -> None:
    source, out = image(tmp_path / "cat.png"), tmp_path / "out"
    predict(Red(), [source], out)
    (out / NAME).write_bytes(b"no journal" * 1000)
    with pytest.raises(DataError, match=r"journal .* is damaged .*--again"):
        predict(Red(), [source], out)
    assert predict(Red(), [source], out, again=True).done == 1


def test_two_calls_do_not_write_to_one_folder(tmp_path: Path) -> None:
    source, out = image(tmp_path / "cat.png"), tmp_path / "out"

    def meanwhile(*_: Any) -> None:
        with pytest.raises(ConfigError, match="another process is writing predictions"):
            predict(Red(), [source], out)

    assert predict(Red(), [source], out, on_done=meanwhile).done == 1
    assert predict(Red(), [source], out).before == 1


def test_an_error_of_the_model_keeps_what_was_done(tmp_path: Path) -> None:
    for number in range(6):
        image(tmp_path / "in" / f"{number}.png", number)

    def stream(images: Iterable[Any], batch_size: int) -> Iterator[Result]:
        for number, result in enumerate(Red().stream(images, batch_size)):
            if number == 4:
                raise ZeroDivisionError
            yield result

    with pytest.raises(ZeroDivisionError):
        predict(SimpleNamespace(stream=stream), [tmp_path / "in"], tmp_path / "out")
    model = Red()
    assert predict(model, [tmp_path / "in"], tmp_path / "out").before == 4
    assert model.seen == 2


def test_a_full_disk_stops_the_call_and_not_only_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        image(tmp_path / "in" / f"{number}.png", number)
    real = os.fsync

    def full(descriptor: int) -> None:
        if len(list((tmp_path / "out").glob("[0-9].png"))) >= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"cannot write .*No space left"):
            predict(Red(), [tmp_path / "in"], tmp_path / "out")
    report = predict(Red(), [tmp_path / "in"], tmp_path / "out")
    assert (report.done, report.failed) == (6, 0)
    assert set(outputs(tmp_path / "out")) == {f"{number}.png" for number in range(6)}


def done_in(out: Path) -> set[int]:
    """Numbers of the images that the journal of a killed call has as done."""
    if not (out / NAME).exists():
        return set()
    with sqlite3.connect(out / NAME) as table:
        try:
            return {int(Path(os.fsdecode(path)).stem) for (path,) in table.execute("SELECT path FROM images WHERE state = 1")}
        except sqlite3.OperationalError:  # killed before it had a table
            return set()
        finally:
            table.rollback()


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_killed_at_ten_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("focus_framework.inference.many.journal.INTERVAL", 0.0)  # so that what is settled is on the disk
    for number in range(60):
        image(tmp_path / "in" / f"{number}.png", number)
    out, log, settled, chance = tmp_path / "out", tmp_path / "log", tmp_path / "settled", random.Random(0)
    forms = ["mask", "cutout", "rle"]
    done: set[int] = set()

    def on_done(*_: Any) -> None:
        with settled.open("a") as file:
            file.write("x")

    for _ in range(10):
        log.write_text("")
        settled.write_text("")
        options = {"forms": forms, "batch_size": 4, "on_done": on_done}
        process = multiprocessing.get_context("fork").Process(
            target=predict, args=(Red(log, seconds=0.01), [tmp_path / "in"], out), kwargs=options
        )
        process.start()
        wanted = chance.randint(0, 5)  # images, and not seconds: a busy machine may need many for the first one
        while process.is_alive() and settled.stat().st_size < wanted:
            time.sleep(0.001)
        time.sleep(chance.uniform(0.0, 0.02))
        assert process.is_alive()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert not done & {int(line) for line in log.read_text().split()}, "an image that was done is predicted once more"
        done = done_in(out)
        for path in (*out.rglob("*.png"), *out.rglob("*.json")):
            if not BESIDE.fullmatch(path.name):
                Image.open(path).load() if path.suffix == ".png" else json.loads(path.read_text())  # whole, or not there
    assert 0 < len(done) < 60  # the kills met it at work
    model = Red()
    report = predict(model, [tmp_path / "in"], out, forms=forms)
    assert (report.done, report.failed, report.before, model.seen) == (60, 0, len(done), 60 - len(done))
    predict(Red(), [tmp_path / "in"], tmp_path / "whole", forms=forms)
    assert outputs(out) == outputs(tmp_path / "whole")  # nothing half-written, nothing left over


def test_only_our_own_leftovers_go(tmp_path: Path) -> None:
    for name in (f".focus-{'0' * 32}.png", ".focus-framework", ".focus-mine.png", "a.png"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".focus-framework", ".focus-mine.png", "a.png"]


def test_readers_are_never_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr("focus_framework.inference.many.pipeline.AHEAD", 100)
    begun: list[int] = []
    with ThreadPoolExecutor(2) as pool:

        def work(number: int) -> int:
            begun.append(number)
            return number

        taken = []
        for number, result in Ahead(iter(range(50)), work, pool, count=1000, size=lambda result: 60):
            taken.append(result)
            time.sleep(0.002)
            assert number == result
            assert len(begun) - len(taken) <= 2 + 2 * 8  # two are ready, and as many at work as there are threads twice
    assert taken == list(range(50))
