"""A network with its weights and their card."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from lcdnet_jax import config as config_lib
from lcdnet_jax import convert, networks
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.typing import Fields, PyTree, Variables
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights.card import Card


@dataclass(frozen=True)
class Weights:
    """A network with its weights.

    Attributes:
        module: The network.
        variables: Its variables, float32: "params", and "batch_stats" where the network has any.
        card: The description of the weights.
        is_workdir: Whether they were loaded from the working directory of a training. Its card
            holds the whole configuration of the training, with the paths of the data.
    """

    module: RestorationNetwork
    variables: dict[str, PyTree]
    card: Card
    is_workdir: bool = False

    def __iter__(self) -> Iterator[PyTree]:
        """Yields the network, its variables and the card, so that callers can unpack them."""
        return iter((self.module, self.variables, self.card))


def create_weights(name: str, variables: Variables, **network_kwargs: Any) -> Weights:
    """Adds a network and a card to variables, to save them.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        variables: The variables, as the network's ``init`` returns them.
        **network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Returns:
        The network, the variables, and a card without a training (step 0).

    Raises:
        ValueError: If the variables do not fit the network.
    """
    module = create_network(name, network_kwargs)
    convert.check_variables(name, variables, network_kwargs)
    card = card_lib.create(name, module, variables["params"])
    return Weights(module, dict(variables), card)


def create_network(name: str, kwargs: Fields) -> RestorationNetwork:
    """Creates a network. Raises ValueError if a configuration could not describe it."""
    try:
        module = networks.create(name, **kwargs)
        dtype = jnp.dtype(module.dtype).name
    except TypeError as error:  # a value of a type that the network does not check
        raise ValueError(f"{name} with {dict(kwargs)}: {error}") from error
    for field, value in (("data.channels", module.channels), ("network.dtype", dtype)):
        if wanted := config_lib.FIELDS[field].rule(value):
            raise ValueError(f"{field.rpartition('.')[2]} must be {wanted}, got {value!r}")
    return module


def get_network_arguments(card: Card) -> Fields:
    """Arguments of ``networks.create`` for the network of a card."""
    dtype = jnp.dtype(card["dtype"])
    return {**card_lib.network_fields(card), "channels": card["channels"], "dtype": dtype}
