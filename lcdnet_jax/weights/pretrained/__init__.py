"""Weights that are installed with the library.

    Restorer.from_pretrained("sadnet-photo")
    lcdnet-jax restore photo.jpg -o restored.jpg --checkpoint sadnet-photo

Each is a safetensors file in this folder, with its card, that ``weights.load`` reads.
``SHA256SUMS`` has the checksums, for ``sha256sum --check``. docs/results/pretrained.md describes
their training and their scores. Names ``hf://ORG/NAME`` mean weights of the Hugging Face hub, which
:mod:`lcdnet_jax.weights.hub` downloads.
"""

import difflib
import hashlib
import os
import pathlib

from lcdnet_jax import storage
from lcdnet_jax.weights import hub

# The weights that `lcdnet-jax restore` uses by default.
DEFAULT = "sadnet-photo"

# What each set of weights is for, in a few words. Its card says more.
PURPOSES = {
    "sadnet-color-blind": "Gaussian noise of any level up to 55 in color images",
    "sadnet-gray-blind": "Gaussian noise of any level up to 55 in gray images",
    "sadnet-photo": "photographs from cameras: sensor noise, JPEG",
}

# Weights in the folder checkpoints/ of a clone, which are not installed.
IN_A_CLONE = ("dncnn-gray", "dncnn-gray-sfm", "lcdnet-motion", "lcdnet-rain", "sadnet-photo-polyu")

_FOLDER = pathlib.Path(__file__).parent
_SUMS = "SHA256SUMS"


class PretrainedError(ValueError):
    """Weights that are unknown, missing or damaged. The message names them and the fix."""


def names() -> tuple[str, ...]:
    """Lists the pretrained weights.

    Returns:
        Their names, in alphabetical order.
    """
    return tuple(sorted(_read_checksums()))


def path(name: str) -> pathlib.Path:
    """Finds the file of pretrained weights and verifies its checksum.

    Args:
        name: One of :func:`names`, or ``hf://ORG/NAME[@REVISION]``, see
            :func:`lcdnet_jax.weights.hub.download`.

    Returns:
        The path.

    Raises:
        PretrainedError: If no weights have that name, or the file is missing or changed.
        HubError, CardError, ImportError, OSError: For a name of the hub, as ``hub.download``.
    """
    if hub.is_name(name):
        return hub.download(name)
    sums = _read_checksums()
    if name not in sums:
        paths = "; from_checkpoint takes paths" if pathlib.Path(name).exists() else ""
        raise PretrainedError(f"no pretrained weights {name!r}; {_suggest_names(name)}{paths}")
    file = _FOLDER / f"{name}.safetensors"
    digest = hashlib.sha256(_read(file)).hexdigest()
    if digest != sums[name]:
        raise PretrainedError(
            f"{file} is not the file that was shipped (its SHA-256 is {digest}, not "
            f"{sums[name]}); install lcdnet-jax again"
        )
    return file


def is_installed(file: pathlib.Path) -> bool:
    """Tells whether a file is one of the weights that are installed with the library.

    Args:
        file: The path of the file.

    Returns:
        True for what :func:`path` returns for one of :func:`names`.
    """
    return file.parent == _FOLDER and file.stem in names()


def find(checkpoint: str | os.PathLike[str]) -> pathlib.Path:
    """Finds pretrained weights by name, and accepts any other existing path.

    A name means the weights even if a folder has that name; "./NAME" means the folder.

    Args:
        checkpoint: A name, also of the hub, or a path.

    Returns:
        The path.

    Raises:
        PretrainedError: As :func:`path`, or if it is neither a name nor an existing path.
        HubError, CardError, ImportError, OSError: As :func:`path`.
    """
    name = os.fspath(checkpoint)
    if hub.is_name(name) or name in _read_checksums():
        return path(name)
    given = storage.to_path(checkpoint)
    if storage.exists(given):
        return given
    raise PretrainedError(
        f"{name} does not exist; give a working directory of train.py, what lcdnet-jax convert or "
        f"export wrote, hf://ORG/NAME, or a name of pretrained weights: {_suggest_names(name)}"
    )


def _suggest_names(name: str) -> str:
    """Names to use instead of a wrong one."""
    known = names()
    typed = pathlib.PurePath(name).name.removesuffix(".safetensors").lower()
    shown = f"there are {', '.join(known)}"
    if typed in IN_A_CLONE:
        return f"{shown}; {typed} is in a clone of the repository: checkpoints/{typed}.safetensors"
    close = difflib.get_close_matches(typed, known, n=1, cutoff=0.7)
    return shown + (f"; did you mean {close[0]}?" if close else "")


def _read_checksums() -> dict[str, str]:
    """SHA-256 by name."""
    lines = _read(_FOLDER / _SUMS).decode().splitlines()
    pairs = (line.split(maxsplit=1) for line in lines)
    return {file.lstrip("*").removesuffix(".safetensors"): digest for digest, file in pairs}


def _read(file: pathlib.Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise PretrainedError(
            f"cannot read {file} ({error.strerror}), which is installed with the library, as files "
            "and not in an archive; install lcdnet-jax again"
        ) from None
