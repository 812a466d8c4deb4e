"""What a configuration describes: its network, its degradation, its scale."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lcdnet_jax import degradations, networks
from lcdnet_jax.config.schema import ConfigError


def network(config: ConfigDict) -> nn.Module:
    """The network that a configuration describes; ValueError if there is none such."""
    try:
        return networks.create(
            config.network.name,
            channels=config.data.channels,
            dtype=jnp.dtype(config.network.dtype),
            **config.network.kwargs,
        )
    except TypeError as error:  # for a value of a kind that the network does not look for
        kwargs = config.network.kwargs.to_dict()
        raise ConfigError(f"{config.network.name} with {kwargs}: {error}") from error


def degradation(config: ConfigDict) -> degradations.Step | None:
    """How clean images are degraded; None where that is noise, or comes from disk."""
    kind = config.degradation.kind
    if kind in ("awgn", "none"):
        return None
    return degradations.from_kind(kind, config.degradation.options.to_dict())


def scale(config: ConfigDict) -> int:
    """How many times larger a side of a clean image is than what super-resolution starts from.

    That of the degradation "low_resolution", also where its images are enlarged again; without it
    the factor of the network, 1 for most.
    """
    if "low_resolution" in config.degradation.kind.split("+"):
        return int(config.degradation.options.low_resolution.scale)
    return int(network(config).scale)


def check_kernels(config: ConfigDict) -> None:
    """Reads the folder of kernels, where the degradation has one, and tries them on a crop.

    :func:`lcdnet_jax.config.validate` reads no files: configurations are also made where there
    are none.

    Raises:
        ConfigError: Where they cannot be read, do not fit into the crop, or into the codes of IKC.
    """
    low = config.degradation.options.to_dict().get("low_resolution")
    if config.degradation.kind == "none" or not isinstance(low, Mapping):
        return
    if not isinstance(low.get("pool"), str):
        return
    degrade, crop = degradation(config), config.data.crop
    assert degrade is not None
    image = jax.ShapeDtypeStruct((1, crop, crop, config.data.channels), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    try:
        kernels = degradations.read_kernels(low["pool"])
        jax.eval_shape(degrade, keys, image)
    except ValueError as error:
        raise ConfigError(f"config.degradation.options.low_resolution.pool: {error}") from error
    if config.network.name == "ikc":
        problems = kernel_size_problems(config, kernels.shape[-1])
        if problems:
            raise ConfigError(problems[0])


def kernel_size_problems(config: ConfigDict, size: int) -> list[str]:
    """What is wrong where images are blurred by kernels of this size for the network "ikc"."""
    expected = network(config).kernel_size
    if size == expected:
        return []
    return [
        f"config.degradation.options.low_resolution gives kernels of {size}x{size} pixels, but "
        f"config.network.name 'ikc' encodes those of {expected}x{expected}; set its size, or "
        "config.network.kwargs.kernel_size"
    ]
