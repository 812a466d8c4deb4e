"""Manifests: size and SHA-256 of every file of a directory, to detect any changed byte."""

import json
import pathlib
import stat
from collections.abc import Collection, Mapping

from lcdnet_jax import atomic_io, storage, strict_json
from lcdnet_jax.messages import format_count
from lcdnet_jax.typing import Json, JsonObject

NAME = "manifest.json"

# Relative path to {"bytes": size, "sha256": hexadecimal digest}.
Files = Mapping[str, JsonObject]


class DamageError(Exception):
    """A file is not as the manifest says; the message names the file and what is wrong."""


def write(directory: pathlib.Path, step: int) -> None:
    """Writes the manifest of all files in ``directory``, as they are on disk now."""
    files = {
        name: {"bytes": size, "sha256": storage.compute_sha256(directory / name)}
        for name, size in storage.list_files(directory).items()
    }
    atomic_io.write(directory / NAME, _render(step, files), force=False)


def read(directory: pathlib.Path, step: int) -> Files | None:
    """Reads the manifest of a checkpoint.

    Args:
        directory: Directory of the checkpoint.
        step: Expected step.

    Returns:
        Size and SHA-256 by relative path, or None without a manifest.

    Raises:
        DamageError: If the manifest itself is damaged or belongs to another step.
        OSError: If it cannot be read for other reasons.
    """
    try:
        content = strict_json.read_bytes(directory / NAME)
    except FileNotFoundError:
        return None
    except strict_json.JSONError as error:
        raise DamageError(f"{NAME}: {error}") from error
    try:
        manifest = strict_json.parse(content)
        # Every byte must match: a changed path would hide a file from verification.
        intact = content == _render(manifest["step"], manifest["files"])
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise DamageError(f"{NAME} is not what was written")
    if manifest["step"] != step:
        raise DamageError(f"{NAME} is of step {manifest['step']!r}")
    files = manifest["files"]
    if not isinstance(files, dict) or not all(map(_is_entry, files, files.values())):
        raise DamageError(f"{NAME} does not list files with sizes and SHA-256")
    return files


def _is_entry(name: str, entry: Json) -> bool:
    """Whether a hostile manifest has a file of the checkpoint here."""
    parts = name.split("/")
    return (
        not {"", ".", ".."} & set(parts)
        and len(name) < 1024
        and "\0" not in name
        and isinstance(entry, dict)
        and type(entry.get("bytes")) is int
        and isinstance(entry.get("sha256"), str)
    )


def items(files: Files) -> list[str]:
    """Names of the folders in the manifest, sorted."""
    return sorted({path.partition("/")[0] for path in files if "/" in path})


def verify(directory: pathlib.Path, files: Files, wanted: Collection[str]) -> None:
    """Compares the files of the ``wanted`` folders, and those in none, with the manifest.

    Raises:
        DamageError: For the first file that is missing or holds other bytes.
        OSError: If a file cannot be read for other reasons.
    """
    listed = storage.list_files(directory) if storage.is_bucket(directory) else None
    for name, expected in files.items():
        folder, slash, _ = name.partition("/")
        if slash and folder not in wanted:
            continue
        size = listed.get(name) if listed is not None else _read_size(directory, name)
        if size is None:
            raise DamageError(f"{name} is missing")
        if size != expected["bytes"]:
            raise DamageError(f"{name} has {format_count(size, 'byte')}, not {expected['bytes']:,}")
        if storage.compute_sha256(directory / name) != expected["sha256"]:
            raise DamageError(f"{name} holds other bytes than were saved (SHA-256 differs)")


def _read_size(directory: pathlib.Path, name: str) -> int | None:
    """The size of a local file, or None if it does not exist."""
    try:
        status = (directory / name).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        raise DamageError(f"{name} is not a file")
    return status.st_size


def _render(step: int, files: Files) -> bytes:
    content = {"step": step, "files": files}
    digest = strict_json.compute_sha256(content)
    return (json.dumps(content | {"sha256": digest}, sort_keys=True, indent=1) + "\n").encode()
