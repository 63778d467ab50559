"""``focus-mask``: masks of images by an exported file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import DataError, FocusError
from .files.images import list_images
from .inference.outputs import FORMS, parse_forms
from .mask import Mask

SUFFIX = {"rle": ".json"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and end the process: 0 done, 1 the work or part of it failed, 2 a wrong call."""
    parser = argparse.ArgumentParser(prog="focus-mask", description="Write the masks of images, at the images' own size.")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--model", required=True, type=Path, metavar="FILE", help="An .onnx file that focus export wrote.")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="Where to write, as DIR/FORM/STEM.png.")
    parser.add_argument("--save", default="mask", metavar="FORM,...", help=f"Out of {', '.join(FORMS)}; default: mask.")
    parser.add_argument("--flip", action=argparse.BooleanOptionalAction, default=None, help="Average with the mask of the mirror image.")
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="Cut larger images into tiles of this side; 0: never.")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="Threads of onnxruntime; 0: as many as there are cores.")
    given = parser.parse_args(arguments)
    try:
        sys.exit(run(given))
    except FocusError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def run(given: argparse.Namespace) -> int:
    """1 where an image could not be read or its masks not be written, else 0."""
    forms = parse_forms([given.save])
    paths = [path for place in given.images for path in (list_images(place) if place.is_dir() else [place])]
    if not paths:
        raise DataError(f"{given.images[0]} holds no image")
    twice = {path.stem for path in paths if sum(other.stem == path.stem for other in paths) > 1}
    model = Mask(given.model, flip=given.flip, tile=given.tile, threads=given.threads)
    failed = 0
    for path in paths:
        name = path.name if path.stem in twice else path.stem
        try:
            result = next(model.stream([path]))
            for form in forms:
                result.save(given.out / form / f"{name}{SUFFIX.get(form, '.png')}", form)
        except DataError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    print(f"wrote the masks of {len(paths) - failed} of {len(paths)} images to {given.out}", file=sys.stderr)
    return 1 if failed else 0
