"""Memory of one device in supervised training, estimated without compiling.

    python -m benchmarks.device_memory                                   # all presets
    python -m benchmarks.device_memory sadnet:small dncnn --crop 64 --batch 4 --check

A row of the table is a network on a batch of one device, with Adam and an average of parameters
(EMA). "State" are parameters, Adam's two moments and EMA, which are known exactly. "Gradients" are
one more copy of the parameters. "Activations" are the arrays that the network's backward pass takes
from the forward pass, as JAX traces them. The compiler differs from that in two ways: it computes
some arrays again instead of keeping them, which takes less, and it needs room for intermediate
results, which takes more. ``--check`` compiles the training step on this machine and prints the
compiler's plan beside the estimate. It takes minutes for large networks. Critics, perceptual losses
and images in device memory are not counted.
"""

import argparse
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from ml_collections import ConfigDict

from configs import default
from lcdnet_jax import config as config_lib
from lcdnet_jax import networks
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.training.optimizer import make_optimizer
from lcdnet_jax.training.program import compile_program
from lcdnet_jax.training.sharding import Partitioner
from lcdnet_jax.training.state import TrainState, abstract_state

_HEAD = ("network", "crop", "batch", "dtype", "state", "gradients", "activations", "sum", "plan")

# By default XLA orders programs for CPUs by what can run at the same time, which takes three times
# the memory. For accelerators it orders them by memory.
_FRUGAL = "--xla_cpu_enable_concurrency_optimized_scheduler=false"

_RESERVED = {"ikc"}  # trained in stages by objectives of its own


class Estimate(NamedTuple):
    """Bytes on one device.

    Attributes:
        state: Parameters, moments, average, batch statistics.
        gradients: Gradients of the parameters.
        activations: Batch, and arrays that the backward pass takes from the forward pass.
    """

    state: int
    gradients: int
    activations: int

    @property
    def total(self) -> int:
        """The sum."""
        return sum(self)


def make_config(name: str, preset: str, crop: int, batch: int, dtype: str) -> ConfigDict:
    """Makes the configuration of supervised training of a network on one device.

    Args:
        name: Of the network.
        preset: Of the network, or "".
        crop: Side of the clean crops, pixels.
        batch: Number of crops.
        dtype: Compute type.
    """
    config = default.get_config()
    fields = dict(networks.get_preset(name, preset or None))
    channels = fields.pop("channels", networks.get(name).channels)
    config.network.name, config.network.kwargs = name, ConfigDict(fields)
    config.network.dtype, config.data.channels = dtype, channels
    config.data.crop, config.batch_size, config.ema_decay = crop, batch, 0.999
    return config


def estimate(config: ConfigDict) -> Estimate:
    """Estimates the memory of a training step.

    Args:
        config: The experiment.
    """
    module = config_lib.network(config)
    state = _abstract_state(config, module)
    clean = _crops(config, module.channels_out)
    kept = count_kept(module, state, _crops(config, module.channels, module.scale))
    return Estimate(
        state=_size(jax.tree.leaves(state)),
        gradients=_size(jax.tree.leaves(state.params)),
        activations=_size([clean]) + kept,
    )


def count_kept(module: RestorationNetwork, state: TrainState, images: jax.ShapeDtypeStruct) -> int:
    """Counts the bytes that the backward pass of a network takes from its forward pass.

    Args:
        module: The network.
        state: Shapes of its parameters and batch statistics.
        images: Shape of its input, which is counted.
    """

    def residuals(params: Any, batch_stats: Any, x: jax.Array) -> Any:
        def apply(params: Any) -> Any:
            variables = {"params": params, "batch_stats": batch_stats}
            return module.apply(variables, x, train=True, mutable=["batch_stats"])[0]

        return jax.tree.leaves(jax.vjp(apply, params)[1])

    closed = jax.make_jaxpr(residuals)(state.params, state.batch_stats, images)
    known = set(closed.jaxpr.invars) | set(closed.jaxpr.constvars)
    kept = {atom for atom in closed.jaxpr.outvars if not isinstance(atom, Literal)} - known
    return _size([images]) + _size(atom.aval for atom in kept)


def read_plan(config: ConfigDict) -> int:
    """Compiles a training step for the first device and reads the compiler's plan, bytes.

    Args:
        config: The experiment.
    """
    module = config_lib.network(config)
    partitioner = Partitioner.from_config(config, jax.devices()[:1])
    state = _abstract_state(config, module)
    program: Any = compile_program(module, make_optimizer(config), config, partitioner, state)
    mask = jax.ShapeDtypeStruct((config.batch_size,), jnp.float32)
    batch = {"clean": _crops(config, module.channels_out), "mask": mask}
    if module.scale > 1:
        batch["degraded"] = _crops(config, module.channels, module.scale)
    plan = program.lower(state, batch).compile().memory_analysis()
    arguments = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return int(arguments + plan.temp_size_in_bytes)


def _abstract_state(config: ConfigDict, module: RestorationNetwork) -> TrainState:
    return abstract_state(module, make_optimizer(config), ema=True)


def _crops(config: ConfigDict, channels: int, scale: int = 1) -> jax.ShapeDtypeStruct:
    side = config.data.crop // scale
    return jax.ShapeDtypeStruct((config.batch_size, side, side, channels), jnp.float32)


def _size(arrays: Iterable[Any]) -> int:
    return sum(math.prod(array.shape) * np.dtype(array.dtype).itemsize for array in arrays)


def _list_presets(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of network and preset; of all networks if no name is given."""
    if names:
        return [(name, preset) for name, _, preset in (text.partition(":") for text in names)]
    return [
        (name, preset)
        for name in networks.available()
        if name not in _RESERVED
        for preset in networks.get(name).PRESETS or ("",)
    ]


def main() -> None:
    """Prints a Markdown table, in MiB."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", metavar="NETWORK[:PRESET]")
    parser.add_argument(
        "--crop", type=int, nargs="+", default=[128], help="of clean images, pixels"
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="crops on one device")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--check", action="store_true", help="also compile, for the real plan")
    options = parser.parse_args()
    presets = _list_presets(options.networks)
    for name, preset in presets:
        try:
            networks.get_preset(name, preset or None)
        except ValueError as error:
            parser.error(str(error))
        scale = networks.create(name, preset=preset or None).scale
        if any(crop < 1 or crop % scale for crop in options.crop):
            parser.error(f"--crop must be a positive multiple of {scale}, the scale of {name}")
    # XLA reads it when the first device is asked for.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FRUGAL}".strip()
    head = _HEAD if options.check else _HEAD[:-1]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head), flush=True)
    for name, preset in presets:
        for crop in options.crop:
            for batch in options.batch:
                config = make_config(name, preset, crop, batch, options.dtype)
                found = estimate(config)
                numbers = [*found, found.total]
                if options.check:
                    numbers.append(read_plan(config))
                cells = [f"{name} {preset}".strip(), str(crop), str(batch), options.dtype]
                cells += [f"{number / 2**20:,.1f}" for number in numbers]
                if options.check:
                    cells[-1] += f" ({numbers[-1] / found.total:.2f})"
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
