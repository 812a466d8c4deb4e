"""Layers that several networks share, against slow references."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import stats

from lcdnet_jax.networks import _blocks
from tests.networks.by_hand import (
    block_of,
    conv,
    drawn,
    exact,
    image,
    lrelu,
    quick_jit,
    relu,
    shuffle,
    sigmoid,
)


class Layer(nn.Module):
    """A function that creates parameters, as a module."""

    function: Callable

    @nn.compact
    def __call__(self, *inputs):
        return self.function(*inputs)


def assert_follows(values, law):
    """Kolmogorov and Smirnov: the chance of an error is below 1e-7."""
    values = np.ravel(values)
    assert stats.kstest(values, law.cdf).statistic < 3 / math.sqrt(values.size)


def uniform(limit):
    return stats.uniform(-limit, 2 * limit)


@pytest.mark.parametrize(("size", "side"), [(5, (6, 8)), (5, (7, 5)), (5, (1, 1)), (4, (6, 8))])
def test_stride_two_pads_as_pytorch(size, side):
    layer = Layer(lambda x: _blocks.conv_down(x, 3, size, dtype=jnp.float32, name="conv"))
    before = {5: 2, 4: 1}[size]
    x = image(1, *side, 2)
    variables = drawn(layer, x)
    kernel, bias = (np.asarray(variables["params"]["conv"][k]) for k in ("kernel", "bias"))
    out = [(length + 2 * before - size) // 2 + 1 for length in side]
    expected = np.zeros((*out, 3)) + bias
    for row, column in np.ndindex(*out):
        for i, j in np.ndindex(size, size):
            r, c = 2 * row + i - before, 2 * column + j - before
            if 0 <= r < side[0] and 0 <= c < side[1]:
                expected[row, column] += x[0, r, c] @ kernel[i, j]
    actual = layer.apply(variables, x)
    assert actual.shape == (1, *expected.shape)
    np.testing.assert_allclose(actual[0], expected, atol=1e-5)
    np.testing.assert_allclose(
        conv(x, exact(variables["params"]["conv"]), 2)[0], expected, atol=1e-5
    )


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_shuffle(factor):
    x = image(2, 3, 4, 2 * factor**2)
    y = _blocks.pixel_shuffle(jnp.asarray(x), factor)
    np.testing.assert_array_equal(y, shuffle(x, factor))


def test_pixel_unshuffle_is_the_inverse():
    x = image(2, 6, 8, 3)
    y = _blocks.pixel_unshuffle(jnp.asarray(x), 2)
    assert y.shape == (2, 3, 4, 12)
    np.testing.assert_array_equal(shuffle(np.asarray(y), 2), x)


@pytest.mark.parametrize("window", [3, 4, 7])
def test_means_of_windows_moved_inwards(window):
    x = image(2, 9, 6, 2)
    actual = _blocks.windowed_mean(jnp.asarray(x), window)
    tall, wide = min(window, 9), min(window, 6)
    for row, column in np.ndindex(9, 6):
        top = np.clip(row - (tall - 1) // 2, 0, 9 - tall)
        left = np.clip(column - (wide - 1) // 2, 0, 6 - wide)
        expected = x[:, top : top + tall, left : left + wide].mean((1, 2))
        np.testing.assert_allclose(actual[:, row, column], expected, atol=1e-6)


def test_large_windows_are_the_whole_image_and_constants_stay():
    x = jnp.asarray(image(2, 9, 6, 2))
    for window in (9, 100):
        np.testing.assert_array_equal(
            _blocks.windowed_mean(x, window), _blocks.windowed_mean(x, None)
        )
    constant = jnp.full((1, 9, 6, 2), 0.3)
    np.testing.assert_allclose(_blocks.windowed_mean(constant, 4), constant, rtol=1e-6)


def test_channel_attention_by_hand():
    layer = _blocks.ChannelAttention(_blocks.torch_conv, ("conv_du_0", "conv_du_2"))
    x = image(2, 3, 4, 32)
    variables = drawn(layer, x)
    p = exact(variables["params"])
    assert p["conv_du_0"]["kernel"].shape == (1, 1, 32, 2)
    assert p["conv_du_2"]["kernel"].shape == (1, 1, 2, 32)
    means = x.astype(np.float64).mean((1, 2), keepdims=True)
    weights = sigmoid(conv(relu(conv(means, p["conv_du_0"])), p["conv_du_2"]))
    assert weights.shape == (2, 1, 1, 32)
    np.testing.assert_allclose(quick_jit(layer.apply)(variables, x), x * weights, atol=1e-6)


def test_initial_kernels():
    shape, fan_in = (3, 3, 16, 500), 9 * 16
    kernel = quick_jit(lambda key: _blocks.kaiming_normal(key, shape))(jax.random.key(0))
    assert_follows(kernel, stats.norm(0, (2 / fan_in) ** 0.5))
    kernel = quick_jit(lambda key: _blocks.torch_default(key, shape))(jax.random.key(0))
    assert_follows(kernel, uniform(fan_in**-0.5))


def test_initial_scales_of_batch_norm():
    """So many that the law with 65 instead of 64 features would show."""
    draw = quick_jit(lambda key: _blocks.clipped_normal(key, (4_000_000,)))
    scales = np.asarray(draw(jax.random.key(0)))
    bound, law = np.float32(0.025), stats.norm(0, (2 / (9 * 64)) ** 0.5)
    assert (scales.min(), scales.max()) == (-bound, bound)
    inside = scales[:100_000][np.abs(scales[:100_000]) < bound]
    assert_follows(inside, stats.truncnorm(-0.025 / law.std(), 0.025 / law.std(), 0, law.std()))
    for clipped, chance in ((scales == bound, law.sf(0.025)), (scales == -bound, law.cdf(-0.025))):
        error = (chance * (1 - chance) / scales.size) ** 0.5
        assert abs(clipped.mean() - chance) < 5 * error


@pytest.mark.parametrize(
    ("function", "fan_in"),
    [
        (lambda x: _blocks.torch_conv(x, 900, dtype=jnp.float32, name="layer"), 9 * 2),
        (lambda x: _blocks.conv_down(x, 900, 5, dtype=jnp.float32, name="layer"), 25 * 2),
        (lambda x: _blocks.torch_dense(x, 900, dtype=jnp.float32, name="layer"), 2),
    ],
    ids=["torch_conv", "conv_down", "torch_dense"],
)
def test_layers_start_as_pytorchs(function, fan_in):
    init = quick_jit(Layer(function).init)
    layer = init(jax.random.key(0), image(1, 7, 9, 2))["params"]["layer"]
    assert_follows(layer["kernel"], uniform(fan_in**-0.5))
    assert_follows(layer["bias"], uniform(fan_in**-0.5))


def test_convolution_by_default():
    """3x3, not dilated, without bias, which starts as PyTorch's where there is one."""
    x = image(2, 4, 5, 3)
    layer = Layer(lambda x: _blocks.conv(x, 100, dtype=jnp.float32, name="conv"))
    variables = quick_jit(layer.init)(jax.random.key(0), x)
    (kernel,) = jax.tree.leaves(variables)
    assert kernel.shape == (3, 3, 3, 100)
    assert_follows(kernel, stats.norm(0, (2 / 27) ** 0.5))
    expected = conv(x.astype(np.float64), exact(variables["params"]["conv"]))
    np.testing.assert_allclose(quick_jit(layer.apply)(variables, x), expected, atol=1e-5)

    plain = _blocks.Conv(4, 3)  # with bias
    variables = drawn(plain, x)
    expected = conv(x.astype(np.float64), exact(variables["params"]))
    np.testing.assert_allclose(quick_jit(plain.apply)(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize(("scale", "factors"), [(2, (2,)), (3, (3,)), (4, (2, 2))])
@pytest.mark.parametrize(("activation", "by_hand"), [(_blocks.lrelu, lrelu), (None, None)])
def test_upsample_by_hand(scale, factors, activation, by_hand):
    options = {"activation": activation} if activation else {}
    layer = Layer(lambda x: _blocks.upsample(x, scale, dtype=jnp.float32, name="up", **options))
    x = image(2, 3, 4, 5)
    variables = drawn(layer, x)
    expected = x.astype(np.float64)
    for i, factor in enumerate(factors):
        expected = shuffle(conv(expected, exact(variables["params"][f"up_{2 * i}"])), factor)
        expected = by_hand(expected) if by_hand else expected
    assert expected.shape == (2, 3 * scale, 4 * scale, 5)
    assert expected.min() < 0
    np.testing.assert_allclose(quick_jit(layer.apply)(variables, x), expected, atol=1e-5)


def test_repeated_blocks_have_their_own_parameters():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, shift):
            return _blocks.torch_conv(x, 2, dtype=jnp.float32, name="conv") + shift

    layer = Layer(lambda x, shift: _blocks.repeat(Block(name="blocks"), x, 3, shift))
    x, shift = image(1, 3, 4, 2), image(1, 3, 4, 2) - np.float32(0.2)
    variables = quick_jit(layer.init)(jax.random.key(0), x, shift)
    stacked = exact(variables["params"]["blocks"]["conv"])
    assert stacked["kernel"].shape == (3, 3, 3, 2, 2)
    assert len(np.unique(stacked["kernel"])) > 0.9 * stacked["kernel"].size
    expected = x.astype(np.float64)
    for i in range(3):
        expected = conv(expected, block_of(stacked, i)) + shift
    np.testing.assert_allclose(quick_jit(layer.apply)(variables, x, shift), expected, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_batch_norm_by_hand(masked):
    """In training and after it, with variances as small as the constant beside them."""
    x = image(3, 4, 5, 2) * np.float32(0.01)
    mask = np.ones((3, 4, 5, 1), bool)
    if masked:
        mask[1:, 2:] = False

    def norm(x, train):
        return _blocks.batch_norm(
            x, train=train, axis_name=None, dtype=jnp.float32, name="bn",
            mask=jnp.asarray(mask) if masked else None,
        )  # fmt: skip

    layer = Layer(lambda x: norm(x, True))
    variables = drawn(layer, x)
    old = {"mean": np.float32([0.004, 0.002]), "var": np.float32([2e-5, 1e-5])}
    variables = {**variables, "batch_stats": {"bn": old}}
    p = exact(variables["params"]["bn"])
    y, updates = quick_jit(functools.partial(layer.apply, mutable=["batch_stats"]))(variables, x)
    pixels = x.astype(np.float64)[mask[..., 0]]
    mean, variance = pixels.mean(0), pixels.var(0)
    new = updates["batch_stats"]["bn"]
    np.testing.assert_allclose(new["mean"], 0.9 * old["mean"] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(new["var"], 0.9 * old["var"] + 0.1 * variance, rtol=1e-4)
    for found, (center, spread) in (
        (y, (mean, variance)),
        (quick_jit(Layer(lambda x: norm(x, False)).apply)(variables, x), (old["mean"], old["var"])),
    ):
        expected = (x - center) / np.sqrt(spread + 1e-5) * p["scale"] + p["bias"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_halving_and_depthwise_convolutions_by_hand():
    x = image(2, 4, 6, 3)
    variables = drawn(_blocks.Down(), x)
    p = exact(variables["params"])
    assert p["kernel"].shape == (2, 2, 3, 6)
    cells = [x[:, i::2, j::2] @ p["kernel"][i, j] for i in (0, 1) for j in (0, 1)]
    actual = quick_jit(_blocks.Down().apply)(variables, x)
    np.testing.assert_allclose(actual, sum(cells) + p["bias"], atol=1e-5)

    module = _blocks.Depthwise(3, 2)
    variables = drawn(module, x)
    p = exact(variables["params"])
    assert p["kernel"].shape == (3, 3, 1, 6)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(np.float64)
    expected = np.zeros((2, 4, 6, 6)) + p["bias"]
    for i, j, out in np.ndindex(3, 3, 6):  # two outputs of each input, one after the other
        expected[..., out] += padded[:, i : i + 4, j : j + 6, out // 2] * p["kernel"][i, j, 0, out]
    np.testing.assert_allclose(quick_jit(module.apply)(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_by_hand(bias):
    """With variances as small as the constant beside them; without bias the mean stays."""
    x = image(2, 3, 4, 5) * np.float32(0.01)
    module = _blocks.LayerNorm(1e-5, bias=bias)
    variables = drawn(module, x)
    p = exact(variables["params"])
    assert set(p) == ({"scale", "bias"} if bias else {"scale"})
    y = x.astype(np.float64)
    centered = y - y.mean(-1, keepdims=True)
    normal = (centered if bias else y) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
    expected = normal * p["scale"] + p.get("bias", 0)
    np.testing.assert_allclose(quick_jit(module.apply)(variables, x), expected, atol=1e-4)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_unshuffle(factor):
    x = image(2, 3 * factor, 4 * factor, 2)
    y = _blocks.pixel_unshuffle(jnp.asarray(x), factor)
    assert y.shape == (2, 3, 4, 2 * factor**2)
    np.testing.assert_array_equal(shuffle(np.asarray(y), factor), x)
