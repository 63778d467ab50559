"""Films: times, sound, transparency and rotation stay; what is broken is counted; a kill leaves no half film."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra video is not installed")
import av
from click.testing import CliRunner

from focus_framework import ConfigError, DataError
from focus_framework.cli import predict as command
from focus_framework.inference.film import predicting
from focus_framework.inference.film.predicting import film_frames, predict_film, smoothed
from focus_framework.inference.film.reading import Film, Shot
from focus_framework.inference.result import Result

RATE = Fraction(30000, 1001)
HEIGHT, WIDTH = 48, 64


class Red:
    """The foreground is where a frame is red. It remembers how many frames it saw."""

    task = "red"

    def __init__(self, seconds: float = 0.0) -> None:
        self.seen, self.seconds = 0, seconds

    def stream(self, images: Iterable[Any], batch_size: int) -> Iterator[Result]:
        for image in images:
            self.seen += 1
            time.sleep(self.seconds)
            yield Result((image[..., 0] / 255).astype(np.float32), image)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "fingerprint", lambda model: {"weights": "a"})


def frame(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray[Any, Any]:
    """Grey, with a red square that moves to the right; its brightness tells the number."""
    image = np.full((height, width, 3), 60, np.uint8)
    image[8:24, 2 * number % (width - 16) :][:, :16] = (220, 40, 40)
    image[32:, :16] = 4 * (number % 60)
    return image


def write(
    path: Path,
    count: int = 30,
    *,
    codec: str = "libx264",
    sound: str = "aac",
    times: list[int] | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    pixels: str = "yuv420p",
) -> Path:
    """A film; `times` are in units of 1 / 30000 s."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = stream.time_base = Fraction(1, 30000)
        if rotation:
            stream.set_display_rotation(rotation)
        heard = container.add_stream(sound, rate=48000, layout="mono") if sound else None
        for number in range(count):
            shown = av.VideoFrame.from_ndarray(frame(number, *size), format="rgb24")
            shown.pts, shown.time_base = times[number] if times else 1001 * number, Fraction(1, 30000)
            container.mux(stream.encode(shown))
            if heard:
                tone = np.sin(np.arange(1600) * 0.05 + number)[None].astype(np.float32)
                noise = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                noise.sample_rate, noise.pts, noise.time_base = 48000, 1600 * number, Fraction(1, 48000)
                container.mux(heard.encode(noise))
        container.mux(stream.encode())
        if heard:
            container.mux(heard.encode())
    return path


def times_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def images_of(path: Path, form: str = "rgb24") -> list[np.ndarray[Any, Any]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format=form) for frame in container.decode(video=0)]


def sound_of(path: Path) -> list[tuple[str, Fraction]]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        return [(hashlib.sha256(bytes(packet)).hexdigest(), packet.pts * packet.time_base) for packet in packets]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_times_and_sound_are_those_of_the_film(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / "clip.mp4")
    told: list[tuple[float, float | None]] = []
    report = predict_film(source, Red(), tmp_path / f"out{suffix}", on_frame=lambda *at: told.append(at))  # type: ignore[arg-type]
    assert (report.frames, report.whole) == (30, True)
    assert times_of(report.out) == times_of(source)
    assert sound_of(report.out) == sound_of(source)
    assert len(sound_of(source)) > 30
    with av.open(str(report.out)) as container:
        assert container.streams.video[0].average_rate == RATE
    for mine, theirs in zip(images_of(report.out), images_of(source), strict=True):
        assert np.abs(mine[..., 0].astype(int) - theirs[..., 0]).mean() < 4
    assert told[-1] == (pytest.approx(29 * 1001 / 30000), pytest.approx(30 * 1001 / 30000))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_colours_come_out_as_they_went_in(tmp_path: Path) -> None:
    source = write(tmp_path / "clip.mp4", 3, pixels="yuv444p")
    report = predict_film(source, Red(), tmp_path / "out.mov", form="cutout")  # 4:4:4, so that only the conversion could differ
    for mine, theirs in zip(images_of(report.out), images_of(source), strict=True):
        assert np.abs(mine.astype(int) - theirs).max() <= 6


