"""A training step as train.py compiles it, on random crops, and its time.

Import ``lcdnet_jax.cli.script_start`` before this module, as train.py does before JAX.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax.training import create_state
from lcdnet_jax.training.optimizer import make_optimizer
from lcdnet_jax.training.program import compile_program
from lcdnet_jax.training.sharding import Partitioner


def make_step(config: ConfigDict, devices: Sequence[jax.Device]) -> Callable[[], None]:
    """Compiles the step of a configuration without stages.

    Args:
        config: The experiment.
        devices: Where it runs.

    Returns:
        A function that makes one more step and waits for it. The crops are always the same.
    """
    module, tx = config_lib.network(config), make_optimizer(config)
    partitioner = Partitioner.from_config(config, devices)
    state = create_state(jax.random.key(0), module, tx, ema=config.ema_decay > 0)
    state = jax.device_put(state, partitioner.get_state_sharding(state))
    program = compile_program(module, tx, config, partitioner, state)

    random = np.random.default_rng(0)
    crop, count = config.data.crop, config.batch_size
    images = {"clean": random.random((count, crop, crop, module.channels_out), np.float32)}
    if config.degradation.kind == "none":
        side = crop // module.scale
        images["degraded"] = random.random((count, side, side, module.channels), np.float32)
    batch = partitioner.put_batches([{**images, "mask": np.ones(count, np.float32)}])

    def step() -> None:
        nonlocal state
        state, metrics = program(state, batch)
        jax.block_until_ready(metrics)

    return step


def time_calls(call: Callable[[], object], *, seconds: float, least: int) -> dict[str, Any]:
    """Times calls for ``seconds``, but at least ``least`` of them.

    Args:
        call: What is timed; compiled before.
        seconds: Wall time of all calls.
        least: Number of calls.

    Returns:
        The least processor time ("seconds") and wall time ("wall") of a call, s, and the number of
        "calls".
    """
    processor: list[float] = []
    wall: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(wall) < least:
        starts = time.process_time(), time.perf_counter()
        call()
        processor.append(time.process_time() - starts[0])
        wall.append(time.perf_counter() - starts[1])
    return {
        "seconds": float(f"{min(processor):.4g}"),
        "wall": float(f"{min(wall):.4g}"),
        "calls": len(wall),
    }
