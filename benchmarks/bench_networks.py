"""Networks, forward and in training: time, memory, compilation; one JSON line per case.

    python -m benchmarks.bench_networks --peer torch     # beside PyTorch modules of the same math
    python -m benchmarks.bench_networks --only "sadnet base" --dtype bfloat16
    python -m benchmarks.bench_networks --quick

Sizes are those of the images that a network is given. A training step is the gradient of the mean
squared error and an update of Adam, of a donated state; the peer makes the same, and outputs, or
the losses of the first steps, are compared before anything is timed. Times are those of a step: of
a call that makes several, its part. Times are processor time on a CPU, in one thread, and
wall time elsewhere, see benchmarks/timing.py.
Compilation is measured once without anything cached, and once more, until the first result, with
the program in JAX's persistent cache. Neither TensorFlow nor the trainer is needed.
"""

import argparse
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from benchmarks import Result, round_significant, run_cases, timing
from lcdnet_jax import networks
from lcdnet_jax.messages import format_count
from lcdnet_jax.typing import Variables

_LEARNING_RATE = 1e-3
_FIRST_LOSSES = 2  # which are compared; later ones amplify rounding
_TRACED_CALLS = 5
# Of what a network adds to images, or of all it gives where it enlarges them.
_TOLERANCES = {"float32": 1e-3, "TF32": 3e-2, "bfloat16": 0.1}
# Of what the loss falls by, which is much less than the loss.
_LOSS_TOLERANCES = {"float32": 0.05, "TF32": 0.1, "bfloat16": 0.3}


@dataclasses.dataclass(frozen=True)
class Case:
    """A case to measure.

    Attributes:
        network: Name of the network.
        preset: Its size, or "" for the only one.
        shape: Shape of the input images, ``[N, H, W, C]``.
        train: Whether it is a training step or a forward pass.
        dtype: Compute type.
        steps: Training steps of a call.
        fields: Other fields of the network.
        rank: Order of measurement in limited time, 1 first.
    """

    network: str
    preset: str
    shape: tuple[int, int, int, int]
    train: bool = False
    dtype: str = "float32"
    steps: int = 1
    fields: tuple[tuple[str, Any], ...] = ()
    rank: int = 1

    @property
    def name(self) -> str:
        """Name of the case in the JSON line."""
        words = [
            self.network,
            self.preset,
            *(f"{field}={value}" for field, value in self.fields),
            "x".join(map(str, self.shape[:3])),
            "train" if self.train else "forward",
            self.dtype,
        ]
        several = f", {format_count(self.steps, 'step')} a call" if self.steps > 1 else ""
        return " ".join(filter(None, words)) + several

    def module(self, dtype: str) -> networks.RestorationNetwork:
        """The network, computing in that type."""
        preset, channels = self.preset or None, self.shape[3]
        return networks.create(
            self.network,
            preset=preset,
            **{"channels": channels, "dtype": dtype, **dict(self.fields)},
        )


def _train_and_forward(
    network: str, preset: str, shape: tuple[int, int, int, int], **more: Any
) -> list[Case]:
    return [Case(network, preset, shape, train, **more) for train in (True, False)]


_LOW_MEMORY = (("low_memory", True),)

SETS: Mapping[str, list[Case]] = {
    "cpu": [
        *_train_and_forward("sadnet", "base", (1, 64, 64, 3)),
        Case("sadnet", "base", (1, 64, 64, 3), True, fields=_LOW_MEMORY, rank=2),
        *_train_and_forward("sadnet", "small", (4, 64, 64, 3)),
        Case("sadnet", "small", (4, 64, 64, 3), train=True, steps=2),
        *_train_and_forward("dncnn", "", (1, 64, 64, 1)),
        *_train_and_forward("lcdnet", "tiny", (1, 64, 64, 3)),
        *_train_and_forward("rcan", "small", (1, 64, 64, 1), fields=(("scale", 2),)),
        *_train_and_forward("rcan", "small", (1, 64, 64, 1), fields=(("scale", 4),)),
    ],
    "accelerator": [
        *_train_and_forward("sadnet", "base", (16, 128, 128, 3), dtype="bfloat16"),
        *_train_and_forward("sadnet", "base", (256, 128, 128, 3), dtype="bfloat16"),
        *_train_and_forward("sadnet", "base", (16, 128, 128, 3), rank=2),
        Case("sadnet", "base", (1, 320, 480, 3), rank=2),
        Case("sadnet", "base", (1, 1080, 1920, 3), dtype="bfloat16", rank=2),
        Case("sadnet", "base", (1, 320, 480, 3), dtype="bfloat16", rank=3),
        Case("sadnet", "base", (16, 128, 128, 3), True, "bfloat16", steps=8, rank=3),
        Case("sadnet", "base", (16, 128, 128, 3), True, "bfloat16", fields=_LOW_MEMORY, rank=3),
        *_train_and_forward("lcdnet", "base", (8, 256, 256, 3), dtype="bfloat16", rank=4),
        *_train_and_forward("sadnet", "base", (256, 128, 128, 3), rank=5),
    ],
    "tiny": [
        *_train_and_forward("sadnet", "small", (2, 16, 16, 3)),
        Case("dncnn", "", (2, 16, 16, 1), train=True, steps=2, fields=(("depth", 5),)),
    ],
}


