"""Description of the HTTP API, in the format of OpenAPI 3.1."""

from collections.abc import Mapping
from typing import Any

from lcdnet_jax._version import __version__

Json = dict[str, Any]

_INTRODUCTION = """Restores image files. Results are the bytes that `lcdnet-jax restore` writes.

One image is computed at a time; others wait in a queue of limited length. Only who has the id of
a job reaches it. Results are deleted an hour after somebody last asked about them, earlier if space
is needed, and when the server ends. A job about which nobody asks for five minutes is canceled.

Every error is JSON with the cause and the fix as `error`."""


def describe() -> Json:
    """Describes the requests.

    Returns:
        The document of ``GET /openapi.json``.
    """
    return {
        "openapi": "3.1.0",
        "info": {"title": "lcdnet-jax", "version": __version__, "description": _INTRODUCTION},
        "paths": {
            "/restore": {
                "post": _operation(
                    "Restore an image and wait for the result",
                    {200: _file("The restored file; the header Content-Disposition has its name")},
                    errors=(*_UPLOAD_ERRORS, 503),
                    parameters=_OPTIONS,
                    body=_IMAGE,
                )
            },
            "/jobs": {
                "post": _operation(
                    "Add an image to the queue",
                    {202: _json("The job; the header Location has its address", "Job")},
                    errors=_UPLOAD_ERRORS,
                    parameters=_OPTIONS,
                    body=_IMAGE,
                )
            },
            "/jobs/{id}": {
                "parameters": [_ID],
                "get": _operation("State of a job", {200: _json("The job", "Job")}, errors=(404,)),
                "delete": _operation(
                    "Cancel a job, also while it is computed; forget one that has ended",
                    {200: _json("The job", "Job")},
                    errors=(404,),
                ),
            },
            "/jobs/{id}/events": {
                "parameters": [_ID],
                "get": _operation(
                    "Follow a job",
                    {200: _content("Server-sent events until the job ends; the data of each is a "
                                   "job as GET /jobs/{id} returns it", "text/event-stream",
                                   {"type": "string"})},
                    errors=(404,),
                ),
            },
            "/jobs/{id}/result": {
                "parameters": [_ID],
                "get": _operation(
                    "Result of a job that is done", {200: _file("The restored file")}, errors=(404,)
                ),
            },
            "/jobs/{id}/preview/{side}": {
                "parameters": [
                    _ID,
                    _parameter("side", "path", {"enum": ["before", "after"]}, "Upload or result"),
                ],
                "get": _operation(
                    "Picture of an upload or a result in 8-bit sRGB, whatever its format is: whole "
                    "with `size`, or a part in its own pixels with all of `x`, `y`, `w`, `h`",
                    {200: _content("The picture", "image/png", _BYTES)},
                    errors=(400, 404, 422, 429, 507),
                    parameters=[
                        _number("size", "Longest side in pixels, up to 4096 (default: 1600); "
                                "smaller pictures keep their size", 1),
                        _number("x", "First column", 0),
                        _number("y", "First row", 0),
                        _number("w", "Columns", 0),
                        _number("h", "Rows; columns times rows up to 16,777,216", 0),
                    ],
                ),
            },
            "/preview": {
                "post": _operation(
                    "Picture of an image in 8-bit sRGB, without restoring it",
                    {200: _content("The picture; the headers X-Image-Width and X-Image-Height have "
                                   "the size of the image, upright", "image/png", _BYTES)},
                    errors=_UPLOAD_ERRORS,
                    parameters=[
                        _number("size", "Longest side in pixels, up to 4096 (default: 1600); "
                                "smaller pictures keep their size", 1),
                    ],
                    body=_IMAGE,
                )
            },
            "/results.zip": {
                "get": _operation(
                    "Results of several jobs as one file",
                    {200: _content("A ZIP file", "application/zip", _BYTES)},
                    errors=(400, 404),
                    parameters=[
                        _parameter("id", "query", {"type": "array", "items": {"type": "string"}},
                                   "Ids of the jobs; the parameter is repeated")
                        | {"required": True}
                    ],
                )
            },
            "/weights": {
                "get": _operation("Weights and limits", {200: _json("The weights", "Catalog")})
            },
            "/demo": {
                "get": _operation(
                    "A photograph with synthetic noise of a camera, to try",
                    {200: _content("A photograph", "image/jpeg", _BYTES)},
                )
            },
            "/healthz": {
                "get": _operation("Whether the server works", {200: _json("It does", "Health")})
            },
            "/openapi.json": {
                "get": _operation("This document", {200: _content(
                    "OpenAPI 3.1", "application/json", {"type": "object"})})
            },
            "/": {"get": _operation("The page", {200: _content(
                "HTML", "text/html", {"type": "string"})})},
            "/static/{name}": {
                "parameters": [_parameter("name", "path", {"type": "string"}, "Name of a file")],
                "get": _operation("A file of the page", {200: _file("The file")}, errors=(404,)),
            },
        },
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Only if the server was started with --token.",
                }
            },
        },
        "security": [{}, {"token": []}],
    }  # fmt: skip


