"""State dicts of NumPy arrays from Flax variables, and back."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from lcdnet_jax import networks
from lcdnet_jax.convert.layouts import (
    ALWAYS_DEAD,
    LAYOUTS,
    Layout,
    is_stacked,
    torch_axes,
    torch_keys,
)
from lcdnet_jax.convert.state_dict_file import open_state_dict
from lcdnet_jax.convert.variables import CHECK_FIELDS, check_arrays, list_leaves, raise_mismatch
from lcdnet_jax.messages import join_some
from lcdnet_jax.networks.costs import COSTS
from lcdnet_jax.typing import Fields, PyTree, Variables


def from_torch(
    name: str, state_dict: Mapping[str, np.ndarray], **network_kwargs: Any
) -> dict[str, PyTree]:
    """Converts a PyTorch state dict into Flax variables.

    Keys that official checkpoints hold but never use are dropped with a warning.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        state_dict: Arrays by PyTorch name; a leading ``module.`` is accepted. Names are those of
            the official code, or of :func:`to_torch` for a network without official code. It may be
            an entry of a dict, as for :func:`read_state_dict`.
        **network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Returns:
        Flax variables, float32: ``{"params": ...}``, and "batch_stats" if the network has any.

    Raises:
        ValueError: If a key is missing, unknown or of another shape. The message lists all of them,
            and names the presets of the network that fit. Also if there is no state dict, as in a
            checkpoint that holds only the state of an optimizer, or if weights are not finite.
    """
    variables, dropped = convert_state_dict(name, state_dict, network_kwargs)
    if dropped:
        logging.warning("from_torch(%r): dropped unused keys: %s", name, ", ".join(dropped))
    return variables


def convert_state_dict(
    name: str, state_dict: Mapping[str, np.ndarray], network_kwargs: Fields
) -> tuple[dict[str, PyTree], list[str]]:
    """Converts as :func:`from_torch`, and returns the unused keys instead of logging them.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        state_dict: Arrays by PyTorch name.
        network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Returns:
        Flax variables, and the sorted keys that the network does not use.

    Raises:
        ValueError: As :func:`from_torch`.
    """
    opened = open_state_dict(state_dict, "the argument", lambda value: hasattr(value, "shape"))
    layout = LAYOUTS.get(name, Layout())
    wanted = list_leaves(networks.create(name, **network_kwargs), count=len(opened))
    given = {key.removeprefix("module."): np.asarray(v) for key, v in opened.items()}
    shapes = {key: value.shape for key, value in given.items()}

    used: dict[str, np.ndarray] = {}
    found, missing, misshaped = {}, [], []
    for path, leaf in wanted.items():
        keys = torch_keys(path, leaf.shape, layout)
        if layout.former and not given.keys() & set(keys):
            former = dataclasses.replace(layout, rename=layout.former)
            former_keys = torch_keys(path, leaf.shape, former)
            keys = former_keys if given.keys() & set(former_keys) else keys
        blocks = []
        for key in keys:
            if key not in given:
                missing.append(key)
                continue
            shape = leaf.shape[1:] if is_stacked(path, layout) else leaf.shape
            axes, expected = torch_axes(path, shape, layout)
            value = used[key] = given.pop(key)
            if value.shape != expected:
                misshaped.append(f"{key} gives {value.shape}, the network needs {expected}")
                continue
            blocks.append(value.transpose(np.argsort(axes)).reshape(shape))
        if len(blocks) == len(keys):
            found[path] = np.stack(blocks) if is_stacked(path, layout) else blocks[0]

    dead = sorted(k for k in given if re.fullmatch(f"{ALWAYS_DEAD}|{layout.dead}", k))
    extra = sorted(set(given) - set(dead))
    if missing or extra or misshaped:
        title = f"these are not the weights of {name} with {dict(network_kwargs)}"
        fitting = _fitting_presets(name, shapes, network_kwargs)
        fix = "They fit " + " or ".join(f"preset={preset!r}" for preset in fitting) + "; give it."
        raise_mismatch(title, missing, extra, misshaped, fix if fitting else CHECK_FIELDS)
    _check_values(used)
    variables = {path: jnp.asarray(array, jnp.float32) for path, array in found.items()}
    return unflatten_dict(variables), dead


def _check_values(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError for arrays that are not real numbers, or that hold NaN or infinity."""
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    strange = [
        f"{key} ({array.dtype})"
        for key, array in arrays.items()
        if not any(jnp.issubdtype(array.dtype, kind) for kind in kinds)
    ]
    if strange:
        raise ValueError(
            f"weights are real numbers, but these are not: {join_some(strange, 3)}; give the state "
            "dict of the network"
        )
    with np.errstate(over="ignore"):  # too large for float32 is infinite
        bad = [
            key
            for key, array in arrays.items()
            if not np.isfinite(array.astype(np.float32, copy=False)).all()
        ]
    if bad:
        raise ValueError(
            f"these weights hold NaN or infinite numbers: {join_some(bad, 3)}; give an earlier "
            "checkpoint of the training"
        )


