"""Pairs of an image and its mask, found in whatever form people keep them.

A reference, what ``--data`` takes, is one or several of these joined with ``+``:

- the name of a published data set that a task plugin declares, read below the data root: ``camo-train+cod10k-train``
- a folder with ``images/`` and ``masks/`` (or other usual names), with or without ``train``, ``val`` and ``test`` folders
- a folder with both side by side: ``x.jpg`` with ``x.png`` or ``x_mask.png``
- two named folders: ``images=DIR,masks=DIR``
- a list: ``pairs.csv``, ``pairs.tsv`` (columns image and mask) or ``pairs.jsonl`` (one object a line), paths relative to the list
- COCO annotations: ``annotations.json``, with ``images=DIR`` and ``category=NAME`` where they are not obvious
- a Hugging Face data set: ``hf://owner/name``, or a folder that `datasets` saved

Options follow after commas: ``scans/,foreground=black`` for masks whose foreground is dark, ``split=test`` for one part.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ..errors import ConfigError, DataError, did_you_mean
from ..files.reading import spelled_here
from ..plugin.interfaces import Task
from . import coco, folders, hub, lists, published, recognise
from .pair import EmptyPair, Pair, Scan, Split, as_foreground, first, split_named

logger = logging.getLogger(__name__)

__all__ = ["EmptyPair", "Pair", "Scan", "Split", "find_pairs", "scan", "split_pairs", "training_pairs"]


def find_pairs(reference: str, *, task: Task | None = None, root: Path | str | None = None, split: Split | None = None) -> list[Pair]:
    """The pairs that a reference (see the module) leads to, in a fixed order.

    `task` is whose data sets are looked up first; without one, those of all installed tasks are known. `root` is the folder
    of the published data sets; without one, the variable FOCUS_DATA_ROOT, then ``datasets``. `split` keeps one part of data
    that is divided into parts.

    Raises `DataError` for what is missing (a folder, a list, masks for some images), `ConfigError` for an unknown name or
    option.
    """
    found = scan(reference, task=task, root=root)
    if found.missing:
        more = f" ({len(found.missing)} files are missing; focus data check {reference} lists all)" if found.missing[1:] else ""
        raise DataError(found.missing[0] + more)
    if found.lonely_images:
        raise DataError(
            f"{reference}: {len(found.lonely_images)} of {len(found.pairs) + len(found.lonely_images)} images have no mask: "
            f"{first(found.lonely_images)}. focus data check {reference} lists all"
        )
    if found.lonely_masks:
        logger.warning("%s: left out are %d masks without an image: %s", reference, len(found.lonely_masks), first(found.lonely_masks))
    pairs = [pair for pair in found.pairs if split is None or pair.split == split]
    if twice := _shared(pairs):
        raise ConfigError(f"{reference}: {twice[0].image} and its mask are in it twice ({len(twice)} such pairs); name each data set once")
    if not pairs:
        divided = sorted({pair.split for pair in found.pairs if pair.split})
        parts = f"; it has {', '.join(divided)}" if divided else "; it is not divided into parts"
        raise DataError(f"{reference}: no pairs of images and masks" + (f" for {split}{parts}" if split else ""))
    return pairs


def _shared(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs of the same two files as one before them, whatever the files are called."""
    seen: set[tuple[str, str]] = set()
    again = []
    for pair in pairs:
        key = os.path.realpath(pair.image), os.path.realpath(pair.mask)
        if type(pair) is Pair and key in seen:
            again.append(pair)
        seen.add(key)
    return again


