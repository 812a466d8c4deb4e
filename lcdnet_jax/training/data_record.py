"""The record of the training images of a run: data.json in its working directory.

A batch is a pure function of (seed, step) and of the training images, so a run continues exactly
only with the same images. The record holds what the headers say about each, not where they are.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from lcdnet_jax import atomic_io, strict_json
from lcdnet_jax import config as config_lib
from lcdnet_jax.messages import join_some

NAME = "data.json"

# Number of images of each kind that a message lists.
_SHOWN = 5


@runtime_checkable
class ListsImages(Protocol):
    """Training data that lists its images. Other data is not compared when a run continues."""

    def list_images(self) -> Mapping[str, str]:
        """Describes each image, such as its size in pixels and bytes, by its name."""


def compute_fingerprint(data: object) -> str:
    """Computes the SHA-256 of the list of images, which all hosts of a run must share.

    Args:
        data: Training data.

    Returns:
        Hexadecimal digits. The same for all data that does not list its images.
    """
    images = dict(data.list_images()) if isinstance(data, ListsImages) else {}
    return strict_json.compute_sha256(images)


def check(workdir: pathlib.Path, data: object) -> str | None:
    """Compares training images with the record of a run.

    Args:
        workdir: Working directory of the run.
        data: Training data of the command.

    Returns:
        None if the images are the same or the data does not list them; else why they could not be
        compared, a line for the log.

    Raises:
        ConfigError: If the images differ.
    """
    if not isinstance(data, ListsImages):
        return None
    path = workdir / NAME
    try:
        stored = _read(path)
    except FileNotFoundError:
        return f"{path} is missing, so the training images cannot be compared with those before"
    except (OSError, ValueError, RecursionError) as error:
        return f"{path} is damaged, so the training images cannot be compared ({error})"
    given = dict(data.list_images())
    if stored == given:
        return None
    lines = [
        *_list("added", sorted(given.keys() - stored.keys())),
        *_list("missing", sorted(stored.keys() - given.keys())),
        *_list(
            "changed",
            [
                f"{name} ({stored[name]} before, {given[name]} now)"
                for name in sorted(stored.keys() & given.keys())
                if stored[name] != given[name]
            ],
        ),
    ]
    raise config_lib.ConfigError(
        f"the training images are not those of the run in {workdir}:\n  "
        + "\n  ".join(lines)
        + "\nGive the images of the run (config.data.train), or accept these with "
        "--accept_changed_data; the following steps then differ."
    )


def write(workdir: pathlib.Path, data: object) -> None:
    """Writes the record, all or nothing.

    Args:
        workdir: Working directory of the run.
        data: Training data. Nothing is written for data that does not list its images.

    Raises:
        OSError: If it cannot be written.
    """
    if not isinstance(data, ListsImages):
        return
    images = dict(data.list_images())
    content = {"images": images, "sha256": compute_fingerprint(data)}
    text = json.dumps(content, indent=0, sort_keys=True) + "\n"
    atomic_io.write(workdir / NAME, text.encode(), force=True)


def _read(path: pathlib.Path) -> dict[str, str]:
    stored = json.loads(path.read_bytes())
    try:
        images, digest = stored["images"], stored["sha256"]
    except (TypeError, KeyError):
        raise ValueError("it contains no images") from None
    if strict_json.compute_sha256(images) != digest:
        raise ValueError("its SHA-256 differs")
    return dict(images)


def _list(kind: str, names: list[str]) -> list[str]:
    """A line for images of a kind, if there are any."""
    return [f"{kind}: {join_some(names, _SHOWN)}"] if names else []
