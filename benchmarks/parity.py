"""Every network and operation on this device, compared with float64 on the CPU; status 1 if wrong.

    python -m benchmarks.parity                      # all, one JSON line each
    python -m benchmarks.parity --only sadnet
    python -m benchmarks.parity --set tiny           # a few, in seconds

A case is computed in float32, with products at the highest precision, and in bfloat16 where that
is supported, with the default precision. Networks are small and see two images in training mode,
those with batch normalization also in inference mode. The outputs are compared, and the gradients
of all inputs and parameters for a random gradient of the output. ``value`` is the largest relative
error of them: the norm of the difference from the result of the CPU in float64 over the norm of
that result. It may be at most ``limit``. Where JAX has no other device, the CPU itself is compared.
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from benchmarks import Result, run_cases
from benchmarks.bench_networks import random_variables
from lcdnet_jax import networks, ops, sfm

TYPES = ("float32", "bfloat16")

# Largest distances. On a CPU (benchmarks/README.md) the largest are a tenth of them in
# float32; devices differ in the order of sums, and TPUs in the exponential function.
_LIMITS = {"float32": 1e-4, "bfloat16": 0.25}

_LIMIT_OF_OPERATIONS = {"float32": 1e-5, "bfloat16": 2e-2}

# Fields of each network in the registry, as few layers as show every kind of layer.
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "buifd": {"depth": 3, "features": 8},
    "dncnn": {"depth": 3, "features": 8},
    "ikc": {"scale": 2, "features": 8, "blocks": 1, "iterations": 1, "code_length": 3,
            "kernel_size": 5},
    "kmsr": {"features": 8, "blocks": 1},
    "lcdnet": {"width": 16, "enc_blocks": (1, 1, 1, 1)},
    "memnet": {"features": 8, "blocks": 1, "units": 1},
    "n3net": {"width": 2, "features": 8, "depth": 3, "patch": 4, "stride": 2, "window": 3},
    "nafnet": {"width": 8, "enc_blocks": (1, 1, 1, 1)},
    "rcan": {"scale": 2, "groups": 1, "blocks": 1, "features": 16},
    "restormer": {"width": 8, "blocks": (1, 1, 1, 1), "refinement_blocks": 1,
                  "heads": (1, 2, 2, 4)},
    "ridnet": {"features": 16, "blocks": 1},
    "rrdb": {"scale": 2, "blocks": 1, "features": 8, "growth": 4},
    "sadnet": {"preset": "small", "width": 8, "offset_width": 4},
    "unet_n2n": {},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation and arguments for it.

    Attributes:
        run: The operation, of the arguments.
        arguments: Arrays, float32.
        typed: Number of those, from the first, that have the type of the case. The others are
            float32 in any case, such as positions.
        types: Types that it takes.
    """

    run: Callable[..., Any]
    arguments: tuple[np.ndarray, ...]
    typed: int = 1
    types: tuple[str, ...] = TYPES


