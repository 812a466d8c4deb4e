"""PyTorch state dicts, which have no card. Names are those of :mod:`lcdnet_jax.convert`."""

import io
import pathlib
from collections.abc import Mapping

import numpy as np

from lcdnet_jax import convert, storage
from lcdnet_jax.typing import Fields, Variables
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights.card import Card
from lcdnet_jax.weights.network import Weights, create_network, get_network_arguments

SUFFIXES = (".pth", ".pt")


def load(
    path: pathlib.Path,
    state_dict: Mapping[str, np.ndarray],
    network: str | None,
    network_kwargs: Fields | None,
) -> Weights:
    """Converts the state dict of a file to weights, see :func:`lcdnet_jax.weights.load`."""
    if network is None:
        raise ValueError(
            f"{path} does not name the network of its weights; give network='NAME', or make a "
            f"checkpoint of it: lcdnet-jax convert NAME {path} -o DIR"
        )
    kwargs = dict(network_kwargs or {})
    module = create_network(network, kwargs)
    variables, dropped = convert.convert_state_dict(network, state_dict, kwargs)
    origin = [{"file": path.name, "sha256": storage.compute_sha256(path)}]
    card = card_lib.create(network, module, variables["params"], origin=origin, dropped=dropped)
    return Weights(module, variables, card)


def encode(variables: Variables, card: Card) -> bytes:
    """The content of a file, float32, which ``torch.load`` reads with ``weights_only=True``."""
    torch = convert.import_torch("writing")
    state_dict = convert.to_torch(card["network"], variables, **get_network_arguments(card))
    written = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in state_dict.items()}, written)
    return written.getvalue()
