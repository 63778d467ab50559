"""Damaged, foreign and odd films, made by rule from a good one, and places where no film can be written."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .case import Case

GROUP = "films"
FILE = "clip.mp4"
CHECKPOINT = ("--checkpoint", "@/checkpoint.safetensors", "--device", "cpu", "--json")
MASK = ("predict", f"@/{FILE}", *CHECKPOINT, "--out", "mask.mp4")
OK, WRONG, MAY = frozenset({0}), frozenset({1, 2}), frozenset({0, 1, 2})
SIDE, FRAMES = 48, 6


def cases() -> Iterator[Case]:
    yield _case("as it should be", lambda film: None, OK)
    yield from _bytes()
    yield from _no_files()
    yield from _unusual()
    yield from _places()
    yield from _options()


def _case(what: str, spoil: Callable[[Path], Any], exits: frozenset[int] = WRONG, call: tuple[str, ...] = MASK, name: str = FILE) -> Case:
    """`spoil` is called with the good film's path. What is left of a film may be written, if its faults are told."""

    def make(inputs: Path) -> None:
        (inputs / FILE).write_bytes(film())
        spoil(inputs / FILE)

    left = ("work/mask.mp4",) if 0 in exits else ()
    return Case(GROUP, f"a film {what}", call, (name,), exits, make, leaves=left, needs="av")


@cache
def film(suffix: str = ".mp4", codec: str = "mpeg4", pixels: str = "yuv420p", sides: tuple[int, int] = (SIDE, SIDE), count: int = FRAMES,
         times: tuple[int, ...] = (), rate: Fraction = Fraction(25), sound: bool = False, turned: int = 0) -> bytes:  # fmt: skip
    """A small film: height and width are `sides`, `times` are those of its frames in units of 1 / `rate` s."""
    import av

    random = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        path = Path(folder, f"film{suffix}")
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=rate) if count or not sound else None
            heard: Any = container.add_stream("aac", rate=48000, layout="mono") if sound else None
            if stream:
                (stream.height, stream.width), stream.pix_fmt = sides, pixels
                stream.codec_context.time_base = stream.time_base = 1 / rate
                if turned:
                    stream.set_display_rotation(turned)
            container.start_encoding()
            for number in range(count):
                shown = av.VideoFrame.from_ndarray(random.integers(0, 255, (*sides, 3), dtype=np.uint8), format="rgb24")
                shown.pts, shown.time_base = times[number] if times else number, 1 / rate
                container.mux(stream.encode(shown))
            for number in range(8 * sound):
                noise = av.AudioFrame.from_ndarray(random.normal(size=(1, 960)).astype(np.float32), format="fltp", layout="mono")
                noise.sample_rate, noise.pts, noise.time_base = 48000, 960 * number, Fraction(1, 48000)
                container.mux(heard.encode(noise))
            for one in filter(None, (stream, heard)):
                container.mux(one.encode())
        return path.read_bytes()


