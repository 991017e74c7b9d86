"""The HTTP endpoint, with or without the page beside it.

POST /detect    an image as the body, or as the file `image` of a form -> what `Detections.to_json` gives
GET  /health    {"status": "ok", "models": [...]}
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from efficientnet_east.demo import page_rules
from efficientnet_east.demo.limits import Limits
from efficientnet_east.demo.request_guard import INTERNAL_ERROR, JsonLine, RequestGuard, refusal
from efficientnet_east.demo.service import Answer, Question
from efficientnet_east.demo.worker import Busy, Failed, Worker
from efficientnet_east.errors import UserError

KEPT_SECONDS = 900  # for uploads and results of the page
_SWEEP_SECONDS = 60
_FORMATS = {"json": "application/json", "icdar": "text/plain; charset=utf-8", "picture": "image/jpeg"}
_MOST_FIELDS = 20
BUSY = "the request queue is full"


def build(worker: Worker, limits: Limits, max_pixels: int, folder: Path | None = None) -> RequestGuard:
    """Build the server.

    Args:
      worker: started; the caller ends it.
      limits: what is accepted.
      max_pixels: above which an image is refused.
      folder: for uploads and results of the page, of this user only; None leaves the page out.

    Returns:
      The application, behind its guard.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=_keep_clean(folder))

    @app.get("/health")
    async def health() -> Response:
        return JsonLine({"status": "ok", "models": list(worker.names)})

    @app.post("/detect")
    async def detect(request: Request) -> Response:
        return await _detect(request, worker, max_pixels)

    @app.exception_handler(HTTPException)
    async def fail(request: Request, error: HTTPException) -> Response:
        return refusal(error.status_code, str(error.detail))

    @app.exception_handler(Exception)  # the guard logs it
    async def break_off(request: Request, error: Exception) -> Response:
        return refusal(500, INTERNAL_ERROR)

    if folder is not None:
        from efficientnet_east.demo import page

        page.mount(app, worker, limits, max_pixels, folder)
    return RequestGuard(app, limits, page_rules.rules(folder))


async def _detect(request: Request, worker: Worker, max_pixels: int) -> Response:
    """Answer a request with one image."""
    data, fields = await _read(request)
    model, kind = fields.pop("model", ""), fields.pop("format", "json")
    if kind not in _FORMATS:
        raise HTTPException(400, f"format {kind!r} is unknown; expected one of {', '.join(_FORMATS)}")
    pictures = ("boxes",) if kind == "picture" else ()
    found = await _ask(worker, Question(data, model, fields, pictures, max_pixels))
    if kind == "picture":
        return Response(found.pictures["boxes"], media_type=_FORMATS[kind])
    text = found.found.to_icdar(decimals=2, scores=True) if kind == "icdar" else found.to_json() + "\n"
    return Response(text, media_type=_FORMATS[kind])


async def _ask(worker: Worker, question: Question) -> Answer:
    try:
        with worker.place():
            return await asyncio.to_thread(worker.ask, question)
    except Busy:
        raise HTTPException(503, BUSY) from None
    except Failed as error:
        raise HTTPException(500, str(error)) from None
    except UserError as error:
        raise HTTPException(400, str(error).removeprefix("detect.")) from None


async def _read(request: Request) -> tuple[bytes, dict[str, str]]:
    """Read the bytes of the image, and the fields of the address or the form."""
    fields = dict(request.query_params)
    if not request.headers.get("content-type", "").startswith("multipart/"):
        data = await request.body()
    else:
        try:
            form = await request.form(max_files=1, max_fields=_MOST_FIELDS)
        except (HTTPException, AssertionError) as error:
            problem = f"the form cannot be read ({error})"
            raise HTTPException(400, f"{problem}; expected one file called image") from None
        fields |= {name: value for name, value in form.items() if isinstance(value, str)}
        file = form.get("image")
        data = await file.read() if isinstance(file, UploadFile) else b""
        await form.close()
    if not data:
        raise HTTPException(400, "no image; send it as the body, or in a form as the file called image")
    return data, fields


def _keep_clean(folder: Path | None):  # type: ignore[no-untyped-def]
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(_sweep(folder)) if folder else None
        try:
            yield
        finally:
            if task:
                task.cancel()

    return lifespan


async def _sweep(folder: Path) -> None:
    while True:
        remove_old(folder, time.time() - KEPT_SECONDS)
        await asyncio.sleep(_SWEEP_SECONDS)


def remove_old(folder: Path, before: float) -> None:
    """Remove files that have not changed since a time, in seconds, and folders that are empty then."""
    for path in sorted(folder.rglob("*"), reverse=True):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before:
                path.rmdir() if path.is_dir() else path.unlink()
