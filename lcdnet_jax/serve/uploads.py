"""Images that are received: limits of size and time, and names."""

from __future__ import annotations

import asyncio
import pathlib
import re
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from lcdnet_jax import image_io
from lcdnet_jax.image_io import Header, ImageError
from lcdnet_jax.serve.errors import RequestError
from lcdnet_jax.serve.job import Upload
from lcdnet_jax.serve.jobs import Jobs
from lcdnet_jax.serve.settings import Settings

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_FIELD = "image"
_HINT = f"send the file as multipart field {_FIELD}, as curl -F {_FIELD}=@photo.jpg does"

# Slowest upload after ``stall_seconds``, in bytes per second.
_SLOWEST = 1000

# Bytes of the longest name of a result, as most file systems allow it.
_LONGEST_NAME = 255

# Characters that browsers and curl write so in the name of a file.
_ESCAPED = {"%22": '"', "%0D": "\r", "%0A": "\n"}

# Bytes that are written at once.
_CHUNK = 2**20


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
    _, options = parse_options_header(request.headers["content-type"])
    form = _Form(upload)
    try:
        parser = MultipartParser(options.get(b"boundary", b""), form.callbacks)
        async for chunk in _limit(request, upload, jobs, settings):
            parser.write(chunk)
            if form.waiting > _CHUNK:
                await run_in_threadpool(form.flush)
        await run_in_threadpool(form.flush)
    except FormParserError as error:
        raise RequestError(400, f"the form is damaged ({error}); {_HINT}") from None
    finally:
        form.close()
    if not form.is_complete:
        raise RequestError(400, f"the form is cut short, or has no field {_FIELD}; {_HINT}")


class _Form:
    """The content of a form, which must be one file in the field "image".

    Args:
        upload: Gets the name and the file.

    Attributes:
        is_complete: Whether the form has ended after the file.
        waiting: Bytes that :meth:`flush` would write.
    """

    def __init__(self, upload: Upload):
        self._upload = upload
        self._file: BinaryIO | None = None
        self._chunks: list[bytes] = []
        self._header, self._value = b"", b""
        self._disposition = b""
        self.is_complete = False
        self.waiting = 0

    @property
    def callbacks(self) -> MultipartCallbacks:
        """What the parser calls."""
        return {
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_file,
            "on_part_data": self._add_data,
            "on_end": self._end,
        }

    def flush(self) -> None:
        """Writes what has come so far."""
        chunks, self._chunks, self.waiting = self._chunks, [], 0
        if self._file is not None:
            self._file.writelines(chunks)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _begin_file(self) -> None:
        _, options = parse_options_header(self._disposition)
        given = options.get(b"filename")
        if self._file is not None or options.get(b"name") != _FIELD.encode() or given is None:
            raise RequestError(400, f"the form must have one field {_FIELD} with a file; {_HINT}")
        self._upload.set_name(clean_name(given.decode("utf-8", "replace")))
        self._file = open(self._upload.source, "xb")  # noqa: SIM115  # closed by close

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])
        self.waiting += end - start

    def _end(self) -> None:
        self.is_complete = self._file is not None


def clean_name(given: str) -> str:
    """Makes a file name of what a client calls its image.

    Args:
        given: Any text.

    Returns:
        A name without folders and control characters, with the suffix of an image.

    Raises:
        RequestError: If there is no such suffix (415).
    """
    for code, char in _ESCAPED.items():
        given = given.replace(code, char)
    last = re.split(r"[/\\]", given)[-1]
    name = pathlib.PurePath("".join(char for char in last if char.isprintable()).strip())
    if name.suffix.lower() not in image_io.IMAGE_SUFFIXES:
        raise RequestError(
            415,
            f"{name.name or 'the file'} has no suffix of a format in which its result could be "
            "written; send it with a name that ends in one of "
            f"{', '.join(image_io.IMAGE_SUFFIXES)}",
        )
    most = _LONGEST_NAME - len(f".restored{name.suffix}")
    return name.stem.encode()[:most].decode(errors="ignore") + name.suffix


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
