"""Reads the files of tests/golden, and makes the weights that they describe.

tests/golden/README.md says what they hold. A file that is missing is an error: these files are
part of the repository, so no test that needs one may be skipped.
"""

import functools
import json
import pathlib
import re
import zlib
from collections.abc import Mapping

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent / "golden"

# Modules whose kernels PyTorch stores (in, out, kh, kw).
_TRANSPOSED = re.compile(r"(^|\.)up[1-3]\.weight")


@functools.cache
def load(name: str) -> Mapping[str, np.ndarray]:
    """Arrays of ``tests/golden/NAME.npz``."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


@functools.cache
def state_dict(name: str) -> Mapping[str, np.ndarray]:
    """Weights of a network under their PyTorch names: stored ones, or those of the formula."""
    data = load(name)
    if "shapes" not in data:
        prefix = "state_dict/"
        return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}
    seed, gain = int(data["seed"]), float(data["gain"])
    shapes = json.loads(str(data["shapes"]))
    return {key: weight(key, tuple(shape), seed, gain) for key, shape in shapes.items()}


def weight(key: str, shape: tuple[int, ...], seed: int, gain: float) -> np.ndarray:
    """One array of a state dict, float32, by the formula of tests/golden/README.md."""
    r = np.random.default_rng([seed, zlib.crc32(key.encode())]).standard_normal(shape)
    if key.endswith("running_var"):
        value = 1 + 0.3 * np.abs(r)
    elif key.endswith(("beta", "gamma")):
        value = 0.5 * r
    elif key.endswith("temperature"):
        value = 1 + 0.3 * r
    elif len(shape) > 1:
        fan = np.prod(shape[1:])
        if _TRANSPOSED.search(key):
            fan = shape[0] * np.prod(shape[2:])
        value = r * (2.0 if "conv_offset_mask" in key else gain) / np.sqrt(fan)
    elif key.endswith("weight"):
        value = 1 + 0.2 * r
    else:
        value = 0.1 * r
    return value.astype(np.float32)


def image(name: str, key: str) -> np.ndarray:
    """An input or output in our layout, NHWC."""
    return load(name)[key].transpose(0, 2, 3, 1)


def deform_conv2d(name: str, prefix: str = "") -> tuple[np.ndarray, ...]:
    """Arguments of ``ops.deform_conv2d`` or, with "grad/", their gradients, in our layout."""
    data = load(name)
    x, offset, mask, kernel = (data[prefix + k] for k in ("input", "offset", "mask", "weight"))
    n, taps, height, width = mask.shape
    groups = taps // 9
    return (
        x.transpose(0, 2, 3, 1),
        offset.transpose(0, 2, 3, 1).reshape(n, height, width, groups, 9, 2),
        mask.transpose(0, 2, 3, 1).reshape(n, height, width, groups, 9),
        kernel.transpose(2, 3, 1, 0),
        data[prefix + "bias"],
    )


def assert_close(actual, expected, tolerance: float) -> None:
    """Differences are at most ``tolerance`` times the largest magnitude of ``expected``."""
    expected = np.asarray(expected, np.float64)
    np.testing.assert_allclose(
        np.asarray(actual, np.float64), expected, rtol=0, atol=tolerance * np.abs(expected).max()
    )
