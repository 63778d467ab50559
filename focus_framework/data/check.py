"""Checking data before training: everything is read once, and every pair that cannot be used, or looks wrong, is listed."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files.atomic import replacing
from ..files.images import ImageArray, read_grey
from ..plugin.interfaces import Task
from ..runtime import allowed_processors
from .pair import EmptyPair, Pair, Scan
from .pairs import scan
from .published import known_datasets

Kind: TypeAlias = Literal[
    "missing-file", "missing-mask", "missing-image", "unreadable", "size-mismatch", "not-two-valued",
    "empty-mask", "full-mask", "same-name", "duplicate-image", "suspicious-polarity", "count",
]  # fmt: skip
EXAMPLES = 3
"""Files that are shown of each kind of problem."""
ODD_ONES = 0.25
"""Masks that look inverted are reported one by one where no more than this share of all do."""
DARK, LIGHT = 64, 192
"""Grey values in between belong to neither side for certain."""
LIST = ("image", "mask", "name", "foreground", "split")
"""Columns of a list of pairs."""
MOST = 0.6
"""Where this share of all looks inverted, the data set is. Of sets that are right up to 0.44 do (sharp regions), mostly below 0.02."""
ALL_AROUND = 0.64
"""Share of the border that is foreground in a single mask that is reported. At one half, large objects that touch the border are taken for
inverted masks: 8 of 56 shadows on surfaces, 1 of 578 spliced regions, 1 of ECSSD's 1,000; here 1, 0 and 0. Hardly fewer of the inverted
ones are found: 944 of ECSSD's either way, 574 of the 578 in place of 577, 48 in place of 49 of 49 shadows."""


@dataclass(frozen=True)
class Problem:
    kind: Kind
    file: str
    """The file, or the data set."""
    detail: str
    """What is wrong with it, and what may help."""


def lines(problems: Sequence[Problem], *, every: bool = False) -> Iterator[str]:
    """The problems as text: each, or each kind once with its number and a few of its files."""
    kinds: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        kinds[problem.kind].append(problem)
    for kind, those in kinds.items():
        if every or len(those) == 1:
            yield from (f"{kind}: {problem.file}: {problem.detail}" for problem in those)
            continue
        yield f"{kind}: {len(those)} files"
        yield from (f"  {problem.file}: {problem.detail}" for problem in those[:EXAMPLES])
        if len(those) > EXAMPLES:
            yield f"  and {len(those) - EXAMPLES} more; --all lists them"


@dataclass(frozen=True)
class Report:
    """What a check found."""

    pairs: int
    """Pairs that were read, good and bad."""
    problems: tuple[Problem, ...]
    good: tuple[Pair, ...]
    """Those without any problem of their own."""


@dataclass(frozen=True)
class _Look:
    """What is kept of a pair once it was read."""

    pair: Pair
    problems: tuple[Problem, ...]
    fingerprint: bytes = b""
    """Of the pixels, whatever the file is called or how it is packed."""
    border: float = 0.0
    """Share of the border that is foreground, where more than half of the image is, and not all of it."""

    @property
    def inverted(self) -> bool:
        return self.border > 0.5


def check(
    reference: str,
    *,
    task: Task | None = None,
    root: Path | str | None = None,
    found: Scan | None = None,
    on_pair: Callable[[], None] = lambda: None,
) -> Report:
    """Read all pairs of a reference, on all cores; `found` is what `scan` gave for it, if that was called. `on_pair` is called
    after each. Raises as `find_pairs` where there is nothing to read.
    """
    found = found or scan(reference, task=task, root=root)
    problems = [*_missing(found), *_miscounted(reference, found, task)]
    looks = []
    with ThreadPoolExecutor(allowed_processors()) as pool:  # threads: decoding, hashing and numpy let one another run
        for look in pool.map(_look, found.pairs):
            looks.append(look)
            on_pair()
    problems += [problem for look in looks for problem in look.problems]
    problems += [*_same_names(found.pairs), *_duplicates(looks), *_inverted(looks, reference)]
    bad = {problem.file for problem in problems}
    good = tuple(look.pair for look in looks if not {str(look.pair.image), str(look.pair.mask)} & bad)
    return Report(len(found.pairs), tuple(problems), good)


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """A list of pairs that ``--data`` takes. Raises `DataError` where a pair is not made of two files."""
    if other := next((pair for pair in pairs if type(pair) is not Pair), None):
        raise DataError(f"{other.name} is not a pair of two files, so {path} cannot list it")
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(LIST)
        for pair in pairs:
            image, mask = (os.path.relpath(part, path.parent) for part in (pair.image, pair.mask))
            writer.writerow([image, mask, pair.name, pair.foreground, pair.split or ""])


