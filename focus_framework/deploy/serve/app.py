"""The routes of the service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from ...errors import DataError
from ...files.images import read_mask
from ...plugin.interfaces import PromptJudge
from ...version import __version__
from . import page
from .collection import Collection
from .forms import Drawn, Form, Kind, as_json, chosen_kind, draw, inside_as_json, png
from .gate import Gate
from .judging import judge_prompts
from .models import Served, find, practice_image
from .refusals import UNEXPECTED, RefusedError, one_line
from .service import Service
from .settings import Access
from .uploads import Upload, decode, read_uploads

T = TypeVar("T")
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}}}
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
PAIR_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {side: {"type": "string", "format": "binary"} for side in ("image", "mask")}}
            }
        },
    }
}
ERROR: dict[str, Any] = {"content": {"application/json": {"example": {"error": "one line that says what is wrong"}}}}
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "the request is not as it should be", **ERROR},
    401: {"description": "a token is needed", **ERROR},
    404: {"description": "there is no such model", **ERROR},
    413: {"description": "more bytes or pixels than allowed", **ERROR},
    415: {"description": "not an image", **ERROR},
    422: {"description": "an image that is damaged", **ERROR},
    429: {"description": "too much is waiting; Retry-After says for how long", **ERROR},
    503: {"description": "the service ends, or took too long", **ERROR},
}
PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}, "image/webp": {}, "application/json": {}}}}
ModelName = Annotated[str, Query(description="one of /v1/models; the first one if not given", max_length=100)]


def create_app(service: Service, access: Access) -> ASGIApp:
    """The whole service as an ASGI application."""
    app = FastAPI(
        title="FOCUS Framework",
        version=__version__,
        description="Masks of interest of images.",
        docs_url=None,  # FastAPI's own page loads its parts from another host
        redoc_url=None,
        exception_handlers=dict.fromkeys((RefusedError, HTTPException, RequestValidationError, Exception), _refused),
    )
    _predicting(app, service)
    _explaining(app, service)
    _collecting(app, service)
    _watching(app, service)
    page.add(app)
    inner: ASGIApp = app
    if access.origins:
        inner = CORSMiddleware(
            app, allow_origins=sorted(access.origins), allow_methods=["GET", "POST"], allow_headers=["Authorization", "Content-Type"]
        )
    return Gate(inner, access, service.limits, service.state, service.counts)


def _predicting(app: FastAPI, service: Service) -> None:
    @app.post("/v1/predict", summary="Masks of images", openapi_extra=BODY, responses={**ERRORS, **PICTURE}, response_class=Response)
    async def predict(
        request: Request,
        form: Annotated[Form, Query(description="what is sent back, as focus predict --save names it")] = "mask",
        format: Annotated[Kind, Query(description="auto: PNG for one image, JSON for several and for rle")] = "auto",  # noqa: A002
        model: ModelName = "",
        threshold: Annotated[float | None, Query(gt=0, lt=1, description="probability above which a pixel is foreground")] = None,
    ) -> Response:
        """One image as the body, or several as parts named `image` of a form. Of several, one that cannot be read has an `error`
        and the others are answered."""
        served = _served(service, model)
        with service.admitted(_length(request)):
            uploads = (await read_uploads(request, service.limits)).files["image"]
            kind = chosen_kind(form, format, images=len(uploads), accepts=request.headers.get("accept", ""))
            if kind == "json":
                rows = [_row(service, upload, served, form, threshold) for upload in uploads]
                return await _unless_gone(request, _answer_all(served.name, rows))
            work = service.predict(uploads[0], served, threshold, lambda result: draw(form, result, kind))
            return _file(await _unless_gone(request, work), served.name)

    @app.post("/v1/read", summary="An image as a model reads it", openapi_extra=BODY, responses=ERRORS, response_class=Response)
    async def read(request: Request) -> Response:
        """Upright, without alpha, eight bits, as PNG: for those who cannot show TIFF or Radiance HDR."""
        with service.admitted(_length(request)):
            upload = (await read_uploads(request, service.limits)).files["image"][0]
            return _file(await _unless_gone(request, service.read(upload, png)))

    @app.get("/v1/example", summary="A practice image", responses=ERRORS, response_class=Response)
    async def example(number: Annotated[int, Query(ge=0, le=10_000, description="which one")] = 0, model: ModelName = "") -> Response:
        """An image that the task of a model draws for practice, as PNG: something to try the service with."""
        return _file(await service.apart(lambda: png(practice_image(_served(service, model), number))))

    @app.get("/v1/models", summary="What is served")
    async def models() -> dict[str, Any]:
        """Every model with its card, and what the service allows."""
        limits = service.limits
        return {
            "models": [served.card for served in service.models],
            "collects": service.collection is not None,
            "collected": len(service.collection) if service.collection is not None else 0,
            "judges": service.judge is not None,
            "limits": {"body": limits.body, "pixels": limits.pixels, "images": limits.images, "seconds": limits.seconds},
            "version": __version__,
        }


def _explaining(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/explain",
        summary="What a model sees on its way to the mask",
        openapi_extra=BODY,
        responses={**ERRORS, **PICTURE},
        response_class=Response,
    )
    async def explain(
        request: Request,
        format: Annotated[Literal["json", "png"], Query(description="each image by itself, or one sheet")] = "json",  # noqa: A002
        model: ModelName = "",
    ) -> Response:
        """Edge image, features of every stage as colours, masks head by head, where queries may look: what `focus explain` shows."""
        served = _served(service, model)
        with service.admitted(_length(request)):
            upload = (await read_uploads(request, service.limits)).files["image"][0]
            made = inside_as_json if format == "json" else lambda explanation: png(np.asarray(explanation.sheet()))
            return _file(await _unless_gone(request, service.explain(upload, served, made)), served.name)

    @app.post("/v1/prompts", summary="How well prompts tell a mask from the rest", openapi_extra=PAIR_BODY, responses=ERRORS)
    async def prompts(
        request: Request,
        model: ModelName = "",
        foreground: Annotated[str, Query(description="a sentence for what lies inside the mask", max_length=300)] = "",
        background: Annotated[str, Query(description="a sentence for what lies outside", max_length=300)] = "",
    ) -> dict[str, Any]:
        """A form with the parts `image` and `mask`. Compared are the prompts of the model's task and those given. Where the service was
        started with `--clip-weights`."""
        judge, served = service.judge, _served(service, model)
        if judge is None:
            raise RefusedError(404, "this service has nothing that compares prompts; focus serve --clip-weights FILE|TAG does")
        with service.admitted(_length(request)):
            image, mask = await _pair(request, service)
            given = partial(_judged, judge, served, mask, service, foreground.strip(), background.strip())
            return {"model": served.name, "pairs": await _unless_gone(request, service.judged(image, given))}


def _judged(
    judge: PromptJudge, served: Served, mask: Upload, service: Service, foreground: str, background: str, image: NDArray[np.uint8]
) -> list[dict[str, Any]]:
    return judge_prompts(judge, served, image, _white(mask, service, image), foreground, background)


def _collecting(app: FastAPI, service: Service) -> None:
    @app.post("/v1/pairs", summary="Keep an image and its mask", openapi_extra=PAIR_BODY, responses=ERRORS, status_code=201)
    async def pairs(request: Request) -> dict[str, Any]:
        """A form with the parts `image` and `mask`, of one size; white is foreground. Where the service was started with --collect."""
        collection = service.collection
        if collection is None:
            raise RefusedError(404, "this service keeps nothing; focus serve --collect FOLDER does")
        with service.admitted(_length(request)):
            image, mask = await _pair(request, service)
            name = await service.read(image, partial(_keep, collection, mask, service))
            return {"name": name, "collected": len(collection)}


async def _pair(request: Request, service: Service) -> tuple[Upload, Upload]:
    files = (await read_uploads(request, service.limits, fields=("image", "mask"))).files
    if {field: len(sent) for field, sent in files.items()} != {"image": 1, "mask": 1}:
        raise RefusedError(400, "a pair is one part named image and one named mask")
    return files["image"][0], files["mask"][0]


def _white(mask: Upload, service: Service, image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    decode(mask, service.limits)  # its errors are those of an image
    try:
        return read_mask(mask.content, size=image.shape[:2], max_pixels=service.limits.pixels, name=mask.name)
    except DataError as error:
        raise RefusedError(422, str(error)) from None


def _keep(collection: Collection, mask: Upload, service: Service, image: NDArray[np.uint8]) -> str:
    white = _white(mask, service, image)
    try:
        return collection.keep(image, white)
    except (DataError, OSError) as error:
        raise RefusedError(507, f"the pair cannot be kept: {one_line(str(error))}") from None


def _watching(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether the process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether requests are taken", responses={503: ERRORS[503]})
    async def readyz() -> dict[str, str]:
        if not service.ready:
            raise RefusedError(503, "this service is about to end" if service.state.ending else "a model does not answer")
        return {"status": "ready"}

    @app.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.counts.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _served(service: Service, name: str) -> Served:
    served = find(service.models, name)
    if served is None:
        raise RefusedError(404, f"there is no model {one_line(name)!r}; there is {', '.join(each.name for each in service.models)}")
    return served


def _length(request: Request) -> int | None:
    """What a request says it will bring; the gate has seen that it is a number."""
    length = request.headers.get("content-length")
    return int(length) if length is not None and "transfer-encoding" not in request.headers else None


async def _row(service: Service, upload: Upload, served: Served, form: Form, threshold: float | None) -> dict[str, Any]:
    try:
        return await service.predict(upload, served, threshold, lambda result: as_json(upload.name, form, result))
    except RefusedError as error:
        return {"name": upload.name, "error": one_line(str(error)), "status": error.status}


async def _answer_all(model: str, rows: list[Coroutine[Any, Any, dict[str, Any]]]) -> Response:
    """All rows; the error alone where not one image could be answered."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(row) for row in rows]
    results = [task.result() for task in tasks]
    if all("error" in row for row in results):
        raise RefusedError(results[0]["status"], "; ".join(row["error"] for row in results))
    return Response(json.dumps({"model": model, "results": results}), media_type="application/json")


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What comes of some work, which is given up when the client goes away."""
    gone = asyncio.ensure_future(_gone(request))
    done = asyncio.ensure_future(work)
    try:
        await asyncio.wait((gone, done), return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise RefusedError(400, "the connection was cut")
        return done.result()
    finally:
        gone.cancel()
        done.cancel()
        await asyncio.gather(gone, done, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _file(drawn: Drawn, model: str = "") -> Response:
    return Response(drawn.content, media_type=drawn.media, headers={"X-Focus-Model": model} if model else None)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """Every error as one line of JSON."""
    if isinstance(error, RefusedError):
        return error.response()
    if isinstance(error, RequestValidationError):
        told = "; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors())
        return RefusedError(400, told).response()
    if isinstance(error, HTTPException):
        told = {404: "there is nothing at this path", 405: "this path does not know that method"}.get(error.status_code, str(error.detail))
        return RefusedError(error.status_code, told, error.headers).response()
    return UNEXPECTED.response()
