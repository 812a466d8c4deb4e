"""How training spreads over devices: the batch is split, everything else is replicated."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


@dataclass(frozen=True)
class Sharding:
    """Placement of training arrays on all devices of all hosts.

    Attributes:
        batch: Of arrays whose first axis is the global batch.
        replicated: Of the state and of metrics.
    """

    batch: NamedSharding
    replicated: NamedSharding

    @classmethod
    def over_all_devices(cls) -> "Sharding":
        """One mesh axis, "data", over every device."""
        # Host by host, so that the rows of the global batch keep their order.
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        mesh = Mesh(np.array(devices), ("data",))
        return cls(NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec()))

    def put_batch(self, local: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Global arrays from the slice of the batch that this host has read."""
        return {
            name: jax.make_array_from_process_local_data(self.batch, array)
            for name, array in local.items()
        }