def test_uneven_times_stay(tmp_path: Path) -> None:
    times = [0, 1001, 1500, 9000, 9100, 20000, 20001, 50000]
    source = write(tmp_path / "clip.mp4", len(times), times=times, sound="")
    report = predict_film(source, Red(), tmp_path / "out.mp4")  # type: ignore[arg-type]
    assert times_of(report.out) == times_of(source) == [Fraction(time, 30000) for time in times]


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_film_that_lies_on_its_side_is_put_upright(tmp_path: Path, rotation: int) -> None:
    source = write(tmp_path / "clip.mp4", 2, rotation=rotation, sound="")
    report = predict_film(source, Red(), tmp_path / "out.mp4", form="binary")  # type: ignore[arg-type]
    expected = np.rot90(frame(0)[..., 0] > 127, rotation // 90)
    [first, _] = images_of(report.out)
    assert first.shape[:2] == expected.shape
    assert ((first[..., 0] > 127) != expected).mean() < 0.03
    with av.open(str(report.out)) as container:
        assert next(container.decode(video=0)).rotation == 0


@pytest.mark.parametrize(("name", "sound"), [("out.webm", False), ("out.mov", True)])
def test_transparency_is_there_when_decoded(tmp_path: Path, name: str, sound: bool) -> None:
    source = write(tmp_path / "clip.mp4", 5)
    report = predict_film(source, Red(), tmp_path / name, form="cutout", sound=sound)  # type: ignore[arg-type]
    with av.open(str(report.out)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create("libvpx-vp9", "r") if name.endswith("webm") else stream.codec_context  # vp9 leaves alpha out
        packets = list(container.demux(stream))
        shown = [frame for packet in packets for frame in decoder.decode(packet if packet.size else None)]
        alphas = [frame.to_ndarray(format="rgba")[..., 3] for frame in shown]
    assert len(alphas) == 5
    for alpha, image in zip(alphas, images_of(source), strict=True):
        assert np.abs(alpha.astype(int) - image[..., 0]).mean() < 4
        assert alpha.max() > 200
        assert alpha.min() < 70


def test_a_part_of_a_film_and_every_third_frame(tmp_path: Path) -> None:
    source = write(tmp_path / "clip.mp4", 60)
    model = Red()
    report = predict_film(source, model, tmp_path / "out.mp4", start=0.5, end=1.5, every=3, form="overlay")  # type: ignore[arg-type]
    expected = [time for time in times_of(source) if 0.5 <= time < 1.5]
    assert [time + Fraction(1, 2) for time in times_of(report.out)] == expected
    assert (report.frames, model.seen) == (len(expected), -(-len(expected) // 3))
    whole, part = sound_of(source), sound_of(report.out)
    assert [digest for digest, time in whole if 0.5 <= time < 1.5] == [digest for digest, _ in part]
    seen = list(film_frames(Red(), source, every=3, start=0.5, end=1.5))  # type: ignore[arg-type]
    assert [Fraction(round(one.time * 30000), 30000) for one in seen] == expected
    for number, one in enumerate(seen):
        assert np.array_equal(one.result.probability, seen[number - number % 3].result.probability)
        assert np.array_equal(one.result.image[..., 0] / np.float32(255), one.result.probability) == (number % 3 == 0)


def test_an_odd_size_gets_one_more_row_and_column(tmp_path: Path) -> None:
    source = write(tmp_path / "clip.mkv", 3, codec="ffv1", sound="", size=(47, 63), pixels="bgr0")
    predict_film(source, Red(), tmp_path / "out.mp4", form="overlay")  # type: ignore[arg-type]
    assert images_of(tmp_path / "out.mp4")[0].shape == (48, 64, 3)


def test_doubt_is_smoothed_and_certainty_does_not_lag() -> None:
    chance = np.random.default_rng(0)
    image = np.zeros((32, 32, 3), np.uint8)
    still = [Result(np.clip(0.5 + 0.15 * chance.standard_normal((32, 32)), 0, 1).astype(np.float32), image) for _ in range(20)]

    def run(results: list[Result]) -> list[np.ndarray[Any, Any]]:
        last, maps = None, []
        for result in results:
            last = smoothed(result, last, 0.8) if last is not None else result
            maps.append(last.probability)
        return maps

    def flicker(maps: list[Any]) -> float:
        return float(np.mean([np.abs(after - before).mean() for before, after in itertools.pairwise(maps)]))

    assert flicker(run(still)) < 0.5 * flicker([one.probability for one in still])
    moving = []
    for number in range(12):
        probability = np.full((32, 32), 0.01, np.float32)
        probability[8:16, 2 * number : 2 * number + 8] = 0.99
        moving.append(Result(probability, image))
    for mine, theirs in zip(run(moving), moving, strict=True):
        assert np.array_equal(mine > 0.5, theirs.mask)
        assert np.abs(mine - theirs.probability).max() < 0.02


def test_broken_frames_are_counted_and_named_by_their_time(tmp_path: Path) -> None:
    source = write(tmp_path / "clip.mkv", 20, codec="mjpeg", sound="", pixels="yuvj420p")
    content = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for number in (7, 12):
        at = content.find(bytes(packets[number]))
        content[at : at + packets[number].size] = bytes(packets[number].size)
    source.write_bytes(content)
    report = predict_film(source, Red(), tmp_path / "out.mp4")  # type: ignore[arg-type]
    times = [float(packets[number].pts * packets[number].time_base) for number in (7, 12)]
    assert (report.frames, report.broken_count, report.truncated) == (18, 2, "")
    assert report.broken == pytest.approx(times, abs=0.001)
    assert len(times_of(report.out)) == 18


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4"])
def test_a_truncated_film_gives_what_there_is(tmp_path: Path, name: str) -> None:
    options = {"movflags": "+faststart"} if name.endswith("mp4") else {}
    source = write(tmp_path / name, 90, options=options)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    report = predict_film(source, Red(), tmp_path / "out.mp4")  # type: ignore[arg-type]
    assert 20 < report.frames < 90
    assert "it ends after" in report.truncated or "cannot be read further" in report.truncated
    assert len(times_of(report.out)) == report.frames


def test_few_frames_are_in_memory_however_long_the_film_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "clip.mp4", 400, sound="")
    monkeypatch.setattr("focus_framework.inference.many.pipeline.AHEAD", 20 * HEIGHT * WIDTH * 3)
    alive = most = 0

    class Counted(Shot):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    monkeypatch.setattr("focus_framework.inference.film.reading.Shot", Counted)
    predict_film(source, Red(), tmp_path / "out.mp4")  # type: ignore[arg-type]
    assert 1 < most < 60


def write_slowly(source: Path, out: Path, at_work: Any) -> None:
    class Slow(Red):
        def stream(self, images: Iterable[Any], batch_size: int) -> Iterator[Result]:
            at_work.set()
            return super().stream(images, batch_size)

    predict_film(source, Slow(0.1), out)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_killed_at_ten_moments_it_leaves_no_half_film_and_the_same_call_makes_it(tmp_path: Path) -> None:
    source, out = write(tmp_path / "clip.mp4"), tmp_path / "made" / "out.mp4"
    chance = random.Random(0)
    for _ in range(10):
        fork = multiprocessing.get_context("fork")
        at_work = fork.Event()
        process = fork.Process(target=write_slowly, args=(source, out, at_work))
        process.start()
        assert at_work.wait(30)
        time.sleep(chance.uniform(0, 0.6))
        assert process.is_alive()
        with pytest.raises(ConfigError, match="another process is writing"):
            predict_film(source, Red(), out)  # type: ignore[arg-type]
        os.kill(int(process.pid or 0), signal.SIGKILL)
        process.join()
        assert not out.exists()
    assert len(list(out.parent.iterdir())) == 1  # what the killed ones had begun
    assert predict_film(source, Red(), out).frames == 30  # type: ignore[arg-type]
    assert list(out.parent.iterdir()) == [out]
    model, before = Red(), out.read_bytes()
    assert predict_film(source, model, out).before  # type: ignore[arg-type]
    assert (model.seen, out.read_bytes()) == (0, before)
    assert predict_film(source, model, out, smooth=0.5).frames == 30  # type: ignore[arg-type]  # another setting, our own film
    assert predict_film(source, model, out, smooth=0.5, again=True).frames == 30  # type: ignore[arg-type]


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    source = write(tmp_path / "clip.mp4", 3)
    mine = write(tmp_path / "mine.mp4", 3)
    for options, words in (
        ({"form": "cutout"}, "no transparency"),
        ({"form": "mask,overlay"}, "one form"),
        ({"form": "rle"}, "one form"),
        ({"every": 0}, "every is 0"),
        ({"smooth": 2}, "smooth is 2"),
        ({"start": 2, "end": 1}, "from a start"),
    ):
        with pytest.raises(ConfigError, match=words):
            predict_film(source, Red(), tmp_path / "out.mp4", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="exists and is not a film of ours"):
        predict_film(source, Red(), mine)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="read by this very call"):
        predict_film(source, Red(), source)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"sound of .* is aac"):
        predict_film(source, Red(), tmp_path / "out.webm")  # type: ignore[arg-type]
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(DataError, match=r"cannot read .*text\.mp4"):
        predict_film(tmp_path / "text.mp4", Red(), tmp_path / "out.mp4")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no frame that can be read"):
        predict_film(source, Red(), tmp_path / "out.mp4", start=50)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "mine.mp4", "text.mp4"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["clip.mp4", "--out", "masks"], "clip.mp4 is a film; give --out the name of one, say clip-mask.mp4"),
        (["clip.mp4", "clip.mp4", "--out", "out.mp4"], "one film"),
        (["clip.mp4", "--out", "out.mp4", "--start", "1:x"], "no time such as"),
        (["clip.mp4", "--out", "masks", "--every", "2"], "are for films"),
        (["gone.mp4", "--out", "out.mp4"], "gone.mp4 does not exist"),
        (["clip.mp4", "--out", "out.mp4", "--engine", "ray"], "a film is made in this process"),
        (["clip.mp4", "--out", "s3://bucket/out.mp4"], "written to a file"),
        (["clip.png", "--out", "masks", "--actors", "2"], "--actors is for a cluster"),
        (["clip.mp4", "--out", "out.mp4", "--save", "cutout"], "no transparency"),
    ],
)
def test_wrong_calls_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: list[str], words: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "clip.mp4", 2)
    told = CliRunner().invoke(command.predict, [*call, "--task-plugin", "salient"])
    assert told.exit_code != 0
    assert words in " ".join((told.output + str(told.exception)).split())
    assert command._seconds(None, None, "1:02:03.5") == 3723.5  # type: ignore[arg-type]


def test_a_pipe_is_read_as_it_comes(tmp_path: Path) -> None:
    source = write(tmp_path / "clip.mkv", 20, sound="")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    sender = multiprocessing.get_context("fork").Process(target=pipe.write_bytes, args=(source.read_bytes(),))
    sender.start()
    with Film(pipe) as film:
        assert sum(isinstance(one, Shot) for one in film.read()) == 20
    sender.join()
