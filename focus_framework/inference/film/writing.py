"""A film that is written: frames of one form of prediction, and the packets of sound that came with them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from .reading import SUFFIXES, Film, Packet, Shot, library

FORMS = ("overlay", "mask", "binary", "cutout")
OPAQUE = {".mp4": ("libx264", "libopenh264", "mpeg4"), ".mov": ("libx264", "libopenh264", "mpeg4"), ".webm": ("libvpx-vp9",)}
CLEAR = {".mov": ("prores_ks",), ".webm": ("libvpx-vp9",)}
"""Codecs by suffix, the best first; those of `CLEAR` keep transparency."""
PIXELS = {"prores_ks": "yuva444p10le", "clear libvpx-vp9": "yuva420p"}
OPTIONS = {
    "libx264": {"crf": "18", "preset": "medium"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1", "auto-alt-ref": "0"},  # else alpha is lost
    "prores_ks": {"profile": "4444", "vendor": "apl0"},
    "mpeg4": {"qscale": "3"},
}
BT709 = 1
"""The number that H.273 gives it; said in the film, because players guess otherwise."""
TV = 1


def check_form(out: Path, forms: list[str]) -> str:
    """The one form of a film. Raises `ConfigError` where a film cannot hold it."""
    if len(forms) != 1 or forms[0] not in FORMS:
        raise ConfigError(f"a film shows one form: --save {', '.join(FORMS)}; not {', '.join(forms)}")
    if forms[0] == "cutout" and out.suffix.lower() not in CLEAR:
        raise ConfigError(f"{out.suffix} has no transparency; a cutout is written to {' or '.join(sorted(CLEAR))}")
    return forms[0]


class Writer:
    """Writes to `path`; `note` stands in the film, to be known again. Raises `ConfigError` where the sound cannot be copied."""

    def __init__(self, path: Path, film: Film, shot: Shot, form: str, *, sound: bool, note: str) -> None:
        av = library()
        suffix = path.suffix.lower()
        self._av, self._film, self._last = av, film, -1
        ticks = film.time_base.denominator  # of the film's beginning too, which is rounded to milliseconds otherwise
        options = {} if suffix == ".webm" else {"movie_timescale": str(ticks)}
        self.container = av.open(str(path), "w", format=suffix[1:], options=options)
        self.container.metadata["comment"] = note
        try:
            self._stream = self._add_stream(suffix, film, shot, form)
            self._sounds = {stream.index: self._add_sound(stream, suffix) for stream in film.sounds} if sound else {}
        except BaseException:
            self.container.close()
            raise

    def _add_stream(self, suffix: str, film: Film, shot: Shot, form: str) -> Any:
        clear = form == "cutout"
        names = (CLEAR if clear else OPAQUE)[suffix]
        codec = next((name for name in names if name in self._av.codecs_available), None)
        if codec is None:
            raise ConfigError(f"this PyAV has none of the codecs {', '.join(names)}; choose another of {', '.join(SUFFIXES)}")
        stream = self.container.add_stream(codec, rate=film.rate, options=OPTIONS.get(codec, {}))
        height, width = shot.image.shape[:2]
        stream.pix_fmt = PIXELS.get(f"clear {codec}" if clear and codec != "prores_ks" else codec, "yuv420p")
        self._even = "420" in stream.pix_fmt
        stream.width, stream.height = (width + width % 2, height + height % 2) if self._even else (width, height)
        context = stream.codec_context
        context.time_base = film.time_base
        stream.time_base = film.time_base
        aspect = film.stream.sample_aspect_ratio or Fraction(1)
        turned = film.stream.codec_context.width != width
        if aspect not in (0, 1):
            context.sample_aspect_ratio = 1 / aspect if turned else aspect
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = TV
        if clear and codec == "libvpx-vp9":
            stream.metadata["alpha_mode"] = "1"
        return stream

    def _add_sound(self, stream: Any, suffix: str) -> Any:
        codec = stream.codec_context.name
        if codec not in self.container.supported_codecs:
            raise ConfigError(
                f"the sound of {self._film.name} is {codec}, which {suffix} does not hold; write another of {', '.join(SUFFIXES)}, "
                "or say --no-sound"
            )
        return self.container.add_stream_from_template(stream)

    def show(self, image: NDArray[np.uint8], shot: Shot) -> None:
        """Write one frame: `image` is `[H, W]`, `[H, W, 3]` or `[H, W, 4]`."""
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if self._even:
            image = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
        if image.shape[:2] != (self._stream.height, self._stream.width):  # a film may change its size in the middle
            import cv2

            image = cv2.resize(image, (self._stream.width, self._stream.height), interpolation=cv2.INTER_AREA)
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgba" if image.shape[2] == 4 else "rgb24")
        frame = frame.reformat(format=self._stream.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG")
        self._last = frame.pts = max(shot.pts, self._last + 1)  # times rise, whatever a film says
        frame.time_base = self._film.time_base
        self.container.mux(self._stream.encode(frame))

    def hear(self, packet: Packet) -> None:
        """Copy a packet of sound."""
        stream = self._sounds.get(packet.stream.index)
        if stream is not None:
            packet.stream = stream
            self.container.mux(packet)

    def finish(self) -> None:
        self.container.mux(self._stream.encode())
        self.container.close()

    def drop(self) -> None:
        """Close what will not be a film."""
        self.container.close()


def note_of(path: Path) -> str:
    """What `Writer` noted in a film; empty where it did not write it."""
    av = library()
    try:
        with av.open(str(path)) as container:
            return next((value for key, value in container.metadata.items() if key.lower() == "comment"), "")
    except (av.FFmpegError, OSError, ValueError):
        return ""
