"""Images that are received: limits of size and time, and names."""

import asyncio
import pathlib
import re
import shutil
import time
from collections.abc import AsyncGenerator
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from lcdnet_jax import image_io
from lcdnet_jax.image_io import Header, ImageError
from lcdnet_jax.serve.errors import RequestError
from lcdnet_jax.serve.jobs import Jobs, Upload
from lcdnet_jax.serve.settings import Settings

_FIELD = "image"
_HINT = f"send the file as multipart field {_FIELD}, as curl -F {_FIELD}=@photo.jpg does"

# Slowest upload after ``stall_seconds``, in bytes per second.
_SLOWEST = 1000

_LONGEST_NAME, _LONGEST_TEXT = 120, 1000


async def receive(request: Request, jobs: Jobs, settings: Settings) -> tuple[Upload, Header]:
    """Receives the image of a request and reads its header.

    Args:
        request: A request whose body is a form with the field "image".
        jobs: Where the upload gets its folder. It belongs to the caller.
        settings: The limits.

    Returns:
        The upload, and the header of its image.

    Raises:
        RequestError: If the body is no such form (400, 415), too large (413) or too slow (408), or
            the file is no image that can be read (415, 422).
        ClientDisconnect: If the client has gone.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != (
        "multipart/form-data"
    ):
        raise RequestError(415, f"the body is no form; {_HINT}")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > settings.body_bytes:
        raise _too_large(settings)
    upload = jobs.create_upload()
    try:
        await _store(request, upload, jobs, settings)
        return upload, await run_in_threadpool(_read_header, upload, jobs, settings)
    except BaseException as error:
        jobs.discard(upload)
        if isinstance(error, OSError):
            raise RequestError(
                507,
                f"the image cannot be stored ({error.strerror}); free some space in the server's "
                "folder for temporary files",
            ) from error
        raise


async def _store(request: Request, upload: Upload, jobs: Jobs, settings: Settings) -> None:
    """Stores the image of a form; sets the name of the upload."""
    parser = MultiPartParser(
        request.headers,
        _limit(request, upload, jobs, settings),
        max_files=1,
        max_fields=1,
        max_part_size=_LONGEST_TEXT,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestError(400, f"the form cannot be read ({error.message}); {_HINT}") from None
    try:
        given = form.get(_FIELD)
        if not isinstance(given, UploadFile) or len(form.multi_items()) > 1:
            raise RequestError(400, f"the form must have one field {_FIELD} with a file; {_HINT}")
        upload.set_name(clean_name(given.filename or ""))
        await run_in_threadpool(_copy, given.file, upload.source)
    finally:
        await form.close()


def clean_name(given: str) -> str:
    """Makes a file name of what a client calls its image.

    Args:
        given: Any text.

    Returns:
        A name without folders and control characters, with the suffix of an image.

    Raises:
        RequestError: If there is no such suffix (415).
    """
    last = re.split(r"[/\\]", given)[-1]
    name = pathlib.PurePath("".join(char for char in last if char.isprintable()).strip())
    if name.suffix.lower() not in image_io.IMAGE_SUFFIXES:
        raise RequestError(
            415,
            f"{name.name or 'the file'} has no suffix of a format in which its result could be "
            "written; send it with a name that ends in one of "
            f"{', '.join(image_io.IMAGE_SUFFIXES)}",
        )
    return f"{name.stem[:_LONGEST_NAME]}{name.suffix}"


async def _limit(
    request: Request, upload: Upload, jobs: Jobs, settings: Settings
) -> AsyncGenerator[bytes, None]:
    """The body of a request, as long as it is neither too large nor too slow."""
    stream, start, total = aiter(request.stream()), time.monotonic(), 0
    while True:
        try:
            async with asyncio.timeout(settings.stall_seconds):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise _too_slow() from None
        if chunk is None:
            return
        total += len(chunk)
        if total > settings.body_bytes:
            raise _too_large(settings)
        seconds = time.monotonic() - start
        if seconds > settings.stall_seconds and total < _SLOWEST * seconds:
            raise _too_slow()
        jobs.hold(upload, len(chunk))
        yield chunk


def _copy(file: BinaryIO, target: pathlib.Path) -> None:
    with open(target, "xb") as stream:
        shutil.copyfileobj(file, stream, 2**20)


def _read_header(upload: Upload, jobs: Jobs, settings: Settings) -> Header:
    """Reads the header of an image; refuses more pixels than allowed, before they are decoded."""
    try:
        header = image_io.read_header(upload.source, floats=True)
    except ImageError as error:
        raise RequestError(422, jobs.describe_error(upload, upload.name, error)) from None
    megapixels = header.height * header.width / 1e6
    if megapixels > settings.max_megapixels:
        raise RequestError(
            413,
            f"{upload.name}: {header.width}x{header.height} are {megapixels:.1f} megapixels, and "
            f"this server takes {settings.max_megapixels:g}; restore it with lcdnet-jax restore, "
            "or start the server with a higher --max-megapixels",
        )
    return header


def _too_large(settings: Settings) -> RequestError:
    return RequestError(
        413,
        f"the file is larger than {settings.body_bytes / 1e6:.0f} MB, which this server takes; "
        "start it with a higher --max-megapixels",
    )


def _too_slow() -> RequestError:
    return RequestError(408, "the image arrives too slowly; send it again", {"Connection": "close"})
