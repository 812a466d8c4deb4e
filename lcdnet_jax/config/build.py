"""Creates the network, the degradation and the evaluations of a configuration."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lcdnet_jax import degradations, networks, protocols
from lcdnet_jax.config.objectives import OBJECTIVES
from lcdnet_jax.config.schema import ConfigError
from lcdnet_jax.ops.precision import avoid_slow_type


def network(config: ConfigDict) -> networks.RestorationNetwork:
    """Creates the network that a configuration describes.

    Args:
        config: The configuration, or the part of it that describes the network.

    Returns:
        The module, without parameters.

    Raises:
        ConfigError: For a field value of an unsuitable type.
        ValueError: As :func:`lcdnet_jax.networks.create`.
    """
    try:
        return networks.create(
            config.network.name,
            channels=config.data.channels,
            dtype=jnp.dtype(config.network.dtype),
            **config.network.kwargs,
        )
    except TypeError as error:  # a value of a type that the network does not check
        kwargs = config.network.kwargs.to_dict()
        raise ConfigError(f"{config.network.name} with {kwargs}: {error}") from error


def with_compute_type(config: ConfigDict, platform: str) -> ConfigDict:
    """Copies a configuration with the type in which a run computes on a platform.

    Args:
        config: The experiment.
        platform: Platform of the devices, such as "cpu" or "gpu".

    Returns:
        A copy whose ``network.dtype`` is float32 instead of bfloat16 on a CPU, where bfloat16 is
        slower. Parameters are float32 with both, so a run may continue on other devices.
    """
    copied = config.copy_and_resolve_references()
    copied.network.dtype = avoid_slow_type(config.network.dtype, platform).name
    return copied


def create_degradation(config: ConfigDict) -> degradations.Step | None:
    """Creates the function that degrades clean images.

    Args:
        config: The configuration.

    Returns:
        A function of ``[N]`` random keys and images ``[N, H, W, C]``. None for noise, and for
        degraded images from disk.
    """
    kind = config.degradation.kind
    if kind in ("awgn", "none"):
        return None
    return degradations.from_kind(kind, config.degradation.options.to_dict())


def find_scale(config: ConfigDict) -> int:
    """Finds the factor of super-resolution.

    Args:
        config: The configuration.

    Returns:
        Side of a clean image over that of its low-resolution image, at least 1. It is the scale of
        the degradation "low_resolution", even if its images are enlarged again, or else the scale
        of the network.
    """
    if "low_resolution" in config.degradation.kind.split("+"):
        return int(config.degradation.options.low_resolution.scale)
    return int(network(config).scale)


def list_evaluations(config: ConfigDict) -> list[tuple[protocols.Protocol, float | None]]:
    """Lists what an evaluation during a training scores.

    Args:
        config: The configuration.

    Returns:
        Protocols and noise levels in 8-bit units, None without noise. An evaluation gives a row of
        scores for each.
    """
    degradation = config.degradation
    chosen = protocols.of_training(
        degradation.kind,
        protocol=degradation.protocol,
        spectrum=degradation.spectrum,
        source=config.data.eval.source,
        scale=find_scale(config),
    )
    sigmas = config.eval.sigmas if degradation.kind == "awgn" else (None,)
    return [(protocol, sigma) for protocol in chosen for sigma in sigmas]


def check_kernels(config: ConfigDict) -> None:
    """Checks the folder of kernels, if the degradation has one, against the crop.

    :func:`lcdnet_jax.config.validate` reads no files, because the files may not exist where a
    configuration is written.

    Args:
        config: The configuration.

    Raises:
        ConfigError: If the kernels cannot be read, or do not fit into the crop or a network that
            estimates them.
    """
    low = config.degradation.options.to_dict().get("low_resolution")
    if config.degradation.kind == "none" or not isinstance(low, Mapping):
        return
    if not isinstance(low.get("pool"), str):
        return
    degrade, crop = create_degradation(config), config.data.crop
    assert degrade is not None
    image = jax.ShapeDtypeStruct((1, crop, crop, config.data.channels), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    try:
        kernels = degradations.read_kernels(low["pool"])
        jax.eval_shape(degrade, keys, image)
    except ValueError as error:
        raise ConfigError(f"config.degradation.options.low_resolution.pool: {error}") from error
    if OBJECTIVES[config.objective].needs_kernels:
        problems = find_kernel_size_problems(config, kernels.shape[-1])
        if problems:
            raise ConfigError(problems[0])


def find_kernel_size_problems(config: ConfigDict, size: int) -> list[str]:
    """Finds problems of a network that estimates kernels with ``size`` x ``size`` pixels."""
    module = network(config)
    assert isinstance(module, networks.IKC)  # the only network of objectives that need kernels
    expected = module.kernel_size
    if size == expected:
        return []
    return [
        f"config.degradation.options.low_resolution gives kernels of {size}x{size} pixels, but "
        f"config.network.name {config.network.name!r} encodes {expected}x{expected}; set the size "
        "of low_resolution, or config.network.kwargs.kernel_size"
    ]
