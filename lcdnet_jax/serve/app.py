"""The requests of the page and of the HTTP API. ``openapi.py`` describes them."""

import asyncio
import functools
import hashlib
import io
import json
import pathlib
import time
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from lcdnet_jax._version import __version__
from lcdnet_jax.file_names import normalize
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.serve import demo, openapi, previews
from lcdnet_jax.serve.catalog import Catalog, Weights, parse_strength
from lcdnet_jax.serve.errors import RequestError
from lcdnet_jax.serve.guard import Guard
from lcdnet_jax.serve.job import FINAL, Job
from lcdnet_jax.serve.jobs import Jobs
from lcdnet_jax.serve.settings import Settings
from lcdnet_jax.serve.uploads import receive

_STATIC = pathlib.Path(__file__).parent / "static"

# Not those of the system, which may be wrong, and then a browser runs no script.
_PAGE_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

# Seconds between two looks at a job: of a request that waits for a result, and of a stream of
# events. Seconds between two signs of life of such a stream.
_WAIT_SECONDS = 0.05
_LOOK_SECONDS = 0.2
_ALIVE_SECONDS = 15.0

_PREVIEW_SIZE = 1600
_CHUNK = 2**18


class App:
    """The requests of one server.

    Args:
        jobs: The jobs.
        catalog: The weights.
        settings: The settings.
    """

    def __init__(self, jobs: Jobs, catalog: Catalog, settings: Settings):
        self._jobs = jobs
        self._catalog = catalog
        self._settings = settings
        # Only these files are ever opened, whatever a request names.
        self._static = {
            path.relative_to(_STATIC).as_posix(): path
            for path in _STATIC.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }
        # Pictures take memory.
        self._decoding, self._rendering = anyio.CapacityLimiter(1), anyio.CapacityLimiter(2)

    def create(self) -> Guard:
        """Makes the application.

        Returns:
            The application behind its guard.
        """
        routes = [
            Route("/", self._get_page),
            Route("/static/{name:path}", self._get_static),
            Route("/healthz", self._get_health),
            Route("/openapi.json", self._get_openapi),
            Route("/weights", self._get_weights),
            Route("/demo", self._get_demo),
            Route("/restore", self._restore, methods=["POST"]),
            Route("/jobs", self._add_job, methods=["POST"]),
            Route("/preview", self._make_preview, methods=["POST"]),
            Route("/jobs/{id}", self._get_job),
            Route("/jobs/{id}", self._delete_job, methods=["DELETE"]),
            Route("/jobs/{id}/events", self._get_events),
            Route("/jobs/{id}/result", self._get_result),
            Route("/jobs/{id}/preview/{side}", self._get_preview),
            Route("/results.zip", self._get_zip),
        ]
        app = Starlette(
            routes=routes,
            exception_handlers={
                RequestError: _respond_to_request_error,
                HTTPException: _respond_to_http_error,
                ClientDisconnect: _respond_to_nobody,
                Exception: _respond_to_failure,
            },
        )
        app.router.redirect_slashes = False
        return Guard(app, self._settings)

    # The page

    async def _get_page(self, request: Request) -> Response:
        return self._send_static(request, "index.html")

    async def _get_static(self, request: Request) -> Response:
        return self._send_static(request, request.path_params["name"])

    def _send_static(self, request: Request, name: str) -> Response:
        path = self._static.get(name)
        if path is None:
            raise RequestError(404, "there is no such page")
        content = path.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        known = request.headers.get("if-none-match", "")
        if tag in [each.strip().removeprefix("W/") for each in known.split(",")]:
            return Response(status_code=304, headers=headers)
        media_type = _PAGE_TYPES.get(path.suffix, "text/plain")
        return Response(content, media_type=media_type, headers=headers)

    async def _get_demo(self, request: Request) -> Response:
        headers = {"Content-Disposition": f'attachment; filename="{demo.NAME}"'}
        return Response(demo.read(), media_type="image/jpeg", headers=headers)

    # About the server

    async def _get_health(self, request: Request) -> Response:
        return JSONResponse(
            {"status": "ok", "version": __version__, "queued": self._jobs.queued},
        )

    async def _get_openapi(self, request: Request) -> Response:
        return JSONResponse(openapi.describe())

    async def _get_weights(self, request: Request) -> Response:
        return JSONResponse(
            {
                "default": self._catalog.default,
                "weights": self._catalog.describe(),
                "limits": {
                    "megapixels": self._settings.max_megapixels,
                    "bytes": self._settings.body_bytes,
                    "queue": self._settings.queue,
                },
            }
        )

    # Restoring

    async def _receive_job(self, request: Request) -> Job:
        """Receives an image and adds it to the queue."""
        weights, strength = self._parse_options(request)
        self._jobs.check_queue()  # before the image is received
        upload, header = await receive(request, self._jobs, self._settings)
        try:
            return self._jobs.add(upload, header, weights, strength)
        except BaseException:
            self._jobs.discard(upload)
            raise

    def _parse_options(self, request: Request) -> tuple[Weights, float]:
        query = request.query_params
        unknown = set(query) - {"weights", "strength"}
        if unknown or len(query.multi_items()) != len(query):
            raise RequestError(400, "the parameters are weights and strength, each at most once")
        weights = self._catalog.find(query.get("weights"))
        return weights, parse_strength(query.get("strength"), weights)

    async def _restore(self, request: Request) -> Response:
        job = await self._receive_job(request)
        try:
            while job.state not in FINAL:
                job.asked = time.monotonic()
                if await request.is_disconnected():
                    raise ClientDisconnect
                await asyncio.sleep(_WAIT_SECONDS)
            if job.state == "failed":
                raise RequestError(507 if job.is_disk_full else 422, job.error or "")
            if job.state == "canceled":
                raise RequestError(503, job.error or "the server is shutting down")
            return _OneDelivery(self._jobs, job)
        except BaseException:
            self._jobs.forget(job)
            raise

    async def _add_job(self, request: Request) -> Response:
        job = await self._receive_job(request)
        if await request.is_disconnected():  # nobody would know its id
            self._jobs.forget(job)
            raise ClientDisconnect
        described = self._jobs.describe(job)
        return JSONResponse(described, 202, {"Location": f"/jobs/{job.id}"})

    async def _get_job(self, request: Request) -> Response:
        return JSONResponse(self._jobs.describe(self._find(request)))

    async def _delete_job(self, request: Request) -> Response:
        job = self._find(request)
        self._jobs.cancel(job)
        return JSONResponse(self._jobs.describe(job))

    async def _get_events(self, request: Request) -> Response:
        return StreamingResponse(self._follow(self._find(request)), media_type="text/event-stream")

    async def _follow(self, job: Job) -> AsyncIterator[str]:
        """Server-sent events of a job until it ends."""
        sent, when = "", 0.0
        while True:  # the end of the server cancels the job
            state = self._jobs.describe(job)
            text = json.dumps(state)
            if text != sent:
                sent, when = text, time.monotonic()
                yield f"data: {text}\n\n"
            elif time.monotonic() - when > _ALIVE_SECONDS:
                when = time.monotonic()
                yield ": \n\n"
            if state["state"] in FINAL:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _get_result(self, request: Request) -> Response:
        job = self._find_done(request.path_params["id"])
        return FileResponse(job.plan.target, media_type=job.media_type, filename=job.result_name)

    def _find(self, request: Request) -> Job:
        return self._jobs.find(request.path_params["id"])

    def _find_done(self, name: str) -> Job:
        job = self._jobs.find(name)
        if job.state != "done":
            raise RequestError(404, f"there is no result: the job is {job.state}")
        return job

    # Previews

    async def _get_preview(self, request: Request) -> Response:
        side = request.path_params["side"]
        if side not in ("before", "after"):
            raise RequestError(404, "there are the previews before and after")
        job = (
            self._find(request) if side == "before" else self._find_done(request.path_params["id"])
        )
        query = request.query_params
        names = ("x", "y", "w", "h")
        if set(query) - {"size", *names}:
            raise RequestError(400, "the parameters are size, or x, y, w and h")
        left, top, width, height = (_parse_number(query.get(name), name, 0) for name in names)
        size = _parse_number(query.get("size"), "size", 1) or _PREVIEW_SIZE
        is_part = None not in (left, top, width, height)
        if not is_part and any(name in query for name in names):
            raise RequestError(400, "a part of the picture needs all of x, y, w and h")
        try:
            pixels = await self._find_pixels(job, side)
            if left is not None and top is not None and width is not None and height is not None:
                draw = functools.partial(
                    previews.render_part, pixels, left=left, top=top, width=width, height=height
                )
            else:
                size = min(size, previews.MOST_SIDE)
                draw = functools.partial(previews.render, pixels, size=size)
            content = await anyio.to_thread.run_sync(draw, limiter=self._rendering)
        except ImageError as error:
            self._jobs.find(job.id)  # gone in the meantime
            text = self._jobs.describe_error(job.upload, job.result_name, error)
            raise RequestError(422, text) from None
        except ValueError as error:
            raise RequestError(400, str(error)) from None
        except OSError:
            self._jobs.find(job.id)
            raise RequestError(404, f"there is no picture: the job is {job.state}") from None
        return Response(content, media_type="image/png")

    async def _make_preview(self, request: Request) -> Response:
        """Draws an image that is not restored, and forgets it."""
        if set(request.query_params) - {"size"}:
            raise RequestError(400, "the only parameter is size")
        size = _parse_number(request.query_params.get("size"), "size", 1) or _PREVIEW_SIZE
        upload, header = await receive(request, self._jobs, self._settings)
        try:
            pixels = upload.folder / "before.npy"
            self._jobs.hold(upload, previews.count_bytes(header))
            async with self._decoding:
                await run_in_threadpool(previews.write_pixels, upload.source, pixels)
            draw = functools.partial(previews.render, pixels, size=min(size, previews.MOST_SIDE))
            content = await anyio.to_thread.run_sync(draw, limiter=self._rendering)
        except ImageError as error:
            text = self._jobs.describe_error(upload, upload.name, error)
            raise RequestError(422, text) from None
        finally:
            self._jobs.discard(upload)
        sides = {"X-Image-Width": str(header.width), "X-Image-Height": str(header.height)}
        return Response(content, media_type="image/png", headers=sides)

    async def _find_pixels(self, job: Job, side: str) -> pathlib.Path:
        """The file of pixels of an image, which is made when it is first needed."""
        source = job.upload.source if side == "before" else job.plan.target
        target = job.upload.folder / f"{side}.npy"
        async with self._decoding:
            if target.exists():
                return target
            scale = 1 if side == "before" else job.weights.restorer.module.scale
            size = previews.count_bytes(job.header) * scale**2
            self._jobs.hold(job.upload, size)
            try:
                await run_in_threadpool(previews.write_pixels, source, target)
            except BaseException:
                self._jobs.release(job.upload, size)
                raise
            finally:
                if job.upload.is_deleted:  # meanwhile
                    self._jobs.discard(job.upload)
        return target

    # Several results

    async def _get_zip(self, request: Request) -> Response:
        ids = request.query_params.getlist("id")
        if not ids or set(request.query_params) != {"id"}:
            raise RequestError(400, "name the results, as results.zip?id=ID&id=ID")
        done = [self._find_done(name) for name in dict.fromkeys(ids)]
        return StreamingResponse(
            _zip(done),
            media_type="application/zip",
            headers={"Content-Disposition": 'attachment; filename="restored.zip"'},
        )


