"""Sharding of a training run over devices by the strategies "jit" and "pmap".

Under both strategies each device works on its part of the global batch. With "jit" arrays are
global and the compiler inserts the reductions. With "pmap" the step is written for one device's
part and averages explicitly. One step gives the same numbers, so a run may continue with the other
strategy or on another number of devices.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from lcdnet_jax.config import ConfigError, list_stages
from lcdnet_jax.typing import PyTree

_BATCH = PartitionSpec(("data", "state"))

# Smaller arrays are not sharded: gathering them costs more than holding them.
_MIN_SHARDED_SIZE = 1024


@dataclass(frozen=True, eq=False)
class Program:
    """``(state, inputs) -> (state, metrics)`` on all devices.

    Attributes:
        wrapped: The function of JAX.
        others: Its arguments after these two.
    """

    wrapped: jax.stages.Wrapped
    others: tuple[np.ndarray, ...] = ()

    def __call__(self, state: PyTree, inputs: PyTree) -> tuple[PyTree, PyTree]:
        """Runs the program. The first call compiles it, unless that has happened."""
        result: tuple[PyTree, PyTree] = self.wrapped(state, inputs, *self.others)
        return result

    def lower(self, state: PyTree, inputs: PyTree) -> jax.stages.Lowered:
        """Lowers the program. What compiles the result compiles it for later calls, too."""
        return self.wrapped.lower(state, inputs, *self.others)


@dataclass(frozen=True)
class Partitioner:
    """The devices of a run, and the sharding of batches and state over them.

    Attributes:
        strategy: "jit" or "pmap".
        mesh: All devices, host by host, with axes "data" and "state". The batch is sharded over
            both axes. Arrays of the state are sharded over "state" if it is longer than 1.
    """

    strategy: str
    mesh: Mesh

    @classmethod
    def from_config(
        cls, config: ConfigDict, devices: Sequence[jax.Device] | None = None
    ) -> "Partitioner":
        """Makes the partitioner of ``config.parallel`` over ``devices`` (None: those of all hosts).

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
                f"config.parallel.state_shards {shards} does not divide the number of devices "
                f"({len(devices)}); use a divisor of it"
            )
        for batch_size in sorted({stage.batch_size for stage in list_stages(config)}):
            if (batch_size // config.accumulate) % len(devices):
                raise ConfigError(
                    f"config.batch_size / config.accumulate ({batch_size} / "
                    f"{config.accumulate}) is not divisible by the number of devices "
                    f"({len(devices)}); use a multiple of {len(devices) * config.accumulate} as "
                    "batch_size, or fewer devices (CUDA_VISIBLE_DEVICES)"
                )
        mesh = Mesh(np.array(devices).reshape(-1, shards), ("data", "state"))
        return cls(config.parallel.strategy, mesh)

    @property
    def axis_name(self) -> str | None:
        """The mapped axis that the step averages over, or None if the compiler does that."""
        return "data" if self.strategy == "pmap" else None

    @property
    def device_count(self) -> int:
        """Number of devices of all hosts."""
        return self.mesh.size

    @property
    def platform(self) -> str:
        """Platform of the devices, such as "cpu" or "gpu"."""
        return str(self.mesh.devices.flat[0].platform)

    @property
    def replicated(self) -> NamedSharding:
        """Sharding of an array of which every device has a copy."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def state_is_sharded(self) -> bool:
        """Whether each device has only a part of the state."""
        return self.mesh.shape["state"] > 1

    def get_state_sharding(self, state: PyTree) -> PyTree:
        """Sharding of each array of a state: along its longest axis that can be divided."""

        def get_sharding(x: jax.Array | jax.ShapeDtypeStruct) -> NamedSharding:
            shards = self.mesh.shape["state"]
            divisible = [axis for axis, size in enumerate(x.shape) if size % shards == 0]
            if shards == 1 or x.size < _MIN_SHARDED_SIZE or not divisible:
                return self.replicated
            longest = max(divisible, key=lambda axis: x.shape[axis])
            return NamedSharding(self.mesh, PartitionSpec(*[None] * longest, "state"))

        return jax.tree.map(get_sharding, state)

    def put_batches(
        self, local: Sequence[Mapping[str, np.ndarray]]
    ) -> dict[str, jax.Array | np.ndarray]:
        """Input of one call of the program, from this host's slices of the call's batches."""
        stacked = len(local) > 1

        def put(*arrays: np.ndarray) -> jax.Array | np.ndarray:
            if self.strategy == "pmap":
                devices = self.mesh.local_mesh.size
                parts = [x.reshape(devices, -1, *x.shape[1:]) for x in arrays]
                return np.stack(parts, axis=1) if stacked else parts[0]
            spec = PartitionSpec(None, *_BATCH) if stacked else _BATCH
            array = np.stack(arrays) if stacked else arrays[0]
            return jax.make_array_from_process_local_data(NamedSharding(self.mesh, spec), array)

        return {name: put(*(batch[name] for batch in local)) for name in local[0]}

    def replicate(self, tree: PyTree) -> PyTree:
        """Copies host arrays, which are the same on each host, to every device."""
        if self.strategy == "pmap":
            return jax.device_put(tree, self._pmap_sharding)
        return jax.tree.map(
            lambda x: jax.make_array_from_callback(x.shape, self.replicated, lambda part: x[part]),
            tree,
        )

    def shard_batch(self, batch: PyTree) -> PyTree:
        """Inside the program: shards a batch that was made on the devices."""
        if self.strategy == "pmap":
            return batch
        return jax.lax.with_sharding_constraint(batch, NamedSharding(self.mesh, _BATCH))

    def compile(
        self,
        program: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
        state: PyTree,
        *,
        shared: bool,
    ) -> Program:
        """Prepares ``(state, inputs) -> (state, metrics)``, which donates the state.

        Args:
            program: For the global batch ("jit") or one device's part ("pmap").
            state: The state or its shapes.
            shared: Whether each device gets the whole inputs (instead of its part of batches).
        """
        if self.strategy == "pmap":
            # pmap needs one argument that is mapped: the numbers of the devices, which are unused.
            mapped = jax.pmap(
                lambda state, inputs, number: program(state, inputs),
                axis_name="data",
                in_axes=(None, None if shared else 0, 0),
                out_axes=None,
                devices=self.mesh.devices.flatten().tolist(),
                donate_argnums=0,
            )
            numbers = np.arange(self.mesh.local_mesh.size)
            return Program(mapped, (numbers,))
        out_shardings = (self.get_state_sharding(state), self.replicated)
        return Program(jax.jit(program, out_shardings=out_shardings, donate_argnums=0))

    def gather(self, tree: PyTree) -> PyTree:
        """Inside the program: gathers the sharded arrays of a state on each device."""
        if not self.state_is_sharded:
            return tree
        # Without this the compiler might shard convolutions by channels.
        return jax.lax.with_sharding_constraint(tree, self.replicated)

    def shard_state(self, tree: PyTree) -> PyTree:
        """Inside the program: keeps each device's shard of a state's arrays."""
        if not self.state_is_sharded:
            return tree
        return jax.lax.with_sharding_constraint(tree, self.get_state_sharding(tree))

    def fetch(self, tree: PyTree) -> PyTree:
        """Copies the whole arrays of a state to the host. All hosts must call it."""
        if self.state_is_sharded:
            tree = jax.device_put(tree, self.replicated)
        return jax.device_get(tree)

    def to_program_sharding(self, tree: PyTree) -> PyTree:
        """The arrays of a state with the sharding that the program returns.

        With another sharding, the second call would compile the program again.
        """
        return self._relabel(tree, self._pmap_sharding) if self.strategy == "pmap" else tree

    def to_checkpoint_sharding(self, tree: PyTree) -> PyTree:
        """The arrays of a state as global arrays, of which each host saves its shards."""
        return self._relabel(tree, self.replicated) if self.strategy == "pmap" else tree

    @property
    def _pmap_sharding(self) -> NamedSharding:
        """Sharding of arrays that ``pmap`` replicates. It covers the devices of this host alone."""
        devices = self.mesh.local_mesh.devices.flatten()
        return NamedSharding(Mesh(devices, ("data",)), PartitionSpec())

    def _relabel(self, tree: PyTree, sharding: NamedSharding) -> PyTree:
        """The same buffers on this host's devices, under another sharding."""
        return jax.tree.map(
            lambda x: jax.make_array_from_single_device_arrays(
                x.shape, sharding, [shard.data for shard in x.addressable_shards]
            ),
            tree,
        )