def _fitting_presets(
    name: str, shapes: Mapping[str, tuple[int, ...]], network_kwargs: Fields
) -> list[str]:
    """Presets of a network whose PyTorch arrays have these names and shapes."""
    layout = LAYOUTS.get(name, Layout())
    size = sum(math.prod(shape) for shape in shapes.values())
    fitting = []
    for preset, fields in networks.get(name).PRESETS.items():
        parameters, _ = COSTS.get(name, {}).get(preset, (size, 0))
        if not 0.98 < size / parameters < 1.02:  # as shapes take seconds to compute
            continue
        channels = {k: v for k, v in network_kwargs.items() if k == "channels" and k not in fields}
        expected = {}
        for path, leaf in list_leaves(networks.create(name, preset=preset, **channels)).items():
            shape = leaf.shape[1:] if is_stacked(path, layout) else leaf.shape
            for key in torch_keys(path, leaf.shape, layout):
                expected[key] = torch_axes(path, shape, layout)[1]
        dead = f"{ALWAYS_DEAD}|{layout.dead}"
        if expected == {k: v for k, v in shapes.items() if not re.fullmatch(dead, k)}:
            fitting.append(preset)
    return fitting


def to_torch(name: str, variables: Variables, **network_kwargs: Any) -> dict[str, np.ndarray]:
    """Converts Flax variables into a PyTorch state dict, the inverse of :func:`from_torch`.

    Keys that official files hold but never use are left out. These are ``num_batches_tracked``,
    which ``load_state_dict`` does not need, and the ``bn1`` layers of N3Net, for which its official
    class needs ``strict=False``.

    Args:
        name: Network name, as for :func:`lcdnet_jax.networks.create`.
        variables: Flax variables, from the network's ``init`` or from a checkpoint.
        **network_kwargs: Arguments of :func:`lcdnet_jax.networks.create`.

    Returns:
        Float32 arrays in PyTorch's layout by PyTorch name: the names of the official code, or those
        of the rules of :mod:`lcdnet_jax.convert`.

    Raises:
        ValueError: If a variable is missing, unknown or of another shape. The message lists all of
            them.
    """
    given = flatten_dict(dict(variables))
    check_arrays(name, given, network_kwargs)
    layout = LAYOUTS.get(name, Layout())
    wanted = list_leaves(networks.create(name, **network_kwargs), count=len(given))
    state_dict = {}
    for path in wanted:
        whole = np.asarray(given[path], np.float32)
        blocks = whole if is_stacked(path, layout) else [whole]
        for key, block in zip(torch_keys(path, whole.shape, layout), blocks, strict=True):
            axes, shape = torch_axes(path, block.shape, layout)
            padded = (1,) * (len(axes) - block.ndim) + block.shape
            turned = block.reshape(padded).transpose(axes)
            # Copied, because PyTorch tensors must be writable.
            state_dict[key] = np.array(turned, order="C").reshape(shape)
    return state_dict
