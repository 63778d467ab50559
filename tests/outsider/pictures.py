"""Odd and damaged images and masks, made by rule from good ones, and lists of pairs that are wrong."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .case import Case

GROUP = "images and masks"
Spoil = Callable[[Path], None]
"""Puts a file, or something else, in the place of a good one."""

OK, WRONG = frozenset({0}), frozenset({1, 2})


def cases() -> Iterator[Case]:
    yield from _images()
    yield from _masks()
    yield from _lists()
    yield from _references()


def _images() -> Iterator[Case]:
    for what, spoil, exits in (*_broken(), *_unusual()):

        def put(inputs: Path, spoil: Spoil = spoil) -> None:
            (inputs / "pairs" / "images" / "1.png").unlink()
            spoil(inputs / "pairs" / "images" / "1.png")

        named = ("1.png", "images/1")
        among = exits | (OK if "folder" in what else frozenset())  # a folder among images is none of them
        yield Case(GROUP, f"an image that is {what}", ("predict", "@/pairs/images", "--checkpoint", "@/checkpoint.safetensors", "--out", "out", "--json"),
                   named, among, put, leaves=("work/out", "work/out/*"))  # fmt: skip
        single = ("predict", "@/pairs/images/1.png", "--checkpoint", "@/checkpoint.safetensors", "--out", "out", "--json")
        yield Case(GROUP, f"an image that is {what}", single, named, exits | (OK if "link to a folder" in what else frozenset()), put)
        yield Case(GROUP, f"an image that is {what}", ("data", "check", "@/pairs", "--json"), named, exits | WRONG, put)
        yield Case(GROUP, f"an image that is {what}", ("evaluate", "--checkpoint", "@/checkpoint.safetensors", "--data", "@/pairs", "--json"), named,
                   among | WRONG, put)  # fmt: skip
        if exits == WRONG:
            yield Case(GROUP, f"an image that is {what}", (*_TRAIN, "--data", "@/pairs", "--json"), named, exits | OK, put, leaves=_RUN)
            yield Case(GROUP, f"an image that is {what}", ("data", "preview", "@/pairs", "--json"), named, exits | OK, put)


_TRAIN = ("train", "--task-plugin", "shadow", "--config", "@/tiny.toml", "--out", "run")
_RUN = ("work/run", "work/run/*", "work/run/*/*", "work/run/*/*/*")


def _masks() -> Iterator[Case]:
    for what, spoil, exits in _broken():

        def put(inputs: Path, spoil: Spoil = spoil) -> None:
            (inputs / "pairs" / "masks" / "1.png").unlink()
            spoil(inputs / "pairs" / "masks" / "1.png")

        named = ("1.png", "masks/1", "no prediction: 1.")
        for call in (("data", "check", "@/pairs"), ("evaluate", "--checkpoint", "@/checkpoint.safetensors", "--data", "@/pairs"),
                     ("evaluate", "--predictions", "@/good", "--masks", "@/pairs/masks"),
                     ("evaluate", "--predictions", "@/pairs/masks", "--masks", "@/good")):  # fmt: skip

            def both(inputs: Path, put: Spoil = put) -> None:
                (inputs / "good").mkdir()
                for file in (inputs / "pairs" / "masks").iterdir():
                    (inputs / "good" / file.name).write_bytes(file.read_bytes())
                put(inputs)

            yield Case(GROUP, f"a mask that is {what}", (*call, "--json"), named, exits, both)
        yield Case(GROUP, f"a mask that is {what}", (*_TRAIN, "--data", "@/pairs", "--json"), named, exits | OK, put, leaves=_RUN)
    for what, change in {
        "of three grey values": lambda mask: np.where(np.arange(64)[:, None] < 20, 128, mask),
        "neither dark nor light": lambda mask: np.full_like(mask, 120),
        "a photograph": lambda mask: np.random.default_rng(1).integers(0, 255, mask.shape),
        "of another size than its image": lambda mask: mask[:40],
        "a mask of values 0 and 1": lambda mask: mask // 255,
    }.items():

        def altered(inputs: Path, change: Callable[[np.ndarray], np.ndarray] = change) -> None:
            file = inputs / "pairs" / "masks" / "1.png"
            Image.fromarray(change(np.array(Image.open(file))).astype(np.uint8)).save(file)

        yield Case(GROUP, f"a mask that is {what}", ("data", "check", "@/pairs", "--json"), ("1.png",), WRONG, altered)


def _broken() -> list[tuple[str, Spoil, frozenset[int]]]:
    """What no image is; of these a name and an error must come."""
    good = _png(64, 64)
    return [(what, spoil, WRONG) for what, spoil in {
        "empty": lambda path: path.write_bytes(b""),
        "a text": lambda path: path.write_text("this is no picture"),
        "cut short": lambda path: path.write_bytes(good[: len(good) // 2]),
        "its header alone": lambda path: path.write_bytes(good[:33]),
        "damaged inside": lambda path: path.write_bytes(good[:60] + b"\xff" * 40 + good[100:]),
        "said to be a thousand million pixels": lambda path: path.write_bytes(_claim(good, 40_000, 40_000)),
        "said to have no pixels": lambda path: path.write_bytes(_claim(good, 0, 0)),
        "a named pipe": os.mkfifo,
        "a link to an endless device": lambda path: path.symlink_to("/dev/zero"),
        "a link to a random device": lambda path: path.symlink_to("/dev/urandom"),
        "a link to nothing": lambda path: path.symlink_to("/no/such/file"),
        "a link to itself": lambda path: path.symlink_to(path),
        "a folder": lambda path: path.mkdir(),
        "a link to a folder": lambda path: path.symlink_to(path.parent),
        "a web page": lambda path: path.write_text("<html><body>404</body></html>"),
        "an SVG": lambda path: path.write_text("<svg xmlns='http://www.w3.org/2000/svg' width='64' height='64'/>"),
        "a pickle": lambda path: path.write_bytes(b"\x80\x04N."),
        "a ZIP": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(60)),
    }.items()]  # type: ignore[misc]  # fmt: skip


def _unusual() -> list[tuple[str, Spoil, frozenset[int]]]:
    """Odd, but images: they are read."""
    rgb = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    grey = rgb[..., 0]
    kinds = {
        "grey": Image.fromarray(grey), "of one bit": Image.fromarray(grey > 127), "of a palette": Image.fromarray(rgb).quantize(16),
        "transparent": Image.fromarray(np.dstack([rgb, grey])), "grey and transparent": Image.fromarray(np.dstack([grey, grey]), "LA"),
        "of 16 bits": Image.fromarray(grey.astype(np.uint16) * 257), "of one pixel": Image.fromarray(rgb[:1, :1]),
        "one pixel high": Image.fromarray(rgb[:1]), "one pixel wide": Image.fromarray(rgb[:, :1]),
        "very long": Image.fromarray(np.zeros((3, 3000, 3), np.uint8)), "black": Image.fromarray(rgb * 0),
    }  # fmt: skip
    made: list[tuple[str, Spoil, frozenset[int]]] = []
    for what, picture in kinds.items():
        made.append((what, lambda path, picture=picture: picture.save(path), OK))
    made.append(("of floats with nan", lambda path: Image.fromarray(np.full((64, 64), np.nan, np.float32)).save(path, "TIFF"), OK))
    made.append(("CMYK", lambda path: Image.fromarray(rgb).convert("CMYK").save(path, "TIFF"), OK))
    made.append(("of another format than its name says", lambda path: Image.fromarray(rgb).save(path, "JPEG"), OK))
    made.append(
        ("with EXIF that is nonsense", lambda path: Image.fromarray(rgb).save(path, "JPEG", exif=b"Exif\x00\x00II*\x00nonsense"), OK)
    )
    return made


def _png(width: int, height: int) -> bytes:
    rows = b"".join(b"\0" + bytes((row * column) % 251 for column in range(3 * width)) for row in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _claim(png: bytes, width: int, height: int) -> bytes:
    """The same file with another size in its header."""
    return png[:8] + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + png[33:]


def _lists() -> Iterator[Case]:
    """Lists of pairs: CSV, COCO."""
    polygon = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "segmentation": [[1, 1, 20, 1, 20, 20]],
        "iscrowd": 0,
        "bbox": [1, 1, 19, 19],
        "area": 180,
    }
    coco = {"images": [{"id": 1, "file_name": "pairs/images/0.png", "width": 64, "height": 64}], "categories": [{"id": 1, "name": "a"}]}
    wrong = {
        "a word among a polygon's numbers": {**polygon, "segmentation": [[1, "one", 20, 1, 20, 20]]},
        "nan among a polygon's numbers": {**polygon, "segmentation": [[1, float("nan"), 20, 1, 20, 20]]},
        "an infinite number among a polygon's": {**polygon, "segmentation": [[1, float("inf"), 20, 1, 20, 20]]},
        "a polygon of two numbers": {**polygon, "segmentation": [[1, 1]]},
        "an odd count of numbers in a polygon": {**polygon, "segmentation": [[1, 1, 20, 1, 20]]},
        "a word for a polygon": {**polygon, "segmentation": "polygon"},
        "a number for a polygon": {**polygon, "segmentation": 7},
        "null for a polygon": {**polygon, "segmentation": None},
        "a dictionary among polygons": {**polygon, "segmentation": [{"x": 1}]},
        "run lengths of another size": {**polygon, "segmentation": {"counts": [10, 10], "size": [5, 4]}},
        "run lengths that are words": {**polygon, "segmentation": {"counts": ["a", "b"], "size": [64, 64]}},
        "run lengths that are negative": {**polygon, "segmentation": {"counts": [-10, 4106], "size": [64, 64]}},
        "run lengths of no size": {**polygon, "segmentation": {"counts": [10, 10]}},
        "run lengths that end too early": {**polygon, "segmentation": {"counts": [10, 10], "size": [64, 64]}},
        "compressed run lengths that are nonsense": {**polygon, "segmentation": {"counts": "~~~\u00ff", "size": [64, 64]}},
        "an annotation that is a list": [1, 2],
        "an annotation of an image that is not there": {**polygon, "image_id": "x"},
    }
    for what, annotation in wrong.items():
        yield from _listed("coco.json", f"COCO with {what}", json.dumps({**coco, "annotations": [annotation]}))
    for what, content in {
        "that is a list": "[]", "that is null": "null", "that is cut short": '{"images": [', "of nothing": "", "without images": '{"annotations": []}',
        "whose images are words": '{"images": ["a"], "annotations": ["b"]}', "whose images are numbers": '{"images": 7, "annotations": 7}',
        "whose image has no file name": json.dumps({"images": [{"id": 1}], "annotations": [polygon]}),
        "whose image has a number for a name": json.dumps({"images": [{"id": 1, "file_name": 7}], "annotations": [polygon]}),
        "whose image has a list for an id": json.dumps({"images": [{"id": [1], "file_name": "pairs/images/0.png"}], "annotations": [polygon]}),
        "in Latin-1": b'{"images": [{"file_name": "\xe4.png", "id": 1}], "annotations": []}', "with NUL bytes": b'{"images"\x00: []}',
    }.items():  # fmt: skip
        yield from _listed("coco.json", f"a JSON list of pairs {what}", content)
    for what, content in {
        "of nothing": "", "with one column": "image\na.png\n", "of files that are not there": "image,mask\na.png,b.png\n", "with an empty mask": "image,mask\npairs/images/0.png,\n",
        "in Latin-1": b"image,mask\n\xe4.png,b.png\n", "with NUL bytes": b"image,mask\n\x00,\x00\n", "with a quote that never ends": 'image,mask\n"a.png,b.png\n',
        "of folders": "image,mask\npairs,pairs\n", "of a pipe": "image,mask\npipe,pipe\n", "with a field of a million letters": "image,mask\n" + "a" * 1_000_000 + ",b\n",
    }.items():  # fmt: skip
        yield from _listed("list.csv", f"a CSV list of pairs {what}", content)


def _listed(name: str, what: str, content: str | bytes) -> Iterator[Case]:
    def put(inputs: Path) -> None:
        (inputs / name).write_bytes(content.encode() if isinstance(content, str) else content)

    yield Case(GROUP, what, ("data", "check", f"@/{name}", "--json"), (name, ".png"), WRONG, put)
    yield Case(GROUP, what, (*_TRAIN, "--data", f"@/{name}", "--json"), (name, ".png", "pairs"), WRONG, put)


def _references() -> Iterator[Case]:
    """What ``--data`` is given."""

    def plus(inputs: Path) -> None:
        (inputs / "a+b").mkdir()
        for name in ("images", "masks"):
            (inputs / "pairs" / name).rename(inputs / "a+b" / name)

    for call in (
        ("data", "check"),
        ("data", "preview"),
        (*_TRAIN, "--data"),
        ("evaluate", "--checkpoint", "@/checkpoint.safetensors", "--data"),
    ):
        yield Case(GROUP, "a plus in a folder's name", (*call, "@/a+b", "--json"), exits=OK, make=plus)
        yield Case(GROUP, "a plus in a folder's name", (*call, "images=@/a+b/images,masks=@/a+b/masks", "--json"), exits=OK, make=plus)
    yield Case(GROUP, "the same pairs twice", (*_TRAIN, "--data", "@/pairs+@/pairs", "--json"), ("pairs",))
    yield Case(
        GROUP, "the same pairs twice", (*_TRAIN, "--data", "@/pairs+images=@/pairs/images,masks=@/pairs/masks", "--json"), ("pairs",)
    )
    yield Case(
        GROUP,
        "validation pairs among those of training",
        (*_TRAIN, "--data", "@/pairs", "--set", "data.validation=@/pairs", "--json"),
        ("pairs",),
    )
    yield Case(GROUP, "validation pairs among those of training",
               (*_TRAIN, "--data", "@/pairs", "--set", "data.validation=images=@/pairs/images,masks=@/pairs/masks", "--json"), ("pairs",))  # fmt: skip
    for what, reference in {"images given for masks": "images=@/pairs/images,masks=@/pairs/images", "masks alone": "masks=@/pairs/masks",
                            "an empty name between commas": "images=,masks=", "a plus alone": "+", "a plus at the end": "@/pairs+", "an unknown key": "images=@/pairs/images,truth=@/pairs/masks"}.items():  # fmt: skip
        yield Case(GROUP, f"a data set given as {what}", ("data", "check", reference, "--json"))
        yield Case(GROUP, f"a data set given as {what}", (*_TRAIN, "--data", reference, "--json"), exits=WRONG)
