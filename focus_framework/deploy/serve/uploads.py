"""What clients send: images in a body or as parts of a form, kept in memory alone, measured before they are decoded.

While OpenCV decodes a Radiance HDR, it has it in a temporary file.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from ...errors import DataError
from ...files.images import read_image
from .refusals import RefusedError, one_line
from .settings import Limits

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "SUN")
"""What is taken from strangers, each known by its first bytes. Pillow reads more, some of it by other programs (EPS by Ghostscript)."""
RADIANCE = re.compile(rb"[-+][XY] +(\d{1,9}) +[-+][XY] +(\d{1,9})")


@dataclass(frozen=True)
class Upload:
    """The content of a file, and what its sender calls it: a word for messages, never a path."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Sent:
    """Everything in one request."""

    files: dict[str, list[Upload]]
    """By the name of their field; a raw body is an ``image``."""


async def read_uploads(request: Request, limits: Limits, *, fields: tuple[str, ...] = ("image", "images")) -> Sent:
    """What a request brings. Raises `RefusedError`; how much may come is counted before (see `gate`)."""
    try:
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            return await _parts(request, limits, fields)
        content = bytearray()
        async for piece in request.stream():
            content += piece
    except ClientDisconnect:
        raise RefusedError(400, "the connection was cut before all had come") from None
    if not content:
        raise RefusedError(400, "no image came; send one as the body, or several as parts named image of a form")
    return Sent({"image": [Upload("image", bytes(content))]})


async def _parts(request: Request, limits: Limits, fields: tuple[str, ...]) -> Sent:
    parser = MultiPartParser(request.headers, request.stream(), max_files=limits.images, max_fields=16, max_part_size=4096)
    parser.spool_max_size = limits.body + 1  # in memory: nothing that is sent touches a disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RefusedError(400, f"the form cannot be read: {error.message}") from None
    except (KeyError, ValueError, UnicodeError) as error:
        raise RefusedError(400, f"the form cannot be read: {error}") from None
    files: dict[str, list[Upload]] = {}
    try:
        for field, part in form.multi_items():
            if isinstance(part, UploadFile):
                if field not in fields:
                    raise RefusedError(400, f"a part is named {one_line(field)[:40]!r}; files are parts named {' or '.join(fields)}")
                files.setdefault(field.removesuffix("s"), []).append(Upload(_called(part.filename), await part.read()))
    finally:
        await form.close()
    if not files:
        raise RefusedError(400, f"no file came; a file is a part named {' or '.join(fields)}")
    return Sent(files)


@cache
def _formats() -> tuple[str, ...]:
    """Those that this Pillow was built with: asked for another one, it fails for all."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _called(name: str | None) -> str:
    return one_line(re.split(r"[/\\]", name or "")[-1])[:80] or "image"


def pixels_of(upload: Upload, limits: Limits) -> int:
    """Width times height as the header says; nothing is decoded. Raises `RefusedError` for what is no image, or too large a one."""
    if not upload.content:
        raise RefusedError(422, f"{upload.name} is empty")
    if upload.content.startswith(b"#?"):
        size = _radiance(upload)
    else:
        try:
            with Image.open(io.BytesIO(upload.content), formats=_formats()) as opened:
                size = opened.size
        except Image.DecompressionBombError:
            raise RefusedError(413, f"{upload.name} has far more than {limits.pixels / 1e6:g} million pixels; make it smaller") from None
        except Exception:  # decoders raise whatever they trip over
            raise RefusedError(
                415, f"{upload.name} is not an image that can be read: JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF and some more can"
            ) from None
    if size[0] * size[1] > limits.pixels:
        raise RefusedError(
            413, f"{upload.name} is {size[0]} x {size[1]}, more than {limits.pixels / 1e6:g} million pixels; make it smaller"
        )
    return size[0] * size[1]


def _radiance(upload: Upload) -> tuple[int, int]:
    if match := RADIANCE.search(upload.content[:4096]):
        return int(match[1]), int(match[2])
    raise RefusedError(415, f"{upload.name} begins like Radiance HDR but does not say its size")


def decode(upload: Upload, limits: Limits) -> NDArray[np.uint8]:
    """`[H, W, 3]`, as ``focus predict`` reads a file of this content. Raises `RefusedError` where it is damaged."""
    try:
        return read_image(upload.content, max_pixels=limits.pixels, name=upload.name)
    except DataError as error:
        raise RefusedError(422, str(error)) from None
    except MemoryError:
        raise RefusedError(413, f"{upload.name} needs more memory than there is; make it smaller") from None
    except Exception as error:  # OpenCV has errors of its own
        raise RefusedError(422, f"cannot read {upload.name}: {one_line(str(error))[:200]}") from None
