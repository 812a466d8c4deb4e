"""Options of a restorer: checks of their values."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from lcdnet_jax import networks, value_rules
from lcdnet_jax.messages import format_count
from lcdnet_jax.typing import Variables

_FLAGS = ("tile", "overlap", "tile_batch", "strength", "local_pool", "dtype")


class OptionError(ValueError):
    """An option of a restorer has a wrong value."""

    def with_flags(self, separator: str) -> ValueError:
        """Makes the error of a program that has a flag for each option.

        Args:
            separator: What the flags have between words: "-" for ``--tile-batch``, or "_".

        Returns:
            An error whose message names flags instead of arguments of Python.
        """

        def name_flag(match: re.Match[str]) -> str:
            return f"--{match[0].replace('_', separator)}"

        return ValueError(re.sub(rf"\b({'|'.join(_FLAGS)})\b", name_flag, str(self)))


def check_integer(name: str, value: Any, least: int) -> None:
    """Raises OptionError unless an option is None or an integer of at least ``least``."""
    plain = int(value) if isinstance(value, np.integer) else value
    if value is not None and (wanted := value_rules.integer(least)(plain)):
        raise OptionError(f"{name} must be {wanted}, got {value!r}")


def check_boolean(name: str, value: Any) -> None:
    """Raises OptionError unless an option is True or False."""
    plain = bool(value) if isinstance(value, np.bool_) else value
    if wanted := value_rules.boolean(plain):
        raise OptionError(f"{name} must be {wanted}, got {value!r}")


def check_callable(name: str, value: Any) -> None:
    """Raises OptionError unless an option is None or can be called."""
    if value is not None and not callable(value):
        raise OptionError(f"{name} must be a function or None, got {value!r}")


def check_strength(strength: Any, module: networks.RestorationNetwork) -> None:
    """Raises OptionError for a strength outside of [0, 1], or that the network cannot have."""
    plain = strength.item() if isinstance(strength, np.generic) else strength
    if value_rules.number(0, high=1)(plain):
        raise OptionError(f"strength must be a number from 0 to 1, got {strength!r}")
    if plain < 1 and (module.scale > 1 or module.takes_two_views):
        reason = f"enlarges by {module.scale}" if module.scale > 1 else "takes two views"
        raise OptionError(
            f"{type(module).__name__} {reason}, so its result cannot be mixed with the image; "
            "leave strength at 1"
        )


def check_layers(module: networks.RestorationNetwork, variables: Variables) -> None:
    """Raises ValueError for weights of another scale, which Flax may accept.

    A network of scale 4 has all layers of the network of scale 2 and one more. Flax would ignore
    the additional layer.
    """
    if module.scale == 1:
        return
    expected, given = (
        {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (networks.abstract_variables(module).get("params"), variables.get("params"))
    )
    if expected != given:
        raise ValueError(
            f"the variables are of another network than this {type(module).__name__} of scale "
            f"{module.scale}, which has {format_count(len(expected), 'array')} where they have "
            f"{len(given)}; create it with the scale and the sizes that they were trained with"
        )


def configure_module(
    module: networks.RestorationNetwork, *, local_pool: int | None, dtype: DTypeLike | None
) -> networks.RestorationNetwork:
    """Changes fields of a network; raises OptionError for values or fields that it cannot have."""
    if local_pool is not None:
        if "local_pool" not in networks.field_names(module):
            raise OptionError(
                f"{type(module).__name__} has no local_pool; leave it out"
                + (
                    ", or use tile to show the network smaller windows"
                    if module.global_means
                    else ", as the network has no means over the image"
                )
            )
        module = module.clone(local_pool=local_pool)
    if dtype is not None:
        if dtype not in ("float32", "bfloat16", jnp.float32, jnp.bfloat16):
            raise OptionError(f"dtype must be float32 or bfloat16, got {dtype!r}")
        if "dtype" not in networks.field_names(module):
            raise OptionError(f"{type(module).__name__} has no dtype; leave it out")
        module = module.clone(dtype=jnp.dtype(dtype))
    return module


def find_device(device: jax.Device | str | None) -> jax.Device | None:
    """Finds a device by its name; raises ValueError if there is none."""
    if not isinstance(device, str):
        return device
    platform, colon, number = device.partition(":")
    try:
        # An index of -1 would give the last device.
        if platform and (number.isdecimal() or not colon):
            return jax.local_devices(backend=platform)[int(number or 0)]
        raise ValueError
    except (RuntimeError, ValueError, IndexError):
        found = ", ".join(f"{d.platform}:{d.id}" for d in jax.local_devices())
        raise ValueError(f"no device {device!r}; use one of {found}") from None
