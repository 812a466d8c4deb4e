"""Requests to buckets by fsspec, their repetitions and their errors.

``fsspec`` and its package for the bucket read and write the objects; TensorFlow is never used for
that, although epath would prefer it. Every request that fails for a reason that may pass is
repeated, after longer and longer waits, for about half a minute. Each repetition logs a line.
"""

import contextlib
import errno
import functools
import logging as standard_logging
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from absl import logging

# What reads each kind of bucket: the package, what to give to pip, and its name for a user.
BACKENDS = {
    "gs": ("gcsfs", "lcdnet-jax[gcs]", "Google Cloud Storage"),
    "s3": ("s3fs", "s3fs", "Amazon S3"),
    "az": ("adlfs", "adlfs", "Azure Blob Storage"),
}

# Lines of gcsfs and google.auth that say nothing new: credentials are missing, an error follows.
_HIDDEN = (
    "Could not determine bucket type",
    "Authentication failed using Compute Engine authentication",
    "out of retries on exception",
    "non-retriable exception",
)
# Packages whose errors are of requests.
_REMOTE_PACKAGES = (
    *("gcsfs", "s3fs", "adlfs", "fsspec", "aiohttp", "requests", "urllib3"),
    *("google", "botocore", "azure"),
)

_RETRIED = "retrying after exception: "

_down = False  # see is_down


class StorageError(OSError):
    """A bucket cannot be used or does not answer; the message names the path, cause and fix.

    Attributes:
        strerror: The cause alone, if the bucket was asked.
    """


class UnreachableError(StorageError):
    """A bucket does not answer, even after repetitions. This says nothing about the object."""


@functools.cache
def prepare() -> None:
    """Lets epath, and Orbax by it, use fsspec for buckets, and sets up fsspec."""
    os.environ["EPATH_USE_TF"] = "false"
    import fsspec
    from etils.epath import gpath

    gpath._is_tf_installed.cache_clear()  # read the variable again
    for scheme in (*BACKENDS, "gcs"):  # epath calls it gcs
        # TensorStore and other processes write, too: a list that was kept would be out of date.
        fsspec.config.conf.setdefault(scheme, {})["use_listings_cache"] = False
    for name in ("gcsfs", "google.auth._default"):
        logger = standard_logging.getLogger(name)
        logger.addFilter(functools.partial(_show, logger.getEffectiveLevel()))
    repetitions, other = map(standard_logging.getLogger, ("gcsfs", "gcsfs.credentials"))
    other.setLevel(other.getEffectiveLevel())  # before it follows the next line
    repetitions.setLevel(standard_logging.DEBUG)


def _show(level: int, record: standard_logging.LogRecord) -> bool:
    """Whether a record of gcsfs is logged. Reports each repeated request in a line of our own."""
    text = record.getMessage()
    if _RETRIED in text:
        reason = _first_line(text.partition(_RETRIED)[2])
        logging.warning("the bucket does not answer (%s); the request is repeated", reason)
        return False
    return record.levelno >= level and not any(hidden in text for hidden in _HIDDEN)


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def get_filesystem(path: pathlib.Path) -> Any:
    """The fsspec filesystem of a path in a bucket. fsspec keeps it."""
    import fsspec

    with convert_errors(path):
        return fsspec.filesystem(os.fspath(path).partition(":")[0])


@contextlib.contextmanager
def convert_errors(path: pathlib.Path) -> Iterator[None]:
    """Converts the errors of fsspec, which are of many types, to OSErrors that name the path."""
    global _down
    try:
        yield
        _down = False
    except StorageError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
    except Exception as error:
        if not _is_remote(error):
            raise
        code, text = getattr(error, "code", None), str(error)
        if code in (401, 403) or text.startswith("Forbidden"):
            advice = (
                "ask for access to the bucket, or log in: gcloud auth application-default login"
            )
            reason = f"access is denied ({text.splitlines()[-1]})"
            kind: type[StorageError] = StorageError
        else:
            kind, _down = UnreachableError, True
            advice = "check the name and the network, then run the same command again"
            reason = f"the bucket does not answer ({_first_line(error)})"
        converted = kind(f"{path}: {reason}; {advice}")
        converted.strerror = reason
        raise converted from error


def _is_remote(error: Exception) -> bool:
    """Whether an error is of a request, not of this machine or of the code that asks."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if type(error).__module__ != "builtins":
        return type(error).__module__.partition(".")[0] in _REMOTE_PACKAGES
    # What gcsfs raises without a type of its own.
    return str(error).startswith(("Forbidden", "Bad Request"))


def is_down() -> bool:
    """Tells whether the last request to a bucket got no answer, in spite of its repetitions.

    Returns:
        True if so: what only cleans up need not wait for as many repetitions again.
    """
    return _down
