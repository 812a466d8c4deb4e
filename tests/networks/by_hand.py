"""Layers in NumPy and float64, written from the papers, and what the tests beside share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# Compiled without LLVM's optimization: these programs run once or twice.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def image(*shape):
    return np.random.default_rng(1).uniform(size=shape).astype(np.float32)


def codes(*shape):
    return np.random.default_rng(2).normal(size=shape).astype(np.float32)


def drawn(module, *inputs, gain=1.0, **kwargs):
    """Variables as after some training: every number its own, so that none can be mixed up."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            value = rng.normal(0, (gain / np.prod(leaf.shape[-4:-1])) ** 0.5, leaf.shape)
        else:
            low, high = {"var": (0.5, 2), "scale": (0.5, 1.5)}.get(name, (-0.3, 0.3))
            if [k.key for k in path[-2:]] == ["distance_bn", "var"]:
                low, high = 5, 10  # many candidates share in each neighbor
            value = rng.uniform(low, high, leaf.shape)
        return jnp.asarray(value, jnp.float32)

    init = functools.partial(module.init, **kwargs)
    shapes = jax.eval_shape(init, jax.random.key(0), *inputs)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def variables_of(module, channels=1, **kwargs):
    """The same for a network of images, with kernels of a smaller gain."""
    return drawn(module, jnp.zeros((1, 16, 16, channels)), gain=0.5, **kwargs)


def size_of(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def params_of(module, *names, channels=1, **kwargs):
    """Only the named layers, which spares computing the others."""
    x = jnp.zeros((1, 16, 16, channels))

    def init(key):
        params = module.init(key, x, **kwargs)["params"]
        return [functools.reduce(lambda tree, k: tree[k], n.split("."), params) for n in names]

    return quick_jit(init)(jax.random.key(0))


def assert_fills(array, bound):
    assert 0.95 * bound < np.abs(array).max() <= bound


def exact(p):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), p)


def conv(x, p, stride=1):
    """By shifted products, (size - 1) // 2 zeros around."""
    kernel = np.asarray(p["kernel"], np.float64)
    size = kernel.shape[0]
    pad = (size - 1) // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = ((side + 2 * pad - size) // stride + 1 for side in x.shape[1:3])
    total = np.asarray(p.get("bias", 0.0), np.float64)
    for i in range(size):
        for j in range(size):
            rows = slice(i, i + stride * (height - 1) + 1, stride)
            columns = slice(j, j + stride * (width - 1) + 1, stride)
            total = total + padded[:, rows, columns] @ kernel[i, j]
    return total


def depthwise(x, p):
    """3x3, one filter for each channel, a zero around."""
    taps = p["kernel"][:, :, 0]
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = sum(padded[:, i : i + height, j : j + width] * taps[i, j] for i, j in np.ndindex(3, 3))
    return total + p.get("bias", 0.0)


def layer_norm(x, p, epsilon):
    """Over channels. Without a bias the mean stays, but the variance is still that around it."""
    centered = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt(x.var(-1, keepdims=True) + epsilon)
    if "bias" in p:
        return centered / deviation * p["scale"] + p["bias"]
    return x / deviation * p["scale"]


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def lrelu(x):
    return np.where(x > 0, x, 0.2 * x)


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def block_of(stacked, number):
    return jax.tree.map(lambda leaf: leaf[number], stacked)


def shuffle(x, factor):
    """Channel c f f + i f + j is pixel (i, j) of its cell."""
    n, height, width, channels = x.shape
    out = np.zeros((n, factor * height, factor * width, channels // factor**2), x.dtype)
    for k in range(channels):
        c, cell = divmod(k, factor**2)
        i, j = divmod(cell, factor)
        out[:, i::factor, j::factor, c] = x[..., k]
    return out


def norm_by_hand(x, layer, stats):
    layer, stats = ({k: np.asarray(v, np.float64) for k, v in d.items()} for d in (layer, stats))
    return (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * layer["scale"] + layer["bias"]


def stack_by_hand(x, params, stats, convolutions):
    y = np.maximum(conv(x, params["conv_0"]), 0)
    for i in range(1, convolutions - 1):
        y = conv(y, params[f"conv_{i}"])
        y = np.maximum(norm_by_hand(y, params[f"bn_{i}"], stats[f"bn_{i}"]), 0)
    return conv(y, params[f"conv_{convolutions - 1}"])


def check(module, inputs, by_hand, **kwargs):
    variables = drawn(module, *inputs)
    expected = by_hand(*(a.astype(np.float64) for a in inputs), exact(variables["params"]))
    actual = quick_jit(functools.partial(module.apply, **kwargs))(variables, *inputs)
    assert actual.dtype == jnp.float32
    assert expected.std() > 1e-3
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    return variables, expected