def make_operations() -> dict[str, Operation]:
    """Makes the operations of ``lcdnet_jax.ops`` that devices compute, and frequency masking.

    Returns:
        Operations by name, the first word of which is that of the function.
    """
    rng = np.random.default_rng(0)

    def normal(*shape: int, spread: float = 1.0) -> np.ndarray:
        return (spread * rng.standard_normal(shape)).astype(np.float32)

    def uniform(*shape: int) -> np.ndarray:
        return rng.random(shape, np.float32)

    images, planes = uniform(2, 12, 10, 3), normal(2, 3, 12, 10)
    spectra, spectra_planes = normal(2, 12, 6, 6), normal(2, 6, 12, 6)
    features = normal(2, 12, 10, 8)
    key = np.asarray(jax.random.key_data(jax.random.key(0)))
    offsets = normal(2, 12, 10, 2, 9, 2, spread=3.0)  # some far outside
    sampled = (features, normal(3, 3, 8, 6), normal(6), offsets, uniform(2, 12, 10, 2, 9))

    def sample(x: Any, kernel: Any, bias: Any, offset: Any, mask: Any, **options: Any) -> Any:
        return ops.deform_conv2d(x, offset, mask, kernel, bias, **options)

    def mask_randomly(images: Any) -> Any:
        wrapped = jax.random.wrap_key_data(jnp.asarray(key))
        return sfm.stochastic_frequency_mask(wrapped, images, rate=1.0)

    only_exact = ("float32",)
    return {
        "conv2d": Operation(ops.conv2d, (features, normal(3, 3, 8, 6)), 2),
        "conv2d dilated": Operation(
            functools.partial(ops.conv2d, dilation=2), (features, normal(3, 3, 8, 6)), 2
        ),
        "conv2x2_down": Operation(ops.conv2x2_down, (features, normal(2, 2, 8, 6)), 2),
        "conv2x2_up": Operation(ops.conv2x2_up, (features, normal(2, 2, 8, 6)), 2),
        "dct_2d": Operation(ops.dct_2d, (images,)),
        "deform_conv2d": Operation(sample, sampled, 3),
        "deform_conv2d dilated": Operation(
            functools.partial(sample, dilation=2, padding=2), sampled, 3
        ),
        "deform_conv2d in little memory": Operation(
            functools.partial(sample, low_memory=True), sampled, 3
        ),
        "depthwise_conv2d": Operation(ops.depthwise_conv2d, (features, normal(5, 5, 1, 16)), 2),
        "encode_kernels": Operation(
            ops.encode_kernels, (uniform(4, 5, 5), normal(25, 3)), types=only_exact
        ),
        "gaussian_kernels": Operation(
            functools.partial(ops.gaussian_kernels, size=7),
            (1 + uniform(4, 2), 90 * uniform(4)), types=only_exact,
        ),
        "idct_2d": Operation(ops.idct_2d, (images,)),
        "irdft2": Operation(lambda z: ops.irdft2(z, 10), (spectra,), types=only_exact),
        "irdft2_planes": Operation(
            lambda z: ops.irdft2_planes(z, 10), (spectra_planes,), types=only_exact
        ),
        "irfft2": Operation(lambda z: ops.irfft2(z, 10), (spectra,), types=only_exact),
        "irfft2_planes": Operation(
            lambda z: ops.irfft2_planes(z, 10), (spectra_planes,), types=only_exact
        ),
        "mean_of_views": Operation(ops.mean_of_views, (uniform(2, 12, 10, 6),)),
        "mirror_borders": Operation(lambda x: ops.mirror_borders(x, 5), (images,)),
        "pad_to_multiple": Operation(lambda x: ops.pad_to_multiple(x, 8), (images,)),
        "rdft2": Operation(ops.rdft2, (images,), types=only_exact),
        "rdft2_planes": Operation(ops.rdft2_planes, (planes,), types=only_exact),
        "rfft2": Operation(ops.rfft2, (images,), types=only_exact),
        "rfft2_planes": Operation(ops.rfft2_planes, (planes,), types=only_exact),
        "sfm.apply_mask": Operation(sfm.apply_mask, (images, uniform(2, 12, 10))),
        "sfm.stochastic_frequency_mask": Operation(mask_randomly, (images,)),
        "upsample2x": Operation(ops.upsample2x, (features,)),
    }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Case:
    """A network or an operation, in one type.

    Attributes:
        subject: Name in :data:`NETWORKS` or of :func:`make_operations`.
        dtype: Compute type.
    """

    subject: str
    dtype: str
    rank = 0  # before anything is timed

    @property
    def name(self) -> str:
        """Name of the case in the JSON line."""
        return f"{self.subject} {self.dtype}"

    @property
    def limit(self) -> float:
        """Largest distance."""
        return (_LIMITS if self.subject in NETWORKS else _LIMIT_OF_OPERATIONS)[self.dtype]


def _list_cases(subjects: Sequence[str] = ()) -> list[Case]:
    """Operations first, because networks are made of them; of all subjects if none is given."""
    types = {name: operation.types for name, operation in make_operations().items()}
    types |= dict.fromkeys(NETWORKS, TYPES)
    return [Case(name, dtype) for name in subjects or types for dtype in types[name]]


SETS: Mapping[str, list[Case]] = {
    "accelerator": _list_cases(),
    "tiny": _list_cases(("deform_conv2d", "rfft2", "dncnn")),
}