def _missing(found: Scan) -> Iterator[Problem]:
    for text in found.missing:
        place, _, what = text.partition(": ")
        yield Problem("missing-file", place, what)
    for image in found.lonely_images:
        yield Problem("missing-mask", str(image), "no mask of that name")
    for mask in found.lonely_masks:
        yield Problem("missing-image", str(mask), "no image of that name")


def _miscounted(reference: str, found: Scan, task: Task | None) -> Iterator[Problem]:
    known = known_datasets(task).get(reference)
    there = len(found.pairs) + len(found.lonely_images)
    if known and known.count and there != known.count:
        yield Problem("count", reference, f"{there} images, a complete copy has {known.count}")


def _look(pair: Pair) -> _Look:
    """Read a pair; threads call this side by side."""
    try:
        image = pair.read_image()
    except DataError as error:
        return _Look(pair, (Problem("unreadable", str(pair.image), str(error)),))
    fingerprint = hashlib.blake2b(image.tobytes() + repr(image.shape).encode(), digest_size=16).digest()
    if isinstance(pair, EmptyPair):
        return _Look(pair, (), fingerprint)
    try:
        mask, levels, unclear = _read_mask(pair)
    except DataError as error:
        return _Look(pair, (Problem("unreadable", str(pair.mask), str(error)),), fingerprint)
    return _Look(pair, tuple(_mask_problems(pair, image, mask, levels, unclear)), fingerprint, _border(mask))


def _read_mask(pair: Pair) -> tuple[NDArray[np.bool_], list[int], float]:
    """The mask, the grey values that its file has, and the share of pixels that are neither dark nor light."""
    if type(pair) is not Pair:
        return pair.read_mask(), [], 0.0
    grey = read_grey(pair.mask).T if pair.transposed else read_grey(pair.mask)
    counts = np.bincount(grey.ravel(), minlength=256)
    unclear = float(counts[DARK:LIGHT].sum() / max(grey.size, 1))
    return (grey > 127) == (pair.foreground == "white"), np.flatnonzero(counts).tolist(), unclear


def _mask_problems(pair: Pair, image: ImageArray, mask: NDArray[np.bool_], levels: list[int], unclear: float) -> Iterator[Problem]:
    file = str(pair.mask)
    if mask.shape != image.shape[:2]:
        (height, width), (h, w) = mask.shape, image.shape[:2]
        yield Problem("size-mismatch", file, f"{width} x {height}, but its image {pair.image} is {w} x {h} (width x height)")
    if len(levels) > 2:
        detail = f"{len(levels)} grey values from {levels[0]} to {levels[-1]}; above 127 counts as white"
        detail += f"; {unclear:.1%} of the pixels are neither dark nor light"
        yield Problem("not-two-valued", file, detail)
    if mask.all() or not mask.any():
        what = "foreground" if mask.all() else "background"
        span = f"{levels[0]} to {levels[-1]}" if levels[1:] else "".join(str(level) for level in levels)
        values = f"; its grey is {span}, above 127 counts as white" if levels else ""
        yield Problem("full-mask" if mask.all() else "empty-mask", file, f"all of it is {what}{values}")


def _border(mask: NDArray[np.bool_]) -> float:
    """`_Look.border` of a mask."""
    if mask.mean() <= 0.5 or mask.all():
        return 0.0
    return float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())


def _same_names(pairs: Sequence[Pair]) -> Iterator[Problem]:
    seen: dict[str, Pair] = {}
    for pair in pairs:
        if (before := seen.setdefault(pair.name, pair)) is not pair:
            yield Problem(
                "same-name", str(pair.image), f"differs from {before.image} in its suffix alone; predictions of both have one name"
            )


def _duplicates(looks: Sequence[_Look]) -> Iterator[Problem]:
    same: dict[bytes, list[Pair]] = defaultdict(list)
    for look in looks:
        if look.fingerprint:
            same[look.fingerprint].append(look.pair)
    for first, *others in same.values():
        for other in others:
            across = f", which is in the {first.split} part" if first.split != other.split else ""
            yield Problem("duplicate-image", str(other.image), f"the same image as {first.image}{across}")


def _inverted(looks: Sequence[_Look], reference: str) -> Iterator[Problem]:
    """Foreground that fills most of the image up to its border is rare, and where it is not, it is everywhere."""
    suspects = [look.pair for look in looks if look.inverted]
    share = len(suspects) / max(len(looks), 1)
    if share >= MOST:
        other = "black" if suspects[0].foreground == "white" else "white"
        yield Problem(
            "suspicious-polarity",
            reference,
            f"foreground fills most of the image and of its border in {len(suspects)} of {len(looks)} masks; if it should not, "
            f"add foreground={other}",
        )
    elif share <= ODD_ONES:
        for pair in (look.pair for look in looks if look.border > ALL_AROUND):
            detail = "foreground fills most of the image and of its border, unlike in the other masks"
            yield Problem("suspicious-polarity", str(pair.mask), detail)
