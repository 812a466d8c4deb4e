"""MemNet's layer by hand."""

import numpy as np

from lcdnet_jax.networks import memnet
from tests.networks.by_hand import (
    image,
    quick_jit,
    variables_of,
)


def test_normalization_by_hand():
    layer = memnet.BNReLUConv(3, size=1)
    x = image(2, 5, 4, 2)
    state = {"train": True, "axis_name": None}
    variables = variables_of(layer, 2, **state)
    apply = quick_jit(lambda v: layer.apply(v, x, **state, mutable=["batch_stats"]))
    y, updates = apply(variables)
    pixels = np.asarray(x, np.float64)
    mean, var = pixels.mean((0, 1, 2)), pixels.var((0, 1, 2))
    stats = updates["batch_stats"]["bn"]
    old = variables["batch_stats"]["bn"]
    np.testing.assert_allclose(stats["mean"], 0.9 * old["mean"] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 * old["var"] + 0.1 * var, rtol=1e-5)
    params = variables["params"]
    normal = (pixels - mean) / np.sqrt(var + 1e-5) * np.asarray(params["bn"]["scale"])
    normal += np.asarray(params["bn"]["bias"])
    expected = np.maximum(normal, 0) @ np.asarray(params["conv"]["kernel"])[0, 0]
    np.testing.assert_allclose(y, expected, atol=1e-6)