def main() -> None:
    """Measures the cases of a set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peer", choices=["torch"], help="what to compare with")
    parser.add_argument("--compile", action="store_true", help="torch.compile the peer, too")
    parser.add_argument("--set", choices=SETS, help="cases; default: those for this device")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="instead of the case's")
    parser.add_argument("--seconds", type=float, default=6.0, help="time per case")
    parser.add_argument("--quick", action="store_true", help="two seconds per case, and fewer")
    options = parser.parse_args()
    timing.use_one_core()
    cases = SETS[options.set or timing.default_set()]
    if options.dtype:
        cases = [dataclasses.replace(case, dtype=options.dtype) for case in cases]
    if options.quick:  # without what takes longest to compile
        cases = [case for case in cases if not _is_slow(case)]
    run_cases(
        "networks",
        [
            (case.name, functools.partial(measure, case, 2.0 if options.quick else options.seconds,
                                          peer=options.peer, compiled=options.compile))
            for case in {case.name: case for case in cases}.values()
            if options.only in case.name
        ],
    )  # fmt: skip


def _is_slow(case: Case) -> bool:
    """Whether compilation takes long."""
    training = case.train and case.network == "lcdnet"
    return case.steps > 1 or case.fields == _LOW_MEMORY or training


def measure(
    case: Case,
    seconds: float,
    *,
    peer: str | None = None,
    compiled: bool = False,
    trace: pathlib.Path | None = None,
) -> Result:
    """Measures one case.

    Args:
        case: The case.
        seconds: Time to measure for.
        peer: "torch" or None.
        compiled: Whether the peer is also tried compiled.
        trace: Folder for a profile of some calls.

    Returns:
        Fields of the JSON line.

    Raises:
        ValueError: The peer computes something else.
    """
    module = case.module(case.dtype)
    variables = random_variables(case.module("float32"))
    scale, (count, height, width, channels) = module.scale, case.shape
    large = (count, height * scale, width * scale, channels)
    rng = np.random.default_rng(0)
    images, target = (rng.uniform(size=shape).astype(np.float32) for shape in (case.shape, large))
    program, run, arguments = (_training if case.train else _forward)(
        module, variables, images, target, case.steps
    )
    call = timing.Call(run, steps=case.steps)
    with timing.fresh_compilation_cache():
        numbers, first = _compile(program, arguments, call)
    with timing.record_compilations() as again:
        values = _losses(first, call) if case.train else first
        timed = timing.compare(
            call,
            _make_peers(case, module, variables, images, target, compiled) if peer else {},
            functools.partial(_agree, case, values, images),
            seconds,
        )
    if trace:
        with jax.profiler.trace(trace):
            for _ in range(_TRACED_CALLS):
                call()
    return {
        **timed,
        "images_per_s": round_significant(1e3 * case.shape[0] / timed["value"]),
        **numbers,
        **_memory_ratio(numbers, timed),
        "recompiles": len(again),
        **timing.describe_device(),
    }


@functools.lru_cache(maxsize=2)  # tracing LCDNet takes seconds
def random_variables(module: networks.RestorationNetwork) -> Any:
    """Weights with which all branches count, as NumPy arrays; LCDNet starts with factors of 0."""
    rng = np.random.default_rng(1)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key
        values = rng.standard_normal(shape.shape, np.float32)
        if name == "kernel":  # of several blocks where it has five axes
            fan_in = np.prod(shape.shape[-4:-1]) if len(shape.shape) > 3 else shape.shape[-2]
            return values * np.float32(fan_in**-0.5)
        return np.float32(name in ("scale", "var")) + np.float32(0.1) * values

    return jax.tree_util.tree_map_with_path(leaf, networks.abstract_variables(module))


Parts = tuple[Any, Callable[[], Any], tuple[Any, ...]]


def _forward(
    module: networks.RestorationNetwork,
    variables: Variables,
    images: np.ndarray,
    target: np.ndarray,
    steps: int,
) -> Parts:
    """The jitted function, a call of it, and its arguments."""
    del target, steps
    program = jax.jit(module.apply)
    arguments = jax.device_put((variables, images))
    return program, lambda: program(*arguments), arguments


def _training(
    module: networks.RestorationNetwork,
    variables: Variables,
    images: np.ndarray,
    target: np.ndarray,
    steps: int,
) -> Parts:
    """The same of training steps, whose state goes from call to call."""
    tx = optax.adam(_LEARNING_RATE)

    def loss(params: Any, stats: Any, batch: tuple[Array, Array]) -> tuple[Array, Any]:
        x, y = batch
        restored, updates = module.apply(
            {"params": params, **stats}, x, train=True, mutable=["batch_stats"]
        )
        return jnp.mean((restored - y) ** 2), updates

    def step(state: Any, batch: tuple[Array, Array]) -> tuple[Any, Array]:
        params, stats, moments = state
        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params, stats, batch)
        with jax.numpy_dtype_promotion("standard"):  # Adam's code mixes types
            updates, moments = tx.update(grads, moments, params)
        return (optax.apply_updates(params, updates), stats, moments), value

    def several(state: Any, batches: tuple[Array, Array]) -> tuple[Any, Array]:
        return jax.lax.scan(step, state, batches)

    program = jax.jit(several if steps > 1 else step, donate_argnums=0)
    params = variables["params"]
    stats = {name: tree for name, tree in variables.items() if name != "params"}
    batch = (images, target)
    if steps > 1:
        batch = (np.stack([images] * steps), np.stack([target] * steps))
    state, batch = jax.device_put(((params, stats, tx.init(params)), batch))

    def run() -> Array:
        nonlocal state
        state, losses = program(state, batch)
        return losses

    return program, run, jax.eval_shape(lambda: (state, batch))


def _compile(
    program: Any, arguments: tuple[Any, ...], call: timing.Call
) -> tuple[dict[str, Any], np.ndarray]:
    """Times it cold and cached; returns what the first call gives."""
    start = timing.clock()
    memory = timing.count_planned_bytes(program.lower(*arguments).compile())
    cold = timing.clock() - start
    jax.clear_caches()
    start = timing.clock()
    first = np.asarray(call())
    cached = timing.clock() - start
    numbers = {
        "memory_mib": round_significant(memory / 2**20),
        "compile_s": round(cold, 2),
        "compile_cached_s": round(cached, 2),
    }
    return numbers, first


def _losses(first: np.ndarray, call: timing.Call) -> np.ndarray:
    losses = [first.ravel()]
    while sum(map(len, losses)) < _FIRST_LOSSES:
        losses.append(np.asarray(call()).ravel())
    return np.concatenate(losses)[:_FIRST_LOSSES]


def _make_peers(
    case: Case,
    module: networks.RestorationNetwork,
    variables: Variables,
    images: np.ndarray,
    target: np.ndarray,
    compiled: bool,
) -> Mapping[str, Callable[[], timing.Peer]]:
    from benchmarks import torch_steps

    return torch_steps.network_makers(
        case.network,
        module,
        variables,
        images,
        target if case.train else None,
        dtype=case.dtype,
        compiled=compiled,
    )


def _agree(case: Case, ours: np.ndarray, images: np.ndarray, peer: np.ndarray) -> None:
    precision = "TF32" if case.dtype == "float32" and not timing.on_cpu() else case.dtype
    if not case.train:
        start = images if images.shape == ours.shape else 0.0  # networks that enlarge add nothing
        timing.check_close("the output", ours, peer, _TOLERANCES[precision], start=start)
        return
    timing.check_close("the first loss", ours[0], peer[0], _TOLERANCES[precision])
    what = "the fall of the loss"
    timing.check_close(what, ours[1:], peer[1:], _LOSS_TOLERANCES[precision], start=peer[0])


def _memory_ratio(numbers: Mapping[str, Any], timed: Result) -> dict[str, float]:
    if "peer_memory_mib" not in timed:
        return {}
    return {"memory_ratio": round_significant(numbers["memory_mib"] / timed["peer_memory_mib"])}


if __name__ == "__main__":
    main()
