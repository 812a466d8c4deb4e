"""One step of a whole network on 1 device and on 8, under each strategy: are the numbers the same?

    python -m benchmarks.check_parallel sadnet lcdnet

The devices are fake ones on the CPU, the optimizer is SGD (Adam would hide a wrong scale of the
gradients), the noise levels differ by image. One JSON line for each network and strategy: the
largest difference from one device of any parameter (all but "one"), and what the compiled program
exchanges ("jit"): how many numbers are summed over devices, beside the number of parameters, and
how many other exchanges there are. Ends with status 1 where a difference is above 1e-5, or "jit"
exchanges more than sums. LCDNet takes minutes to compile; what
the tests check by a block of it is checked here by the whole.
"""

import argparse
import json
import math
import os
import re
import sys
import time
from typing import Any

from lcdnet_jax.typing import JsonObject

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from configs import default
from lcdnet_jax import config as config_lib
from lcdnet_jax.training import create_state
from lcdnet_jax.training.program import compile_program
from lcdnet_jax.training.sharding import Partitioner

# Arguments of networks that are quick enough to compile.
NETWORKS = {
    "sadnet": {"preset": "small"},
    "lcdnet": {"preset": "tiny"},
    "dncnn": {"depth": 5, "features": 16},
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "one": {"devices": 1, "strategy": "jit", "state_shards": 1},
    "jit": {"devices": 8, "strategy": "jit", "state_shards": 1},
    "divided": {"devices": 8, "strategy": "jit", "state_shards": 4},
    "pmap": {"devices": 8, "strategy": "pmap", "state_shards": 1},
}


def exchanges(text: str) -> tuple[int, int]:
    """How many numbers a compiled program sums over devices, and how many other exchanges it has.

    Args:
        text: The program as HLO.
    """
    results = re.findall(r"= (.*?) all-reduce(?:-start)?\(", text)
    shapes = [s for result in results for s in re.findall(r"\b[a-z]+\d+\[([\d,]*)\]", result)]
    summed = sum(math.prod(int(n) for n in shape.split(",") if n) for shape in shapes)
    kinds = "all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    return summed, len(re.findall(rf"= .*? (?:{kinds})(?:-start)?\(", text))


def check(name: str, size: int) -> list[JsonObject]:
    """The lines of one network, on random images of ``size`` pixels."""
    config = default.get_config()
    config.network.name, config.network.kwargs = name, ConfigDict(NETWORKS[name])
    config.loss = "l1_fft" if name == "lcdnet" else "l1"
    config.batch_size, config.degradation.sigma_min = 8, 10.0
    module, tx = config_lib.network(config), optax.sgd(0.1)
    clean = np.random.default_rng(0).uniform(size=(8, size, size, 3)).astype(np.float32)
    batch = {"clean": clean, "mask": np.ones(8, np.float32)}
    start = jax.device_get(create_state(jax.random.key(0), module, tx, ema=True))
    reference, lines = None, []
    for strategy, how in STRATEGIES.items():
        config.parallel.strategy = how["strategy"]
        config.parallel.state_shards = how["state_shards"]
        partitioner = Partitioner.from_config(config, jax.devices()[: how["devices"]])
        state = jax.device_put(start, partitioner.get_state_sharding(start))
        program: Any = compile_program(module, tx, config, partitioner, state)
        given = partitioner.put_batches([batch])
        line: JsonObject = {"case": "check_parallel", "network": name, "strategy": strategy}
        begin = time.perf_counter()
        if how["strategy"] == "jit":
            program = program.lower(state, given).compile()
            line["summed"], line["other_exchanges"] = exchanges(program.as_text())
        state, metrics = program(state, given)
        line["seconds"] = round(time.perf_counter() - begin, 1)
        params = jax.tree.leaves(partitioner.fetch(state.params))
        line["parameters"] = sum(x.size for x in params)
        line["loss"] = float(metrics["loss"])
        reference = reference or params
        line["difference"] = max(
            float(np.abs(a - b).max()) for a, b in zip(reference, params, strict=True)
        )
        print(json.dumps(line), flush=True)
        lines.append(line)
    return lines


def main() -> None:
    """Checks the networks that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", choices=sorted(NETWORKS))
    parser.add_argument("--size", type=int, default=16, help="side of the images, pixels")
    arguments = parser.parse_args()
    lines = [line for name in arguments.networks for line in check(name, arguments.size)]
    wrong = [
        line
        for line in lines
        if line["difference"] > 1e-5 or (line["strategy"] == "jit" and line["other_exchanges"])
    ]
    if wrong:
        sys.exit(f"error: not as on one device, or more exchanged than sums: {wrong}")


if __name__ == "__main__":
    main()