class _OneDelivery(FileResponse):
    """Sends the result of a job, and forgets the job, whether the client reads it or not."""

    def __init__(self, jobs: Jobs, job: Job):
        super().__init__(job.plan.target, media_type=job.media_type, filename=job.result_name)
        self._jobs = jobs
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request, as ASGI defines it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._jobs.forget(self._job)


class _Chunks(io.RawIOBase):
    """A file for writing whose content is taken out piece by piece."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._chunks.append(bytes(data))
        return len(self._chunks[-1])

    def take(self) -> bytes:
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)


def _zip(jobs: Sequence[Job]) -> Iterator[bytes]:
    """The bytes of a ZIP file of results, without compression."""
    chunks = _Chunks()
    with zipfile.ZipFile(chunks, "w") as archive:
        for job, name in zip(jobs, _name_uniquely([job.result_name for job in jobs]), strict=True):
            entry = zipfile.ZipInfo(name, time.localtime()[:6])
            entry.external_attr = 0o644 << 16
            entry.file_size = job.result_bytes
            with archive.open(entry, "w") as target, open(job.plan.target, "rb") as source:
                while data := source.read(_CHUNK):
                    target.write(data)
                    yield chunks.take()
            yield chunks.take()
    yield chunks.take()


def _name_uniquely(names: Sequence[str]) -> list[str]:
    """Adds numbers to names that differ in nothing, or only in case."""
    used: set[str] = set()
    unique = []
    for name in names:
        path, number, free = pathlib.PurePath(name), 1, name
        while normalize(free).lower() in used:
            number += 1
            free = f"{path.stem}-{number}{path.suffix}"
        used.add(normalize(free).lower())
        unique.append(free)
    return unique


def _parse_number(text: str | None, name: str, least: int) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) >= least):
        raise RequestError(400, f"{name} must be an integer of at least {least}")
    return int(text)


async def _respond_to_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error.respond()


async def _respond_to_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = error.detail
    if error.status_code == 404:
        text = "there is no such page; GET /openapi.json lists all requests"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        text = f"use {allowed} here; GET /openapi.json lists all requests"
    return JSONResponse({"error": text}, error.status_code, error.headers)


async def _respond_to_nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


async def _respond_to_failure(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"the server failed ({type(error).__name__})"}, 500)
