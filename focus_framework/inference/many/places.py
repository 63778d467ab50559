"""Addresses such as ``s3://bucket/photos``, read and written by fsspec; images inside tar shards; columns of Parquet files.

An image in a shard is called ``shard.tar::OFFSET+SIZE/NAME``: its bytes are read alone, wherever the shard lies.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import ConfigError, DataError
from ...files.images import SUFFIXES, read_image, write_image

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")
MEMBER = re.compile(r"(?s)(?P<shard>.+\.tar)::(?P<offset>\d+)\+(?P<size>\d+)/(?P<name>.*)")
COLUMN_ROWS = 10_000  # of a Parquet file that are read at once


def is_address(place: str | Path) -> bool:
    return isinstance(place, str) and ADDRESS.match(place) is not None


def needed(name: str) -> Any:
    """A library of the extra ``ray``. Raises `ConfigError` where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f'{name} is not installed; run: pip install "focus-framework[ray]"') from None


def file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it. Raises `ConfigError` for an address that it cannot open."""
    fsspec = needed("fsspec")
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError, OSError) as error:
        raise ConfigError(f"{address} cannot be opened: {error}") from None
    return found


def join(place: str | Path, *parts: str | Path) -> str:
    """A place below another, both local or at an address."""
    return "/".join([str(place).rstrip("/"), *(Path(part).as_posix() for part in parts)])


def read_place(place: str) -> NDArray[np.uint8]:
    """The image `[H, W, 3]` of a file, an address or a member of a shard. Raises `DataError`."""
    member = MEMBER.fullmatch(place)
    if not member and not is_address(place):
        return read_image(place)
    try:
        return read_image(_part(member["shard"], int(member["offset"]), int(member["size"])) if member else _whole(place), name=place)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # each file system has errors of its own
        raise DataError(f"cannot read {place}: {error or type(error).__name__}") from error


def _whole(address: str) -> bytes:
    system, path = file_system(address)
    content: bytes = system.cat_file(path)
    return content


def _part(shard: str, offset: int, size: int) -> bytes:
    if not is_address(shard):
        with Path(shard).open("rb") as file:
            file.seek(offset)
            return file.read(size)
    system, path = file_system(shard)
    content: bytes = system.cat_file(path, start=offset, end=offset + size)
    return content


def write_place(place: str, array: NDArray[np.uint8]) -> None:
    """A PNG, locally as `write_image` writes it, at an address with the same bytes. Raises `DataError`."""
    if not is_address(place):
        write_image(place, array)
        return
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(content, "PNG")
    put(place, content.getvalue())


def put(address: str, content: bytes) -> None:
    """Write a whole file at an address. Raises `DataError`."""
    system, path = file_system(address)
    try:
        system.makedirs(system._parent(path), exist_ok=True)
        if "file" in ((system.protocol,) if isinstance(system.protocol, str) else system.protocol):
            beside = f"{path}.{os.getpid()}.part"  # the others put whole objects by themselves
            system.pipe_file(beside, content)
            Path(beside).replace(path)
        else:
            system.pipe_file(path, content)
    except Exception as error:  # as above
        raise DataError(f"cannot write {address}: {error or type(error).__name__}") from error


def get(address: str) -> bytes | None:
    """The content of a file at an address, None where there is none."""
    system, path = file_system(address)
    try:
        return bytes(system.cat_file(path)) if system.exists(path) else None
    except Exception as error:  # as above
        raise DataError(f"cannot read {address}: {error or type(error).__name__}") from error


def images_at(address: str, *, recursive: bool) -> Iterator[tuple[str, str]]:
    """Images below an address, or that its pattern matches, and the folders of their predictions. Raises `DataError`."""
    system, path = file_system(address)
    try:
        magic = any(sign in path for sign in "*?[")
        alone = not magic and not system.isdir(path)
        if alone:
            if not system.exists(path):
                raise DataError(f"{address} does not exist")
            names = [path]
        elif magic:
            names = system.glob(path)
        else:
            names = system.find(path, maxdepth=None if recursive else 1)
    except DataError:
        raise
    except Exception as error:  # as above
        raise DataError(f"cannot list {address}: {error or type(error).__name__}") from error
    protocol = address.partition("://")[0]
    root = path.split("*")[0].rpartition("/")[0] if magic else path.rstrip("/")
    for name in sorted(names):
        if alone or _suffix(name) in (*SUFFIXES, ".tar"):
            place = name.removeprefix(root).strip("/").rpartition("/")[0] if recursive or "**" in path else ""
            full = name if "://" in name else f"{protocol}://{name}"
            yield full, place


def _opened(place: str) -> Any:
    """A file, here or at an address, to read bytes from."""
    if not is_address(place):
        return Path(place).open("rb")
    system, path = file_system(place)
    return system.open(path, "rb")


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def members(shard: str) -> Iterator[str]:
    """The images of a tar shard, in order. Raises `DataError`."""
    try:
        with _opened(shard) as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
            for member in tar:
                if member.isfile() and _suffix(member.name) in SUFFIXES:
                    yield f"{shard}::{member.offset_data}+{member.size}/{member.name}"
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"cannot read the shard {shard}: {error}") from error


def column(table: str, name: str) -> Iterator[str]:
    """The texts in a column of a Parquet file. Raises `DataError` where there is no such column."""
    parquet = needed("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(_opened(table))
    except Exception as error:  # pyarrow's and the file system's
        raise DataError(f"cannot read {table}: {error}") from error
    names = file.schema_arrow.names
    if name not in names:
        raise DataError(f"{table} has no column {name}; it has {', '.join(names)}: name one by --column")
    for batch in file.iter_batches(COLUMN_ROWS, columns=[name]):
        yield from (str(value) for value in batch.column(0).to_pylist() if value)
