"""A prediction as the bytes of an answer: the files that ``focus predict`` writes, WebP, JSON, and probabilities as exact as they are."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...inference.explain import Explanation
from ...inference.explain.views import rows
from ...inference.outputs import render
from ...inference.result import Result
from .refusals import RefusedError

Form: TypeAlias = Literal["mask", "binary", "cutout", "overlay", "rle", "probability"]
Kind: TypeAlias = Literal["auto", "png", "webp", "npy", "json"]
MEDIA = {"png": "image/png", "webp": "image/webp", "npy": "application/x-npy", "json": "application/json"}
WIDEST = 16383
"""Pixels of a side that WebP can have."""


@dataclass(frozen=True)
class Drawn:
    """The content of a file and its media type."""

    media: str
    content: bytes


def chosen_kind(form: Form, kind: Kind, *, images: int, accepts: str) -> str:
    """What is sent: one image as itself, several or run lengths as JSON, unless something else was asked for. Raises `RefusedError`."""
    if kind == "auto":
        kind = "json" if form == "rle" or images > 1 or "application/json" in accepts.lower() else "png"
    if (kind == "npy") > (form == "probability") or (form == "probability" and kind == "webp"):
        raise RefusedError(400, f"{form} is not sent as {kind}; as npy there is probability alone, and that not as webp")
    if form == "rle" and kind != "json":
        raise RefusedError(400, f"run lengths are sent as json, not as {kind}")
    if images > 1 and kind != "json":
        raise RefusedError(400, f"{images} images are sent as json; ask for {kind} one by one")
    return kind


def draw(form: Form, result: Result, kind: str) -> Drawn:
    """The file of one form. As PNG it has the bytes that ``focus predict --save`` writes."""
    if form == "rle":
        return Drawn(MEDIA["json"], json.dumps(result.rle()).encode())
    if kind == "npy":
        content = io.BytesIO()
        np.save(content, result.probability)
        return Drawn(MEDIA[kind], content.getvalue())
    if form == "probability":
        return png(np.rint(result.probability * 65535).astype(np.uint16))
    array = render(form, result)
    if kind != "webp":
        return png(array)
    if max(array.shape[:2]) > WIDEST:
        raise RefusedError(422, f"WebP ends at {WIDEST} pixels a side; ask for png")
    return _encoded(array, "WEBP", lossless=True)


def png(array: NDArray[Any]) -> Drawn:
    """An array as PNG, as `files.images.write_image` writes it."""
    return _encoded(array, "PNG")


def _encoded(array: NDArray[Any], form: str, **options: Any) -> Drawn:
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(content, form, **options)
    return Drawn(f"image/{form.lower()}", content.getvalue())


def as_json(name: str, form: Form, result: Result) -> dict[str, Any]:
    """One prediction as a part of a JSON answer: run lengths as they are, images in base64."""
    height, width = result.probability.shape
    row = {"name": name, "width": width, "height": height, "form": form}
    if form == "rle":
        return {**row, "rle": result.rle()}
    drawn = draw(form, result, "png")
    return {**row, **_in_text(drawn)}


def inside_as_json(explanation: Explanation) -> Drawn:
    """What a network sees on its way, by group and in order, each image with its caption, in base64."""
    groups = [
        {"heading": heading, "images": [{"caption": caption, **_in_text(png(image))} for caption, image in images]}
        for heading, images in rows(explanation)
    ]
    return Drawn(MEDIA["json"], json.dumps({"rows": groups}).encode())


def _in_text(drawn: Drawn) -> dict[str, str]:
    return {"media_type": drawn.media, "data": base64.b64encode(drawn.content).decode()}
