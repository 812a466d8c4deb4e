"""The record of the training images of a run: data.json in its working directory.

A batch is a pure function of (seed, step) and of the training images, so a run continues exactly
only with the same images. The record holds what the headers say about each, not where they are. If
other images were accepted, it holds both lists and the step after which each is valid.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from lcdnet_jax import atomic_io, strict_json
from lcdnet_jax import config as config_lib
from lcdnet_jax.messages import escape_line, format_count, join_some
from lcdnet_jax.typing import Json

NAME = "data.json"

# Number of images of each kind that a message lists, and that a record lists.
_SHOWN, _MOST_LISTED = 5, 20_000


class ChangedImagesError(config_lib.ConfigError):
    """The training images are not those of the run.

    Attributes:
        summary: The directory and the changes in one line, without the fix.
    """

    def __init__(self, workdir: pathlib.Path, changes: list[str]):
        first = f"the training images are not those of the run in {workdir}"
        super().__init__(
            f"{first}:\n  " + "\n  ".join(changes) + "\nGive the images of the run "
            "(config.data.train), or accept these with --accept_changed_data; the following steps "
            "then differ."
        )
        self.summary = f"{first} ({'; '.join(changes)})"


class _Record(NamedTuple):
    """Attributes: step after which it is valid, SHA-256 and, if they are not too many, the list."""

    step: int
    sha256: str
    images: dict[str, str] | None


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


def check(workdir: pathlib.Path, data: object, *, step: int | None = None) -> str | None:
    """Compares training images with the record of a run.

    Args:
        workdir: Working directory of the run.
        data: Training data of the command.
        step: Number of steps that the run has made. None compares with the newest images.

    Returns:
        None if the images are the same or the data does not list them; else why they could not be
        compared, a line for the log.

    Raises:
        ChangedImagesError: If the images differ.
    """
    if not isinstance(data, ListsImages):
        return None
    path = workdir / NAME
    try:
        valid = [record for record in _read(path) if step is None or record.step <= step]
    except FileNotFoundError:
        return f"{path} is missing, so the training images cannot be compared with those before"
    except (OSError, ValueError) as error:
        return f"{path} is damaged, so the training images cannot be compared ({error})"
    if not valid:
        return f"{path} begins after step {step}, so the training images cannot be compared"
    if valid[-1].sha256 != compute_fingerprint(data):
        raise ChangedImagesError(workdir, _list_changes(valid[-1].images, dict(data.list_images())))
    return None


def write(workdir: pathlib.Path, data: object, *, step: int) -> None:
    """Adds training images to the record, all or nothing, unless they are the last ones in it.

    Args:
        workdir: Working directory of the run.
        data: Training data. Nothing is written for data that does not list its images.
        step: Number of steps that the run has made. Later images are removed from the record.

    Raises:
        OSError: If it cannot be written.
    """
    if not isinstance(data, ListsImages):
        return
    path = workdir / NAME
    try:
        before = _read(path)
    except (OSError, ValueError):
        before = []
    records = [record for record in before if record.step <= step]
    new = _Record(step, compute_fingerprint(data), dict(data.list_images()))
    if not records or records[-1].sha256 != new.sha256:
        records.append(new if len(new.images or ()) <= _MOST_LISTED else new._replace(images=None))
    if records == before:
        return
    content: Json = {"records": [record._asdict() for record in records]}
    content["sha256"] = strict_json.compute_sha256(content["records"])
    text = json.dumps(content, indent=0, sort_keys=True) + "\n"
    atomic_io.write(path, text.encode(), force=True)


def _read(path: pathlib.Path) -> list[_Record]:
    """Reads the record. Raises OSError, or ValueError for one that was not written so."""
    stored = strict_json.read(path)
    records = stored.get("records") if isinstance(stored, dict) else None
    if not isinstance(records, list) or not all(map(_is_record, records)):
        raise ValueError("it does not list images")
    if strict_json.compute_sha256(records) != stored.get("sha256"):
        raise ValueError("its SHA-256 differs")
    return [_Record(**record) for record in records]


def _is_record(value: Json) -> bool:
    if not isinstance(value, dict) or set(value) != set(_Record._fields):
        return False
    images = value["images"]
    texts = isinstance(images, dict) and all(isinstance(text, str) for text in images.values())
    return (
        type(value["step"]) is int
        and isinstance(value["sha256"], str)
        and (images is None or texts)
    )


def _list_changes(before: Mapping[str, str] | None, now: Mapping[str, str]) -> list[str]:
    """A line for each kind of change."""
    if before is None:
        return [f"some of {format_count(len(now), 'image')}; the record has too many to list them"]
    kinds = {
        "added": [escape_line(name) for name in sorted(now.keys() - before.keys())],
        "missing": [escape_line(name) for name in sorted(before.keys() - now.keys())],
        "changed": [
            f"{escape_line(name)} ({before[name]} before, {now[name]} now)"
            for name in sorted(before.keys() & now.keys())
            if before[name] != now[name]
        ],
    }
    return [f"{kind}: {join_some(names, _SHOWN)}" for kind, names in kinds.items() if names]
