"""What a journal knows as Parquet files: every input with its state, and run lengths."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...files.atomic import replacing
from . import places
from .journal import RLE_TABLE, Journal
from .pipeline import batched

INPUTS_TABLE = "inputs.parquet"
ROWS = 5_000  # of a group, which is in memory


def write_tables(out: Path | str, journal: Journal, *, lengths: bool) -> None:
    """``inputs.parquet``: input, status (done or failed), error, seconds, name of its predictions. With `lengths`, ``rle.parquet``:
    input, height, width, counts (COCO's run lengths, uncompressed), area, score; an empty mask has the area 0."""
    arrow = places.needed("pyarrow")
    inputs = arrow.schema({"input": "string", "status": "string", "error": "string", "seconds": "float64", "name": "string"})
    _write(out, INPUTS_TABLE, inputs, ([text(source), "done" if done else "failed", error or None, seconds, text(name)]
           for source, done, error, seconds, name, _ in journal.rows()))  # fmt: skip
    if lengths:
        runs = arrow.schema({"input": "string", "height": "int32", "width": "int32", "counts": arrow.list_(arrow.int32()), "area": "int64",
                             "score": "float32"})  # fmt: skip
        _write(out, RLE_TABLE, runs, (_run(source, about) for source, done, _, _, _, about in journal.rows() if done and about))


def text(name: str) -> str:
    """A name that is no text, as JSON would escape it."""
    return name.encode("utf-8", "backslashreplace").decode()


def _run(source: str, about: dict[str, Any]) -> list[Any]:
    mask = about.get("annotation")
    height, width = about["height"], about["width"]
    counts = mask["segmentation"]["counts"] if mask else [height * width]
    return [text(source), height, width, counts, mask["area"] if mask else 0, mask["score"] if mask else None]


def _write(out: Path | str, name: str, schema: Any, rows: Iterator[list[Any]]) -> None:
    if isinstance(out, Path):
        with replacing(out / name) as beside:
            _write_file(beside, schema, rows)
        return
    with tempfile.TemporaryDirectory(prefix="focus-") as folder:
        _write_file(Path(folder, name), schema, rows)
        places.put(places.join(out, name), Path(folder, name).read_bytes())


def _write_file(path: Path, schema: Any, rows: Iterator[list[Any]]) -> None:
    arrow, parquet = places.needed("pyarrow"), places.needed("pyarrow.parquet")
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in batched(rows, ROWS):
            columns = [list(column) for column in zip(*group, strict=True)]
            writer.write_table(
                arrow.Table.from_arrays(
                    [arrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
                )
            )
