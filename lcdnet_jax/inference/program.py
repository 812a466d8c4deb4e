"""The compiled program of a network: windows of one size, on one device or on several."""

import functools
from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lcdnet_jax import networks
from lcdnet_jax.freed_memory import return_freed_memory
from lcdnet_jax.inference import limits
from lcdnet_jax.ops.rows import split_large_images
from lcdnet_jax.typing import Variables


def find_devices(device: jax.Device | None) -> tuple[jax.Device, ...]:
    """Finds the devices of a restorer.

    Args:
        device: The only device. None means all devices of this process, or JAX's default device if
            one is configured.

    Returns:
        The devices.
    """
    if device is not None:
        return (device,)
    default: jax.Device | str | None = jax.config.jax_default_device  # type: ignore[attr-defined]
    if isinstance(default, str):
        return (jax.local_devices(backend=default)[0],)
    return tuple(jax.local_devices()) if default is None else (default,)


class Program:
    """Runs a network on windows. Each number, size and type of windows is compiled once.

    A single window runs on the first device. More windows are divided evenly among all devices:
    each runs the same program on its share, and nothing is exchanged. The result of a window does
    not depend on its device.

    Args:
        module: The network.
        device: The only device. None means all devices of this process, or JAX's default device if
            one is configured.
    """

    def __init__(self, module: networks.RestorationNetwork, device: jax.Device | None):
        self._device = device

        def apply(variables: Variables, x: Array) -> Array:
            if jnp.issubdtype(x.dtype, jnp.integer):
                # A table, because XLA replaces the division by a product, which rounds differently.
                white = jnp.iinfo(x.dtype).max
                levels = np.arange(white + 1, dtype=np.float32) / np.float32(white)
                x = jnp.take(jnp.asarray(levels), x.astype(jnp.int32), mode="clip")
            if self.devices[0].platform != "cpu":
                return cast(Array, module.apply(variables, x))
            with split_large_images():
                return cast(Array, module.apply(variables, x))

        self._network = apply
        self._apply = jax.jit(apply)
        self._compiled: set[tuple[tuple[int, ...], str]] = set()

    @functools.cached_property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices, found when the first image is restored."""
        return find_devices(self._device)

    def is_compiled(self, shape: Sequence[int], dtype: np.dtype) -> bool:
        """Tells whether there is a program for windows ``[N, H, W, C]`` of a type."""
        return (tuple(shape), dtype.name) in self._compiled

    def place(self, variables: Variables) -> "PlacedVariables":
        """Makes variables for :meth:`run`. They are copied to the devices that need them."""
        return PlacedVariables(variables, self.devices)

    def run(self, variables: "PlacedVariables", windows: np.ndarray) -> Array:
        """Runs the network.

        Args:
            variables: As from :meth:`place`.
            windows: ``[N, H, W, C]`` float32, or uint8 or uint16, which the program converts to
                float32 in [0, 1]. N is 1 or a multiple of the number of devices.

        Returns:
            The results ``[N, H', W', C']``.

        Raises:
            JaxRuntimeError: With RESOURCE_EXHAUSTED if the memory is too small, on a CPU by XLA's
                plan of the compiled program.
        """
        apply, arguments = self._prepare(variables, windows)
        if not self.is_compiled(windows.shape, windows.dtype):
            compiled = apply.lower(*arguments).compile()
            return_freed_memory()
            self._check_memory(compiled, windows.shape)
            self._compiled.add((windows.shape, windows.dtype.name))
        result: Array = apply(*arguments)
        return result

    def _check_memory(self, compiled: jax.stages.Compiled, shape: tuple[int, ...]) -> None:
        """Raises the error that a device raises, where the system would end the process instead."""
        available = limits.find_available_memory()
        plan = compiled.memory_analysis()
        if self.devices[0].platform != "cpu" or available is None or plan is None:
            return
        used = 1 if shape[0] == 1 else len(self.devices)
        needed = used * (plan.temp_size_in_bytes + plan.output_size_in_bytes)
        if needed > available:
            raise jax.errors.JaxRuntimeError(
                f"RESOURCE_EXHAUSTED: windows of {shape[2]}x{shape[1]} pixels need "
                f"{needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are left; use "
                "smaller tiles, or close other programs"
            )

    def _prepare(
        self, variables: "PlacedVariables", windows: np.ndarray
    ) -> tuple[jax.stages.Wrapped, tuple[Variables, Array]]:
        """Chooses the function for a number of windows, and places its arguments."""
        if len(windows) == 1 or len(self.devices) == 1:
            placed: Array = jax.device_put(windows, self.devices[0])
            return self._apply, (variables.on_first_device, placed)
        placed = jax.device_put(windows, NamedSharding(self._mesh, PartitionSpec("windows")))
        return self._apply_on_all, (variables.on_all_devices, placed)

    @functools.cached_property
    def _mesh(self) -> Mesh:
        return _make_mesh(self.devices)

    @functools.cached_property
    def _apply_on_all(self) -> jax.stages.Wrapped:
        # Not a plain jit on sharded arrays: its partitioner would make the devices exchange parts
        # of windows in some layers.
        share = PartitionSpec("windows")
        return jax.jit(
            jax.shard_map(
                self._network,
                mesh=self._mesh,
                in_specs=(PartitionSpec(), share),
                out_specs=share,
                check_vma=False,
            )
        )


class PlacedVariables:
    """Variables of a network on devices.

    Args:
        variables: The variables.
        devices: The devices of a :class:`Program`.
    """

    def __init__(self, variables: Variables, devices: Sequence[jax.Device]):
        self._variables = variables
        self._devices = devices

    @functools.cached_property
    def on_first_device(self) -> Variables:
        """A copy on the first device."""
        return jax.device_put(self._variables, self._devices[0])

    @functools.cached_property
    def on_all_devices(self) -> Variables:
        """A copy on each device."""
        everywhere = NamedSharding(_make_mesh(self._devices), PartitionSpec())
        return jax.device_put(self._variables, everywhere)


def _make_mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.asarray(devices), ("windows",))