def training_pairs(
    train: str,
    validation: str = "",
    *,
    share: float = 0.1,
    seed: int = 0,
    task: Task | None = None,
    root: Path | str | None = None,
) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on and pairs to watch. The latter are those of the reference `validation`; else the validation part of
    `train`, where it has one; else a `share` of its training pairs. A test part is not touched. Raises as `find_pairs`.
    """
    pairs = find_pairs(train, task=task, root=root)
    if any(pair.split for pair in pairs):
        kept = [pair for pair in pairs if pair.split in ("train", None)]
        aside = [pair for pair in pairs if pair.split == "validation"]
        if not kept:
            raise DataError(f"{train}: has a {pairs[0].split} part, but none to train on; name its folder to use it")
        if aside and not validation:
            return kept, aside
        pairs = kept
    if validation:
        aside = find_pairs(validation, task=task, root=root)
        if common := _shared([*pairs, *aside]):
            raise ConfigError(
                f"{len(common)} pairs of the validation data {validation} are trained on too, {common[0].image} for one; "
                "scores on them would say nothing. Leave data.validation out to hold a share back"
            )
        return pairs, aside
    return split_pairs(pairs, share, seed)


def split_pairs(pairs: Sequence[Pair], share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Training and validation pairs, the latter a `share` (0 up to 1) of all, at least one where the share is above 0.

    A pair's name and the seed decide, so neither the order of the files nor the machine changes the division.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"the share of validation pairs is {share}; it must lie in 0 to 1, 1 excluded")
    count = min(max(round(share * len(pairs)), 1), len(pairs) - 1) if share else 0

    def lot(pair: Pair) -> bytes:
        return hashlib.sha256(f"{seed}/{pair.name}".encode("utf-8", "surrogateescape")).digest()

    drawn = set(sorted(range(len(pairs)), key=lambda i: lot(pairs[i]))[: max(count, 0)])
    return [p for i, p in enumerate(pairs) if i not in drawn], [p for i, p in enumerate(pairs) if i in drawn]


def scan(reference: str, *, task: Task | None = None, root: Path | str | None = None) -> Scan:
    """As `find_pairs`, but images and masks without a partner are returned beside the pairs, for a report on all of them."""
    reference = spelled_here(reference)
    parts = _parts(reference)
    if len(parts) == 1:
        return _scan_one(reference, task, root)
    total = Scan(())
    for part in parts:
        one = _scan_one(part, task, root)
        label = part if "/" not in part and "=" not in part else PurePosixPath(part.partition(",")[0]).name
        total += replace(one, pairs=tuple(replace(pair, name=f"{label}/{pair.name}") for pair in one.pairs))
    return total


OPTIONS = ("images", "masks", "foreground", "split", "category", "image_column", "mask_column")


def _parts(reference: str) -> list[str]:
    """What a reference joins by ``+``; a plus in the name of something that is there joins nothing."""
    words, parts = reference.split("+"), []
    while words:
        longest = next((n for n in range(len(words), 1, -1) if _is_there("+".join(words[:n]))), 1)
        parts.append("+".join(words[:longest]))
        words = words[longest:]
    if parts[1:] and any(not part.strip() for part in parts):
        raise ConfigError(f"{reference}: data sets are joined by +, and one of them has no name")
    return parts


def _is_there(reference: str) -> bool:
    """Whether every part that has a plus is the path of something that exists."""
    values = [part.partition("=")[2] if part.partition("=")[1] else part for part in reference.split(",")]
    return Path(reference).exists() or all(Path(value).exists() for value in values if "+" in value)


def _scan_one(reference: str, task: Task | None, root: Path | str | None) -> Scan:
    head, options = _parse(reference)
    foreground = options.pop("foreground", None)
    split = options.pop("split", None)
    found = _scan_source(head, options, task, root)
    if options:
        raise ConfigError(f"{reference}: the option {next(iter(options))}= does not go with this kind of data")
    pairs = found.pairs
    if foreground is not None:
        pairs = tuple(replace(pair, foreground=as_foreground(foreground, reference)) for pair in pairs)
    if split is not None:
        wanted = split_named(split)
        pairs = tuple(pair for pair in pairs if wanted and pair.split == wanted)
        if not pairs:
            raise DataError(f"{reference}: no pairs of the part {split!r}")
    return replace(found, pairs=pairs)


def _parse(reference: str) -> tuple[str, dict[str, str]]:
    """``head,key=value,...`` or ``key=value,...``; a path that exists is a head, whatever characters it has."""
    if Path(reference).exists():
        return reference, {}
    head, options = "", {}
    for number, part in enumerate(reference.split(",")):
        key, equals, value = part.partition("=")
        if not equals and number == 0:
            head = part
        elif key not in OPTIONS or not value:
            raise ConfigError(f"{reference}: {part!r} is not an option of data; {did_you_mean(key, OPTIONS)} (KEY=VALUE)")
        else:
            options[key] = value
    return head, options


def _scan_source(head: str, options: dict[str, str], task: Task | None, root: Path | str | None) -> Scan:
    """Hand over to the reader of this form of data; it takes the options that it knows out of `options`."""
    path = Path(head)
    if not head:
        if not {"images", "masks"} <= options.keys():
            raise ConfigError("give both folders: images=DIR,masks=DIR")
        return folders.scan_folders(Path(options.pop("images")), Path(options.pop("masks")))
    if head.startswith("hf://"):
        return hub.scan_hub(head.removeprefix("hf://"), options)
    if path.is_dir():
        if hub.is_saved(path):
            return hub.scan_saved(path, options)
        return recognise.scan_together(path) or folders.scan_folder(path)
    if path.suffix.lower() in lists.READERS:
        return lists.scan_list(path)
    if path.suffix.lower() == ".json":
        return coco.scan_coco(path, options)
    if path.is_file():
        raise DataError(f"{path} is not a list of pairs; known are {', '.join(lists.READERS)} and .json (COCO)")
    if len(path.parts) > 1:
        raise DataError(f"{path} does not exist")
    return published.scan_published(head, task=task, root=root)
