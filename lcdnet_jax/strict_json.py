"""Strict JSON: files of unknown origin give values that are safe to use, or one error.

Python's ``json`` accepts NaN, repeated names, numbers of any size, and halves of surrogate pairs,
which no file and no terminal can hold. It raises RecursionError for deep nesting.
"""

import hashlib
import json
import math
import os
import stat
from collections.abc import Sequence
from typing import NoReturn

from lcdnet_jax import storage
from lcdnet_jax.typing import Json, JsonObject

# Limits of a value: levels of nesting, and bytes of a file.
MAX_DEPTH = 64
MAX_BYTES = 16 * 2**20


class JSONError(ValueError):
    """The text is not JSON, or holds a value that this library never writes."""


def parse(text: str | bytes) -> Json:
    """Parses JSON.

    Args:
        text: The text, at most :data:`MAX_BYTES` long; bytes are UTF-8.

    Returns:
        The value. Its numbers are finite and its integers fit into 64 bits. Its texts can be
        encoded with ``surrogateescape``, as names of files are in Python.

    Raises:
        JSONError: For text that is not JSON or exceeds a limit, and for a repeated name, NaN,
            infinity, a larger integer or half of a surrogate pair. The message is one line.
    """
    if len(text) > MAX_BYTES:
        raise JSONError(f"it is larger than {MAX_BYTES // 2**20} MiB")
    try:
        value = json.loads(
            text.decode() if isinstance(text, bytes) else text,
            object_pairs_hook=_make_object,
            parse_constant=_refuse_constant,
            parse_int=_parse_integer,
        )
    except JSONError:
        raise
    except RecursionError:
        raise JSONError(f"it is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise JSONError(" ".join(str(error).split())) from None
    _check(value, 0)
    return value


def read(path: str | os.PathLike[str]) -> Json:
    """Reads a JSON file.

    Args:
        path: The file.

    Returns:
        Its value, as from :func:`parse`.

    Raises:
        JSONError: As :func:`parse`, and for a path that is not a regular file.
        OSError: If the file cannot be opened or read.
    """
    return parse(read_bytes(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Reads the bytes of a JSON file, at most one more than :data:`MAX_BYTES`.

    Args:
        path: The file.

    Returns:
        The bytes, for :func:`parse`.

    Raises:
        JSONError: For a path that is not a regular file, such as a pipe or a device without an end.
        OSError: If the file cannot be opened or read.
    """
    path = storage.to_path(path)
    if storage.is_bucket(path):
        return storage.read_bytes(path, most=MAX_BYTES + 1)
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe waits for a writer
        raise JSONError("it is not a regular file")
    with open(path, "rb") as file:  # raises OSError for a directory
        return file.read(MAX_BYTES + 1)


def compute_sha256(value: Json) -> str:
    """Computes the checksum of a value.

    Args:
        value: A value that JSON holds.

    Returns:
        The SHA-256 of its JSON with sorted names, as hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _make_object(pairs: Sequence[tuple[str, Json]]) -> JsonObject:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise JSONError(f"the name {twice[:40]!r} occurs twice")
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise JSONError(f"it holds {name}, which is not a JSON number")


def _parse_integer(text: str) -> int:
    # Python's own limit, 4300 digits, may be switched off.
    value = int(text) if len(text) <= 20 else 2**64
    if not -(2**63) <= value < 2**63:
        raise JSONError(f"the integer {text[:20]}... does not fit into 64 bits")
    return value


def _check(value: Json, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise JSONError(f"it is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check(name, depth)
            _check(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):  # such as 1e999
            raise JSONError("it holds a number beyond the range of floats")
    elif isinstance(value, str):
        try:
            value.encode(errors="surrogateescape")  # names of files may hold any bytes
        except UnicodeEncodeError:
            raise JSONError("a text in it holds half of a surrogate pair") from None
