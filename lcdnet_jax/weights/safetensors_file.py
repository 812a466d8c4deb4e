"""Safetensors files: arrays named by their Flax path, and a card in the header.

An example of a name is ``params/out/kernel``. The header also has a checksum of the arrays.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from lcdnet_jax import convert, storage, strict_json
from lcdnet_jax.checkpoints import CheckpointError
from lcdnet_jax.typing import Variables
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights import pretrained
from lcdnet_jax.weights.card import Card, CardError
from lcdnet_jax.weights.network import Weights, create_network, get_network_arguments

SUFFIXES = (".safetensors",)

# One entry of the header's metadata holds everything, because the order of entries is not fixed.
_ENTRY = "lcdnet_jax"


class Header(NamedTuple):
    """The entry of this library in the header.

    Attributes:
        card: The card of the weights.
        sha256: Checksum of the arrays.
    """

    card: Card
    sha256: str


def read(path: pathlib.Path, *, arrays: bool = True) -> tuple[dict[str, np.ndarray], Header | None]:
    """Reads arrays by name (none without ``arrays``), and the header of this library or None.

    Raises:
        OSError, CheckpointError, CardError: If the file cannot be read or is damaged.
    """
    tensors = {}
    try:
        with (
            storage.local_file(path) as local,
            open(local, "rb"),
            safetensors.safe_open(local, framework="numpy") as file,
        ):
            metadata = file.metadata() or {}
            for name in file.keys() if arrays else ():
                tensors[name] = file.get_tensor(name)
    except storage.StorageError:
        raise
    except OSError as error:
        raise OSError(
            f"cannot read {path}: {error.strerror or error}; give a .safetensors file"
        ) from error
    except Exception as error:  # various types, such as for dtypes that NumPy lacks
        raise CheckpointError(
            f"{path} is not a safetensors file, or is damaged ({error}); restore it from a backup"
        ) from error
    if _ENTRY not in metadata:
        return tensors, None
    where = f"the header of {path}"
    try:
        entry = strict_json.parse(metadata[_ENTRY])
        stored, sha256 = entry["card"], str(entry["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise CardError(f"{where} is damaged; restore the file from a backup") from error
    return tensors, Header(card_lib.check(stored, where), sha256)


def load(path: pathlib.Path, tensors: Mapping[str, np.ndarray], header: Header) -> Weights:
    """Makes weights of what :func:`read` returned for ``path``.

    Raises:
        CheckpointError: If the arrays are not those that were saved, or do not fit the card.
    """
    if digest(tensors) != header.sha256:
        raise CheckpointError(
            f"{path} is damaged: its arrays are not as they were saved (SHA-256 differs); restore "
            "it from a backup"
        )
    name = header.card["network"]
    try:
        kwargs = get_network_arguments(header.card)
        module = create_network(name, kwargs)
        flat = {tuple(key.split("/")): np.asarray(v, np.float32) for key, v in tensors.items()}
        # Tracing the network takes half a second. Tests do it for the weights that are installed.
        if not pretrained.is_installed(path):
            convert.check_arrays(name, flat, kwargs)  # before names become levels of a dict
        variables = unflatten_dict(flat)
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not hold what its card says: {' '.join(str(error).split())}"
        ) from error
    return Weights(module, variables, header.card)


def encode(variables: Variables, card: Card) -> bytes:
    """The content of a file. The same weights give the same bytes."""
    flat = flatten_dict(variables, sep="/")
    tensors = {name: np.ascontiguousarray(flat[name]) for name in sorted(flat)}
    entry = json.dumps({"card": card, "sha256": digest(tensors)}, sort_keys=True)
    return safetensors.numpy.save(tensors, metadata={_ENTRY: entry})


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and bytes of arrays."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name]
        total.update(f"{name} {array.dtype} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()
