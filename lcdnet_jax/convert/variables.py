"""Checks that variables fit a network: names and shapes."""

import functools
from collections.abc import Mapping

import numpy as np
from flax.traverse_util import flatten_dict

from lcdnet_jax import networks
from lcdnet_jax.typing import Fields, PyTree, Variables

CHECK_FIELDS = "Check the network's fields (channels, sizes, preset), or the file."


def check_variables(name: str, variables: Variables, network_kwargs: Fields) -> None:
    """Checks that the names and shapes of variables fit a network.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        variables: Nested dicts of arrays: "params", and "batch_stats" if the network has any.
        network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Raises:
        ValueError: If a variable is missing, unknown or of another shape; the message lists all of
            them. Also if the network or one of its arguments is unknown.
    """
    check_arrays(name, flatten_dict(dict(variables)), network_kwargs)


def check_arrays(
    name: str, arrays: Mapping[tuple[str, ...], PyTree], network_kwargs: Fields
) -> None:
    """Checks that variables fit a network, as :func:`check_variables`, by their paths.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        arrays: Arrays by path, such as ("params", "out", "kernel").
        network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Raises:
        ValueError: As :func:`check_variables`.
    """
    wanted = list_leaves(networks.create(name, **network_kwargs), count=len(arrays))
    misshaped = [
        f"{'/'.join(path)} is {np.shape(arrays[path])}, the network needs {leaf.shape}"
        for path, leaf in wanted.items()
        if path in arrays and np.shape(arrays[path]) != leaf.shape
    ]
    missing, unknown = (
        ["/".join(path) for path in sorted(set(one) - set(other))]
        for one, other in ((wanted, arrays), (arrays, wanted))
    )
    title = f"these are not variables of {name} with {dict(network_kwargs)}"
    raise_mismatch(title, missing, unknown, misshaped)


@functools.lru_cache(maxsize=8)  # tracing LCDNet takes seconds
def list_leaves(
    module: networks.RestorationNetwork, count: int | None = None
) -> dict[tuple[str, ...], PyTree]:
    """Lists the shape of each variable of a network by its path.

    Args:
        module: The network.
        count: Number of arrays of a file. A network with far more variables is not traced.

    Returns:
        Shapes and types by path, such as ("params", "out", "kernel").

    Raises:
        ValueError: If the network has far more variables than ``count``.
    """
    return flatten_dict(networks.abstract_variables(module, count=count))


def raise_mismatch(
    title: str,
    missing: list[str],
    unknown: list[str],
    misshaped: list[str],
    fix: str = CHECK_FIELDS,
) -> None:
    """Raises ValueError if arrays are missing, unknown or of another shape, and lists all of them.

    Args:
        title: First line of the message.
        missing: Names of missing arrays.
        unknown: Names of arrays that the network does not have.
        misshaped: Names and shapes of arrays of another shape.
        fix: Last line of the message.

    Raises:
        ValueError: If any of these lists has an entry.
    """
    problems = [
        f"{kind}: {'; '.join(keys)}"
        for kind, keys in (("missing", missing), ("unknown", unknown), ("wrong shape", misshaped))
        if keys
    ]
    if problems:
        raise ValueError("\n  ".join([title, *problems]) + f"\n{fix}")
