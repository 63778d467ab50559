"""A film as a stream of upright frames and packets of sound, read once from its beginning to its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, DataError
from ...files.reading import problem

Packet: TypeAlias = Any
"""PyAV's; its types are looked at by nobody who has not installed it."""
SUFFIXES = (".mp4", ".mov", ".webm")
"""Of films that are written."""
CAMERA = "/dev/video"
USUAL_RATE = Fraction(25)
"""Where a film does not say its rate."""
SLACK = 0.5
"""Seconds that may be missing at the end of a film: headers are rounded, and sound and frames do not end together."""
MOST_NAMED = 1000
"""Broken frames whose times are kept."""


def library() -> Any:
    """PyAV. Raises `ConfigError` where it is not installed."""
    try:
        import av
    except ImportError:
        raise ConfigError('films are read by PyAV, which is not installed; run: pip install "focus-framework[video]"') from None
    return av


@dataclass(frozen=True)
class Shot:
    """A frame as it is shown."""

    image: NDArray[np.uint8]
    """`[H, W, 3]`, RGB, upright."""
    pts: int
    """Its time in units of `Film.time_base`, from the beginning of what is read."""
    number: int


class Film:
    """A film that is open; `source` is a file, a pipe such as ``/dev/stdin``, or a camera such as ``/dev/video0``.

    Of it is read what lies between `start` and `end`, in seconds. Raises `DataError` where there is no film, `ConfigError` without PyAV.
    """

    def __init__(self, source: str | PathLike[str], *, start: float = 0.0, end: float | None = None) -> None:
        self._av = library()
        self.name, self.start, self.end = str(source), start, end
        if not 0 <= start < (end if end is not None else float("inf")):
            raise ConfigError(f"a film is read from a start of 0 s or more to an end after it, not from {start:g} s to {end:g} s")
        self.broken: list[float] = []
        """Times in seconds of frames that could not be decoded, or not wholly; the first thousand."""
        self.broken_count = 0
        self.frames = 0
        """Frames that were read."""
        self.truncated = ""
        """What is wrong where a film ends before its header says."""
        self.container = self._open()
        found = self.container.streams.best("video")
        if found is None:
            self.container.close()
            raise DataError(f"{self.name} has no images: it is sound alone")
        self.stream = found
        self.sounds = list(self.container.streams.audio)
        self.time_base = Fraction(self.stream.time_base or Fraction(1, 90_000))
        self._origin = float((self.stream.start_time or 0) * self.time_base)
        self._seen = 0.0

    def _open(self) -> Any:
        options = {"format": "v4l2"} if self.name.startswith(CAMERA) else {}
        path = Path(self.name)
        if path.is_dir():
            raise DataError(f"{self.name} is a folder; a film is a file")
        if not os.path.exists(path):  # noqa: PTH110 - of any name; FFmpeg would take some for addresses
            raise DataError(f"{self.name[:200]} {problem(path)}; give a film")
        try:
            return self._av.open(sys.stdin.buffer if self.name == "/dev/stdin" else self.name, "r", **options)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise DataError(f"cannot read {self.name} as a film: {reason(error)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.container.close()

    @cached_property
    def rate(self) -> Fraction:
        """Frames a second, on average."""
        return Fraction(self.stream.average_rate or self.stream.guessed_rate or USUAL_RATE)

    @property
    def seconds(self) -> float | None:
        """Of what is read, as far as the header says."""
        whole = self._whole()
        end = self.end if whole is None else min(whole, self.end if self.end is not None else whole)
        return None if end is None else max(0.0, end - self.start)

    def _whole(self) -> float | None:
        if self.stream.duration is not None:
            return float(self.stream.duration * self.time_base)
        return None if self.container.duration is None else self.container.duration / self._av.time_base

    def read(self) -> Iterator[Shot | Packet]:
        """Frames that could be decoded and packets of sound, in the order of the film. `broken` and `truncated` say what was wrong."""
        if self.start:
            self._seek()
        try:
            for packet in self._packets():
                if packet.stream is self.stream:
                    for frame in self._decoded(packet):
                        time = float(frame.pts * self.time_base) - self._origin
                        if self.end is not None and time >= self.end:
                            return
                        if time >= self.start:
                            yield self._shot(frame)
                elif packet.dts is not None and self._wanted(packet):
                    yield self._moved(packet)
        except (self._av.FFmpegError, OSError) as error:
            self.truncated = f"it cannot be read further than {self._seen:.3f} s: {reason(error)}"
            return
        expected = self._expected()
        if expected is not None and self._seen < expected - SLACK:
            self.truncated = f"it ends after {self._seen:.3f} of {expected:.3f} s"

    def _seek(self) -> None:
        with suppress(self._av.FFmpegError, OSError):  # a pipe: what comes before the start is read and left
            self.container.seek(int((self.start + self._origin) / self.time_base), stream=self.stream)

    def _packets(self) -> Iterator[Packet]:
        for packet in self.container.demux(self.stream, *self.sounds):
            if packet.dts is not None and packet.time_base is not None:
                after = float(((packet.pts if packet.pts is not None else packet.dts) + (packet.duration or 0)) * packet.time_base)
                self._seen = max(self._seen, after - self._origin)
            yield packet

    def _expected(self) -> float | None:
        """Seconds that all of it should have, in what is read of it."""
        if self.container.duration is None:
            return None
        whole = self.container.duration / self._av.time_base
        return min(whole, self.end) if self.end is not None else whole

    def _decoded(self, packet: Packet) -> Iterator[Any]:
        try:
            frames: list[Any] = packet.decode()
        except self._av.FFmpegError:
            self._break(packet.pts)
            return
        for frame in frames:
            if frame.pts is None:
                self._break(packet.pts)
                continue
            if frame.is_corrupt:  # the decoder has made up for what was missing
                self._break(frame.pts)
            yield frame

    def _break(self, pts: int | None) -> None:
        time = self._seen if pts is None else float(pts * self.time_base) - self._origin
        if time < self.start:
            return
        self.broken_count += 1
        if len(self.broken) < MOST_NAMED:
            self.broken.append(round(time, 3))

    def _shot(self, frame: Any) -> Shot:
        self.frames += 1
        image = frame.to_ndarray(format="rgb24")
        turned = np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90))) if frame.rotation else image
        return Shot(turned, int(frame.pts or 0) - self._shift(self.time_base), self.frames)

    def _shift(self, time_base: Fraction) -> int:
        return round((self._origin + self.start) / time_base)

    def _wanted(self, packet: Packet) -> bool:
        time = float((packet.pts if packet.pts is not None else packet.dts or 0) * (packet.time_base or 1)) - self._origin
        return self.start <= time < (self.end if self.end is not None else float("inf")) or (not self.start and time < 0)

    def _moved(self, packet: Packet) -> Packet:
        shift = self._shift(Fraction(packet.time_base or 1))
        if shift:
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
        return packet


def reason(error: BaseException) -> str:
    """What PyAV says, without its number and its inside."""
    return str(getattr(error, "strerror", None) or error)
