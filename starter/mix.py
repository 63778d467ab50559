"""Put folders of images and masks together as one, as links whose names begin with a word for the folder they are from.

    python starter/mix.py --out mixed render=rendered/salient:16: composed=composed/salient

A folder may be followed by the first and the end of the images that are taken, in the order of their names, as in a slice of Python.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("parts", nargs="+", metavar="WORD=FOLDER[:FIRST:END]")
    options = parser.parse_args()
    for folder in ("images", "masks"):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
    for text in options.parts:
        word, _, place = text.partition("=")
        folder, *ends = place.split(":")
        first, end = ([int(number) if number else None for number in ends] + [None, None])[:2]
        for image in sorted((Path(folder) / "images").iterdir())[first:end]:
            for file in (image, Path(folder) / "masks" / f"{image.stem}.png"):
                (options.out / file.parent.name / f"{word}-{file.name}").symlink_to(file.resolve())


if __name__ == "__main__":
    main()
