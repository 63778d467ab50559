"""Predicting a film: frames are read, predicted and written at the same time, a few at once, however long it is."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, DataError
from ...files.atomic import replacing_alone
from ...files.ownership import refuse_to_replace
from ..many.fingerprint import fingerprint
from ..many.journal import stamp
from ..many.pipeline import Ahead, Behind
from ..outputs import parse_forms, render
from .reading import SUFFIXES, Film, Shot, library, reason
from .writing import Writer, check_form, note_of

if TYPE_CHECKING:
    from ..model import Model
    from ..result import Result

MADE_BY = "FOCUS Framework"
FRAMES_AHEAD = 64  # of small films; of large ones, as many as `pipeline.AHEAD` bytes hold
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FilmFrame:
    """A frame of a film with its result."""

    time: float
    """Seconds from the beginning of the film."""
    number: int
    """From 1, among those that were read."""
    result: Result


@dataclass
class FilmReport:
    """What became of a film."""

    out: Path
    frames: int = 0
    """Frames that were written."""
    broken_count: int = 0
    broken: list[float] = field(default_factory=list)
    """Times in seconds of frames that could not be decoded, or not wholly; the first thousand."""
    truncated: str = ""
    """What is wrong where the film ends too early."""
    before: bool = False
    """Whether an earlier same call has done it; nothing was done now."""

    @property
    def whole(self) -> bool:
        """Whether every frame was there."""
        return not self.broken_count and not self.truncated


def is_film(path: Path) -> bool:
    """Whether a name is that of a film to write."""
    return path.suffix.lower() in SUFFIXES


def film_frames(
    model: Model,
    source: str | PathLike[str],
    *,
    every: int = 1,
    start: float = 0.0,
    end: float | None = None,
    smooth: float = 0.0,
    batch_size: int = 8,
) -> Iterator[FilmFrame]:
    """See `Model.film`."""
    _check(every, smooth)
    with Film(source, start=start, end=end) as film:
        for item, result in predicted(model, film.read(), every=every, smooth=smooth, batch_size=batch_size):
            if result is not None:
                yield FilmFrame(float(item.pts * film.time_base) + start, item.number, result)
        for trouble in troubles(film.broken_count, film.broken, film.truncated):
            logger.warning("%s: %s", film.name, trouble)


def troubles(broken_count: int, broken: list[float], truncated: str) -> list[str]:
    """What is wrong with a film, in words."""
    told = [truncated] if truncated else []
    if broken_count:
        times = ", ".join(f"{time:.3f}" for time in broken[:10])
        more = ", ..." if broken_count > 10 else ""
        told.append(f"{broken_count} {'frame is' if broken_count == 1 else 'frames are'} broken, at {times}{more} s")
    return told


def predicted(
    model: Model, items: Iterable[Any], *, every: int = 1, smooth: float = 0.0, batch_size: int = 8
) -> Iterator[tuple[Any, Result | None]]:
    """All `items` in order, shots with their results. The network looks at every `every`-th shot; its mask stays until the next."""
    waiting: deque[Any] = deque()

    def looked_at(item: Any) -> bool:
        return isinstance(item, Shot) and (item.number - 1) % every == 0

    def images() -> Iterator[NDArray[np.uint8]]:
        for item in items:
            waiting.append(item)
            if looked_at(item):
                yield item.image

    last: Result | None = None

    def before_next() -> Iterator[tuple[Any, Result | None]]:
        while waiting and not looked_at(waiting[0]):
            item = waiting.popleft()
            yield item, replace(last, image=item.image) if isinstance(item, Shot) and last is not None else None

    for result in model.stream(images(), batch_size=max(1, batch_size // every)):
        yield from before_next()
        last = smoothed(result, last, smooth) if smooth and last is not None else result
        yield waiting.popleft(), last
    yield from before_next()


def smoothed(new: Result, previous: Result, ratio: float) -> Result:
    """Against flicker: where the new map is in doubt, it goes part of the way back to the one before.

    ``new + (previous - new) * ratio * doubt``, with a doubt of 1 at a probability of one half and of 0 at 0 and 1: what is certain moves
    at once.
    """
    if previous.probability.shape != new.probability.shape:
        return new
    probability = new.probability
    doubt = 1 - np.abs(2 * probability - 1)
    return replace(new, probability=probability + (previous.probability - probability) * np.float32(ratio) * doubt)


def _check(every: int, smooth: float) -> None:
    if every < 1:
        raise ConfigError(f"every is {every}; it must be 1 or more")
    if not 0 <= smooth <= 1:
        raise ConfigError(f"smooth is {smooth:g}; it lies in 0..1")


def predict_film(
    source: str | Path,
    model: Model | str | Path,
    out: str | Path,
    *,
    form: str = "mask",
    every: int = 1,
    start: float = 0.0,
    end: float | None = None,
    smooth: float = 0.0,
    sound: bool = True,
    batch_size: int = 8,
    again: bool = False,
    overwrite: bool = False,
    on_frame: Callable[[float, float | None], None] = lambda seconds, total: None,
) -> FilmReport:
    """``focus predict clip.mp4 --out clip-mask.mp4``: a film of masks, overlays or cutouts, with the times of the frames and the sound.

    `source` is a file, a pipe or a camera; see `Film` for `start` and `end`. `out` ends in .mp4, .mov or .webm; the last two hold the
    transparency of a ``cutout``. `model` is a loaded one, or what `load` takes. See `Model.film` for `every` and `smooth`. Packets of sound
    are copied unless `sound` is False. `out` appears when all of it is written. A film that the same call has written is left alone, unless
    `again` is said. `on_frame` is told how many seconds are done, and of how many.

    Raises `ConfigError` for what cannot be written, `DataError` for what is no film. Broken frames and a missing end are in the report.
    """
    _check(every, smooth)
    out = Path(out)
    refuse_to_replace(out, kind="a film", suffixes=SUFFIXES, inputs=[Path(source)], overwrite=True)
    form = check_form(out, parse_forms([form]))
    library()
    if isinstance(model, str | Path):
        from ..model import load

        model = load(model)
    found = note_of(out) if out.is_file() else ""
    options = {"form": form, "every": every, "start": start, "end": end, "smooth": smooth, "sound": sound}
    note = _note(model, Path(source), options)
    if found == note and stamp(Path(source)) and not again:
        return FilmReport(out, before=True)
    if not found.startswith(MADE_BY):
        refuse_to_replace(out, kind="a film", overwrite=overwrite)
    report = FilmReport(out)
    with Film(source, start=start, end=end) as film:
        try:
            with replacing_alone(out) as beside:
                options = {"every": every, "smooth": smooth, "batch_size": batch_size}
                report.frames = _write(
                    film, model, partial(Writer, beside, film, form=form, sound=sound, note=note), form, options, on_frame
                )
                if not report.frames:
                    raise DataError(f"{source} has no frame that can be read" + (f": {film.truncated}" if film.truncated else ""))
        except library().FFmpegError as error:  # those of reading are the film's
            raise DataError(f"cannot write {out}: {reason(error)}") from error
        report.broken_count, report.broken, report.truncated = film.broken_count, film.broken, film.truncated
    return report


def _note(model: Model, source: Path, options: dict[str, Any]) -> str:
    facts = {name: value for name, value in fingerprint(model).items() if name != "model"}
    told = json.dumps([facts, stamp(source), options], sort_keys=True, default=str)
    return f"{MADE_BY} {hashlib.sha256(told.encode()).hexdigest()}"


def _write(
    film: Film,
    model: Model,
    start: Callable[[Shot], Writer],
    form: str,
    options: dict[str, Any],
    on_frame: Callable[[float, float | None], None],
) -> int:
    """Write the film and return the number of its frames."""
    writer: Writer | None = None
    early: list[Any] = []  # sound before the first frame
    count = 0

    def settle(shot: Shot | None, error: BaseException | None) -> None:
        nonlocal count
        if error is not None:
            raise error
        if shot is not None:
            count += 1
            on_frame(float(shot.pts * film.time_base), film.seconds)

    with ThreadPoolExecutor(1, "reader") as readers, ThreadPoolExecutor(1, "writer") as writers:  # one each: a film is in order
        stream = film.read()
        ahead = Ahead(itertools.count(), lambda _: next(stream, None), readers, count=FRAMES_AHEAD, size=_bytes)
        items = itertools.takewhile(lambda item: item is not None, (item for _, item in ahead))
        behind: Behind[Shot | None] = Behind(writers, settle)
        try:
            for item, result in predicted(model, items, **options):
                if result is None:
                    early.append(item) if writer is None else behind.give(None, partial(writer.hear, item), item.size)
                    continue
                if writer is None:
                    writer = start(item)
                    for packet in early:
                        behind.give(None, partial(writer.hear, packet), packet.size)
                behind.give(item, partial(_show, writer, form, item, result), 7 * result.probability.size)
            behind.finish()
            if writer is not None:
                writer.finish()
        except BaseException:
            readers.shutdown(wait=True, cancel_futures=True)  # nobody may read what is about to be closed
            writers.shutdown(wait=True, cancel_futures=True)
            if writer is not None:
                with suppress(Exception):
                    writer.drop()
            raise
    return count


def _show(writer: Writer, form: str, shot: Shot, result: Result) -> None:
    writer.show(render(form, result), shot)


def _bytes(item: Any) -> int:
    return item.image.nbytes if isinstance(item, Shot) else 0