# Errors of every request, and what each status means.
_ALWAYS = (401, 403)
_UPLOAD_ERRORS = (400, 408, 413, 415, 422, 429, 507)
_MEANINGS = {
    400: "A parameter or the form is wrong",
    401: "The token is missing or wrong",
    403: "The request comes from a page of another server, or names another host",
    404: "No such job or result",
    408: "The upload is too slow",
    413: "Too many bytes or pixels",
    415: "No form, or no name of an image",
    422: "The image cannot be read or restored, as the message says",
    429: "Too many images wait or are kept; the header Retry-After says when to try again",
    503: "The server is shutting down",
    507: "The server's disk is full or too small",
}


def _operation(
    summary: str,
    responses: Mapping[int, Json],
    *,
    errors: tuple[int, ...] = (),
    parameters: list[Json] | None = None,
    body: Json | None = None,
) -> Json:
    described = {str(status): response for status, response in responses.items()}
    for status in sorted({*errors, *_ALWAYS}):
        described[str(status)] = _json(_MEANINGS[status], "Error")
    optional = {"parameters": parameters, "requestBody": body}
    return {
        "summary": summary,
        **{name: value for name, value in optional.items() if value is not None},
        "responses": described,
    }


def _content(description: str, media_type: str, schema: Json) -> Json:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _json(description: str, schema: str) -> Json:
    return _content(description, "application/json", {"$ref": f"#/components/schemas/{schema}"})


def _file(description: str) -> Json:
    return _content(description, "*/*", _BYTES)


def _parameter(name: str, place: str, schema: Json, description: str) -> Json:
    required = {"required": True} if place == "path" else {}
    return {"name": name, "in": place, "description": description, "schema": schema, **required}


def _number(name: str, description: str, least: int) -> Json:
    return _parameter(name, "query", {"type": "integer", "minimum": least}, description)


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


_TEXT: Json = {"type": "string"}
_INTEGER: Json = {"type": "integer"}
_NUMBER: Json = {"type": "number"}
_BOOLEAN: Json = {"type": "boolean"}
_BYTES: Json = {"type": "string", "format": "binary"}


def _optional(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


_ID = _parameter("id", "path", _TEXT, "Id of a job")
_OPTIONS = [
    _parameter("weights", "query", _TEXT, "A name of GET /weights; the default if absent"),
    _parameter(
        "strength",
        "query",
        {"type": "number", "minimum": 0, "maximum": 1, "default": 1},
        "How much of the change is used",
    ),
]
_IMAGE: Json = {
    "required": True,
    "content": {"multipart/form-data": {"schema": _object(image=_BYTES)}},
}
_SCHEMAS: Json = {
    "Error": _object(error=_TEXT),
    "Health": _object(status={"const": "ok"}, version=_TEXT, queued=_INTEGER),
    "Catalog": _object(
        default=_TEXT,
        weights=_list(
            _object(
                name=_TEXT,
                title=_TEXT,
                purpose=_TEXT,
                network=_TEXT,
                channels=_INTEGER,
                scale=_INTEGER | {"description": "How many times larger results are"},
                blind=_optional(_BOOLEAN)
                | {"description": "Whether they are for more than one noise level"},
                strength=_BOOLEAN | {"description": "Whether a strength below 1 is possible"},
                seconds_per_megapixel=_optional(_NUMBER)
                | {"description": "As last measured, or estimated from other weights"},
                license=_TEXT,
            )
        ),
        limits=_object(
            megapixels=_NUMBER,
            bytes=_INTEGER | {"description": "Of the body of a request"},
            queue=_INTEGER,
        ),
    ),
    "Job": _object(
        id=_TEXT,
        state={
            "enum": [
                *("queued", "compiling", "restoring", "writing"),
                *("done", "failed", "canceled"),
            ]
        },
        name=_TEXT,
        weights=_TEXT,
        strength=_NUMBER,
        width=_INTEGER,
        height=_INTEGER,
        megapixels=_NUMBER,
        queue_position=_optional(_INTEGER) | {"description": "From 1; null if it does not wait"},
        windows_done=_INTEGER,
        windows=_optional(_INTEGER) | {"description": "null before they are counted"},
        megapixels_per_second=_optional(_NUMBER),
        eta_seconds=_optional(_NUMBER) | {"description": "null if nothing was measured yet"},
        seconds=_NUMBER | {"description": "Since the network began"},
        error=_optional(_TEXT),
        left_out=_list(_TEXT) | {"description": "Names of what the result does not hold"},
        notes=_list(_TEXT) | {"description": "Lines that the user should know"},
        result=_optional(
            _object(name=_TEXT, bytes=_INTEGER, media_type=_TEXT, width=_INTEGER, height=_INTEGER)
        ),
    ),
}
