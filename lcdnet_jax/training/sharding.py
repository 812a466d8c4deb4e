"""How a training is spread over devices: strategies, and the placement of arrays.

Under either strategy each device works on its part of the global batch. With "jit" arrays are
global and the compiler puts the reductions in; with "pmap" the step is written for one device's
part and averages by itself. One step gives the same numbers, so a run may go on with another
strategy or on another number of devices.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from lcdnet_jax.config import ConfigError

Tree = Any

_BATCH = PartitionSpec(("data", "state"))

# Smaller arrays are not divided: gathering them costs more than holding them.
_WORTH_DIVIDING = 1024


@dataclass(frozen=True)
class Parallel:
    """Devices and what lies where on them.

    Attributes:
        strategy: "jit" or "pmap".
        mesh: All devices, host by host; axes "data" and "state". The batch is divided among all
            of them; arrays of the state among those of an axis "state", if it is longer than 1.
    """

    strategy: str
    mesh: Mesh

    @classmethod
    def over(cls, config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> "Parallel":
        """As ``config.parallel`` says, over ``devices`` (all of all hosts unless given).

        Raises:
            ConfigError: If the devices cannot share the batch or the state evenly.
        """
        # Host by host, so that the rows of the global batch keep their order.
        devices = sorted(
            jax.devices() if devices is None else devices,
            key=lambda device: (device.process_index, device.id),
        )
        shards = config.parallel.state_shards
        if len(devices) % shards:
            raise ConfigError(
                f"config.parallel.state_shards {shards} does not divide the {len(devices)} "
                "devices; use a divisor of their number"
            )
        if (config.batch_size // config.accumulate) % len(devices):
            raise ConfigError(
                f"config.batch_size / config.accumulate ({config.batch_size} / "
                f"{config.accumulate}) is not divisible by the {len(devices)} devices; use a "
                f"multiple of {len(devices) * config.accumulate} as batch_size, or fewer devices "
                "(CUDA_VISIBLE_DEVICES)"
            )
        mesh = Mesh(np.array(devices).reshape(-1, shards), ("data", "state"))
        return cls(config.parallel.strategy, mesh)

    @property
    def axis_name(self) -> str | None:
        """What the step averages over by itself; None where the compiler does that."""
        return "data" if self.strategy == "pmap" else None

    @property
    def device_count(self) -> int:
        """Number of devices of all hosts."""
        return self.mesh.size

    @property
    def replicated(self) -> NamedSharding:
        """Placement of an array that every device has."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def divides_state(self) -> bool:
        """Whether no device has all of the state."""
        return self.mesh.shape["state"] > 1

    def of_state(self, state: Tree) -> Tree:
        """Placement of the arrays of a state: their longest axis that divides, if any does."""

        def place(x: Any) -> NamedSharding:
            shards = self.mesh.shape["state"]
            fitting = [axis for axis, size in enumerate(x.shape) if size % shards == 0]
            if shards == 1 or x.size < _WORTH_DIVIDING or not fitting:
                return self.replicated
            longest = max(fitting, key=lambda axis: x.shape[axis])
            return NamedSharding(self.mesh, PartitionSpec(*[None] * longest, "state"))

        return jax.tree.map(place, state)

    def put_batches(self, local: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
        """What one call of the program takes, from this host's slices of its batches."""
        stacked = len(local) > 1

        def put(*arrays: np.ndarray) -> Any:
            if self.strategy == "pmap":
                devices = self.mesh.local_mesh.size
                parts = [x.reshape(devices, -1, *x.shape[1:]) for x in arrays]
                return np.stack(parts, axis=1) if stacked else parts[0]
            spec = PartitionSpec(None, *_BATCH) if stacked else _BATCH
            array = np.stack(arrays) if stacked else arrays[0]
            return jax.make_array_from_process_local_data(NamedSharding(self.mesh, spec), array)

        return {name: put(*(batch[name] for batch in local)) for name in local[0]}

    def put_everywhere(self, tree: Tree) -> Tree:
        """Host arrays, the same on each host, onto every device."""
        if self.strategy == "pmap":
            return jax.device_put(tree, self._as_pmap_returns)
        return jax.tree.map(
            lambda x: jax.make_array_from_callback(x.shape, self.replicated, lambda part: x[part]),
            tree,
        )

    def spread_batch(self, batch: Tree) -> Tree:
        """Tells the compiler that a batch made on the devices is divided among them."""
        if self.strategy == "pmap":
            return batch
        return jax.lax.with_sharding_constraint(batch, NamedSharding(self.mesh, _BATCH))

    def compile(self, program: Callable[..., Any], state: Tree, *, shared: bool) -> Any:
        """Compiles ``(state, input) -> (state, metrics)``, which uses up the state.

        Args:
            program: For the global batch ("jit") or one device's part ("pmap").
            state: The state or its shapes.
            shared: Whether each device gets the whole input (instead of its part of batches).
        """
        if self.strategy == "pmap":
            # One argument must be divided: here the numbers of the devices, which nobody reads.
            mapped = jax.pmap(
                lambda state, given, number: program(state, given),
                axis_name="data",
                in_axes=(None, None if shared else 0, 0),
                out_axes=None,
                devices=self.mesh.devices.flatten().tolist(),
                donate_argnums=0,
            )
            numbers = np.arange(self.mesh.local_mesh.size)
            return functools.partial(_with_numbers, mapped, numbers)
        out_shardings = (self.of_state(state), self.replicated)
        return jax.jit(program, out_shardings=out_shardings, donate_argnums=0)

    def gathered(self, tree: Tree) -> Tree:
        """Inside the program: all of a divided state's arrays, on each device."""
        # Without it the compiler might divide convolutions by channels.
        return (
            jax.lax.with_sharding_constraint(tree, self.replicated) if self.divides_state else tree
        )

    def divided(self, tree: Tree) -> Tree:
        """Inside the program: each device's share of a state's arrays."""
        if not self.divides_state:
            return tree
        return jax.lax.with_sharding_constraint(tree, self.of_state(tree))

    def whole(self, tree: Tree) -> Tree:
        """The arrays of a state on the host; all hosts must call it."""
        if self.divides_state:
            tree = jax.device_put(tree, self.replicated)
        return jax.device_get(tree)

    def to_train(self, tree: Tree) -> Tree:
        """The arrays of a state as the compiled program gives them back; else it compiles twice."""
        return self._rewrapped(tree, self._as_pmap_returns) if self.strategy == "pmap" else tree

    def to_save(self, tree: Tree) -> Tree:
        """The arrays of a state as arrays over all hosts, of which each saves its share."""
        return self._rewrapped(tree, self.replicated) if self.strategy == "pmap" else tree

    @property
    def _as_pmap_returns(self) -> NamedSharding:
        """Placement of what is the same on all devices of this host, which is all pmap knows of."""
        devices = self.mesh.local_mesh.devices.flatten()
        return NamedSharding(Mesh(devices, ("data",)), PartitionSpec())

    def _rewrapped(self, tree: Tree, sharding: NamedSharding) -> Tree:
        """The same copies on this host's devices, under another name."""
        return jax.tree.map(
            lambda x: jax.make_array_from_single_device_arrays(
                x.shape, sharding, [shard.data for shard in x.addressable_shards]
            ),
            tree,
        )


def _with_numbers(mapped: Any, numbers: np.ndarray, state: Tree, given: Any) -> Any:
    return mapped(state, given, numbers)