def _bytes() -> Iterator[Case]:
    def of(change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
        return lambda path: path.write_bytes(change(path.read_bytes()))

    for share in (0.0005, 0.01, 0.3, 0.9, 0.999):
        yield _case(
            "that is cut short", of(lambda content, share=share: content[: int(len(content) * share)]), MAY if share > 0.9 else WRONG
        )
    for content in (b"", b"\0" * 3000, b"not a film\n" * 300, b"<!doctype html><html></html>", b"PK\x03\x04" + bytes(600),
                    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", b"\x80\x04N.", b"RIFF\xff\xff\xff\xffAVI ",
                    b"\x1aE\xdf\xa3" + bytes(200), b"\0\0\0\x18ftypmp42" + bytes(12)):  # fmt: skip
        yield _case("that is something else", of(lambda _, content=content: content))
    for content in (b"#EXTM3U\n#EXTINF:1,\n/dev/zero\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", b"ffconcat version 1.0\nfile /dev/zero\nfile one.png\n",
                    b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"):  # fmt: skip
        yield _case("that is a list of other films", of(lambda _, content=content: content))
    for tenth in range(10):

        def damage(content: bytes, tenth: int = tenth) -> bytes:
            place = len(content) * tenth // 10
            return content[:place] + bytes(255 - byte for byte in content[place : place + 60]) + content[place + 60 :]

        yield _case("that is damaged inside", of(damage), MAY)
    for suffix, codec in {".avi": "mpeg4", ".mkv": "mpeg4", ".ts": "mpeg2video", ".webm": "libvpx-vp9"}.items():
        for share in (0.02, 0.5):
            yield _case(
                "in another container that is cut short",
                of(lambda _, suffix=suffix, codec=codec, share=share: _share(film(suffix, codec), share)),
                MAY,
            )
    yield _case(
        "that claims to be huge",
        of(
            lambda _: film(".avi", "rawvideo", "bgr24").replace(
                struct.pack("<ii", SIDE, -SIDE), struct.pack("<ii", 60_000, -60_000)
            )  # rows from below
        ),
    )
    yield _case("that claims to be huge", of(lambda content: content.replace(SIDE.to_bytes(2, "big") * 2, b"\xff\xff\xff\xff")), MAY)
    yield _case("whose name says something else", lambda path: path.write_bytes((path.parent / "one.png").read_bytes()), MAY)
    yield _case("whose name says something else", lambda path: path.write_bytes((path.parent / "checkpoint.safetensors").read_bytes()))


def _share(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


def _no_files() -> Iterator[Case]:
    for spoil in (
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/dev/urandom"),
        lambda path: path.symlink_to("/no/such/film"),
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to("/proc/self/mem"),
        lambda path: None,
    ):
        yield _case("that is no file", lambda path, spoil=spoil: (path.unlink(), spoil(path)))
    for name in ("http://127.0.0.1:9/x.mp4", "rtsp://127.0.0.1:9/x", "concat:a.mp4|b.mp4", "data:video/mp4;base64,AAAA", "pipe:7", "subfile,,start,0,end,9,,:x", "lavfi:color",
                 "", " ", "x" * 5000 + ".mp4", "\x01.mp4", "no/such.mp4"):  # fmt: skip
        call = ("predict", name, *MASK[2:])
        yield _case("that is no file", lambda path: None, WRONG, call, name[:40].strip() or "argument")


def _unusual() -> Iterator[Case]:
    def write(**facts: Any) -> Callable[[Path], Any]:
        return lambda path: path.write_bytes(film(**facts))

    yield _case("of no frames", write(count=0))
    yield _case("of no frames", write(count=0, suffix=".mkv"))
    yield _case("of sound alone", write(count=0, sound=True))
    yield _case("of one frame", write(count=1), OK)
    for sides in ((1, 1), (3, 5), (1, 300), (47, 33), (2, 2000)):
        yield _case("of an odd size", write(suffix=".mkv", codec="ffv1", pixels="bgr0", sides=sides), MAY if min(sides) < 2 else OK)
    for pixels in ("gray", "yuva420p", "yuv444p10le", "gbrp16le"):
        yield _case("of unusual pixels", write(suffix=".mkv", codec="ffv1", pixels=pixels), OK)
    for angle in (90, 180, 45):
        yield _case("that is turned", write(turned=angle), OK)
    for times in ((0, 1 << 40, 1 << 41, 1 << 42, 1 << 43, 1 << 44), (0, 1, 2, 3, 4, 1_000_000), (-50, -40, -30, -20, -10, 0)):
        yield _case(
            "of odd times",
            write(suffix=".mkv", codec="ffv1", pixels="bgr0", times=times),
            MAY,
            name="mask.mp4" if max(times) > 1 << 30 else FILE,
        )
    for rate in (Fraction(1, 100), Fraction(1000), Fraction(30000, 1001)):
        yield _case("of an odd rate", write(rate=rate), OK)
    for suffix in (".mp4", ".mkv"):
        yield _case("with sound", write(suffix=suffix, sound=True), OK)
    yield _case("whose sound the other form does not hold", write(sound=True), WRONG, (*MASK[:-1], "mask.webm"))


def _places() -> Iterator[Case]:
    def placed(put: Callable[[Path], Any]) -> Callable[[Path], Any]:
        """Puts what is in the way beside the inputs."""
        return lambda path: put(path.parent / "there.mp4")

    there = (*MASK[:-1], "@/there.mp4")
    for put in (
        lambda path: path.write_text("somebody's own words"),
        lambda path: path.write_bytes(film(codec="mpeg4", count=2)),
        lambda path: path.symlink_to(path.parent / FILE),
        lambda path: path.symlink_to("/no/such/place/mask.mp4"),
        lambda path: path.symlink_to("/dev/full"),
        lambda path: path.symlink_to(path),
        os.mkfifo,
    ):
        yield _case("that is written where something else is", placed(put), WRONG, there, "there.mp4")
    yield _case("that is written where something else is", lambda path: None, WRONG, (*MASK[:-1], f"@/{FILE}"))
    yield _case("that is written below a file", lambda path: None, WRONG, (*MASK[:-1], "@/one.png/mask.mp4"), "one.png")
    for out in ("mask.avi", "mask.mkv", "mask", "s3://bucket/mask.mp4", "file:///mask.mp4", "x" * 300 + ".mp4"):
        yield _case(
            "whose mask has a name of no film", lambda path: None, WRONG, (*MASK[:-1], out), "x" * 40 if "x" * 40 in out else "film"
        )
    for forms in ("cutout", "mask,overlay", "rle", "nonsense"):
        yield _case("of a form that no film has", lambda path: None, WRONG, (*MASK, "--save", forms), forms.split(",")[0])


def _options() -> Iterator[Case]:
    for option, value in (("--start", "-1"), ("--start", "nan"), ("--start", "1:2:3:4"), ("--start", "abc"), ("--start", "1e400"), ("--start", "9" * 400), ("--end", "0"), ("--end", "-1"), ("--end", "inf"),
                          ("--smooth", "2"), ("--smooth", "nan"), ("--every", "0"), ("--every", "9" * 40)):  # fmt: skip
        exits = MAY if (option, value) in (("--end", "inf"), ("--every", "9" * 40)) else WRONG
        yield _case(
            "with a wrong option", lambda path: None, exits, (*MASK, option, value), option if value != "0" or option != "--end" else "0 s"
        )
    for start in ("3", "1:00", "99:59:59"):
        yield _case("that is over before it begins", lambda path: None, WRONG, (*MASK, "--start", start))
    yield _case("that ends before it begins", lambda path: None, WRONG, (*MASK, "--start", "0.2", "--end", "0.1"), "0.2")
    for more in (("@/one.png",), (f"@/{FILE}",), ("--recursive",), ("--engine", "ray"), ("--list", "@/note.txt")):
        yield _case("with what does not go with a film", lambda path: None, WRONG, (*MASK, *more), "film")
    for call, name in (
        (("predict", f"@/{FILE}", *CHECKPOINT, "--out", "out"), FILE),
        (("predict", f"@/{FILE}", "@/one.png", *CHECKPOINT, "--out", "out"), FILE),
        (("predict", "@/one.png", *CHECKPOINT, "--out", "out", "--every", "2"), "--every"),
        (("explain", f"@/{FILE}", *CHECKPOINT, "--out", "out"), FILE),
        (("data", "check", f"@/{FILE}", "--json"), FILE),
        (("evaluate", "--checkpoint", "@/checkpoint.safetensors", "--data", f"@/{FILE}", "--json"), FILE),
    ):
        yield _case("in place of an image", lambda path: None, WRONG, call, name)