def main() -> None:
    """Compares the cases of a set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--set", choices=SETS, default="accelerator", help="cases; default: all")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    cases = [case for case in SETS[options.set] if options.only in case.name]
    if not cases:
        parser.error(f"no case has {options.only!r} in its name")
    run_cases("parity", [(case.name, functools.partial(measure, case)) for case in cases])


def measure(case: Case) -> Result:
    """Compares one case.

    Args:
        case: The case.

    Returns:
        Fields of the JSON line.

    Raises:
        ValueError: The result is too far from that of the CPU in float64.
    """
    device = jax.devices()[0]
    expected = _compute_exactly(case.subject)
    distances = measure_distances(compute(case.subject, case.dtype, device), expected)
    largest = max(distances, key=lambda name: np.nan_to_num(distances[name], nan=np.inf))
    if not distances[largest] <= case.limit:  # NaN neither
        raise ValueError(
            f"{largest} on {device.device_kind} differs from the CPU's in float64 by "
            f"{distances[largest]:.1e} of its norm, more than {case.limit:.1e}; do not train or "
            "restore with this device and version of JAX before that is understood"
        )
    return {
        "value": float(f"{distances[largest]:.2g}"),
        "unit": "of the norm",
        "limit": case.limit,
        "largest": largest,
        "device": device.device_kind,
        "jax": jax.__version__,
    }


def measure_distances(result: Any, expected: Any) -> dict[str, float]:
    """Measures how far results are from what is expected.

    Args:
        result: Trees of arrays, by name.
        expected: The same.

    Returns:
        For each name the norm of the difference as a part of the norm of what is expected.
    """

    def norm(leaves: Sequence[np.ndarray]) -> float:
        return float(np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in leaves)))

    distances = {}
    for name, tree in expected.items():
        wanted = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
        found = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(result[name])]
        difference = norm([a - b for a, b in zip(found, wanted, strict=True)])
        distances[name] = difference / norm(wanted)
    return distances


@functools.lru_cache(maxsize=1)  # the types of a subject follow each other
def _compute_exactly(subject: str) -> dict[str, Any]:
    return compute(subject, "float64", jax.devices("cpu")[0])


def compute(subject: str, dtype: str, device: jax.Device) -> dict[str, Any]:
    """Computes outputs and gradients.

    Args:
        subject: Of a :class:`Case`.
        dtype: "float32", "bfloat16" or "float64".
        device: Where.

    Returns:
        Arrays and trees of arrays by name, in memory of the host.
    """
    wide = dtype == "float64"
    precision = "default" if dtype == "bfloat16" else "highest"
    with (
        jax.enable_x64(wide),
        jax.default_matmul_precision(precision),
        jax.numpy_dtype_promotion("standard"),  # Flax mixes float64 and float32
    ):
        make = _make_network if subject in NETWORKS else _make_operation
        function, arguments = make(subject, dtype)
        placed = jax.device_put(arguments, device)
        lowered = jax.jit(function).lower(*placed)
        # It runs once: LLVM need not optimize it.
        quick = _quick_options() if device.platform == "cpu" else None
        compiled = lowered.compile(compiler_options=quick)
        return dict(jax.device_get(compiled(*placed)))


def _quick_options() -> dict[str, Any]:
    options: dict[str, Any] = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
    if jaxlib.version.__version_info__ < (0, 11):  # later versions do not know the option, and stop
        options["xla_cpu_use_fusion_emitters"] = False
    return options


Program = tuple[Callable[..., dict[str, Any]], tuple[Any, ...]]


def _make_operation(name: str, dtype: str) -> Program:
    operation = make_operations()[name]
    rest = "float64" if dtype == "float64" else "float32"
    arguments = tuple(
        array.astype(jnp.dtype(dtype if i < operation.typed else rest))
        for i, array in enumerate(operation.arguments)
    )

    def function(*arguments: Any) -> dict[str, Any]:
        output, pull = jax.vjp(operation.run, *arguments)
        gradients = pull(_random_gradient(output))
        named = {f"the gradient of argument {i}": leaf for i, leaf in enumerate(gradients)}
        return {"the output": output, **named}

    return function, arguments


def _make_network(name: str, dtype: str) -> Program:
    module = networks.create(name, **NETWORKS[name], dtype=dtype)
    exact = jnp.dtype("float64" if dtype == "float64" else "float32")
    variables = _soften(random_variables(networks.create(name, **NETWORKS[name])))
    images = np.random.default_rng(0).random((2, 16, 16, module.channels), np.float32)
    arguments = jax.tree.map(lambda array: array.astype(exact), (variables, images))

    def function(variables: Any, images: Any) -> dict[str, Any]:
        stats = {name: tree for name, tree in variables.items() if name != "params"}

        def train(params: Any, images: Any) -> Any:
            return module.apply(
                {"params": params, **stats}, images, train=True, mutable=["batch_stats"]
            )

        output, pull, updates = jax.vjp(train, variables["params"], images, has_aux=True)
        of_params, of_images = pull(_random_gradient(output))
        results = {
            "the output in training": output,
            "the gradient of the parameters": of_params,
            "the gradient of the images": of_images,
        }
        if stats:
            results["the update of batch statistics"] = updates
            results["the output"] = module.apply(variables, images)
        return results

    return function, arguments


def _soften(variables: Any) -> Any:
    """Shrinks N3Net's distances, so that no neighbor has all the weight up to rounding.

    It would depend on the rounding which one is next.
    """

    def shrink(path: Any, leaf: np.ndarray) -> np.ndarray:
        keys = [key.key for key in path]
        return 0.1 * leaf if "distance_bn" in keys and keys[-1] == "scale" else leaf

    return jax.tree_util.tree_map_with_path(shrink, variables)


def _random_gradient(output: jax.Array) -> jax.Array:
    values = np.random.default_rng(1).standard_normal(output.shape, np.float32)
    return jnp.asarray(values, output.dtype)


if __name__ == "__main__":
    main()
