"""Paths that users give: files on this machine, and objects in buckets.

A path in a bucket is a URL: ``gs://bucket/name`` (Google Cloud Storage, tested), ``s3://`` or
``az://``. :func:`to_path` makes a path object of it by ``etils.epath``. The functions take both
kinds of paths; those that write are for buckets only, except ``make_folder`` and ``remove_file``.
"""

from lcdnet_jax.storage.buckets import StorageError, UnreachableError, is_down
from lcdnet_jax.storage.listing import list_files, list_once, walk
from lcdnet_jax.storage.paths import (
    Path,
    is_bucket,
    is_same_file,
    make_absolute,
    names_bucket,
    resolve,
    to_path,
)
from lcdnet_jax.storage.questions import (
    check_bucket,
    exists,
    find_size,
    is_dir,
    is_file,
    lexists,
    read_permissions,
)
from lcdnet_jax.storage.reading import (
    compute_sha256,
    download_file,
    local_file,
    open_file,
    read_bytes,
    read_parts,
)
from lcdnet_jax.storage.writing import (
    copy,
    make_folder,
    remove,
    remove_file,
    upload,
    upload_file,
    write,
)

__all__ = [
    "Path",
    "StorageError",
    "UnreachableError",
    "check_bucket",
    "compute_sha256",
    "copy",
    "download_file",
    "exists",
    "find_size",
    "is_bucket",
    "is_dir",
    "is_down",
    "is_file",
    "is_same_file",
    "lexists",
    "list_files",
    "list_once",
    "local_file",
    "make_absolute",
    "make_folder",
    "names_bucket",
    "open_file",
    "read_bytes",
    "read_parts",
    "read_permissions",
    "remove",
    "remove_file",
    "resolve",
    "to_path",
    "upload",
    "upload_file",
    "walk",
    "write",
]
