"""Layers that several networks share, against slow references."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lcdnet_jax.networks import _blocks
from tests.networks.by_hand import (
    conv,
    drawn,
    exact,
    image,
    relu,
    shuffle,
    sigmoid,
)


@pytest.mark.parametrize(("size", "side"), [(5, (6, 8)), (5, (7, 5)), (5, (1, 1)), (4, (6, 8))])
def test_stride_two_pads_as_pytorch(size, side):
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return _blocks.conv_down(x, 3, size, dtype=jnp.float32, name="conv")

    before = {5: 2, 4: 1}[size]
    x = image(1, *side, 2)
    variables = drawn(Layer(), x)
    kernel, bias = (np.asarray(variables["params"]["conv"][k]) for k in ("kernel", "bias"))
    out = [(length + 2 * before - size) // 2 + 1 for length in side]
    expected = np.zeros((*out, 3)) + bias
    for row, column in np.ndindex(*out):
        for i, j in np.ndindex(size, size):
            r, c = 2 * row + i - before, 2 * column + j - before
            if 0 <= r < side[0] and 0 <= c < side[1]:
                expected[row, column] += x[0, r, c] @ kernel[i, j]
    actual = Layer().apply(variables, x)
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
    means = x.astype(np.float64).mean((1, 2), keepdims=True)
    weights = sigmoid(conv(relu(conv(means, p["conv_du_0"])), p["conv_du_2"]))
    assert weights.shape == (2, 1, 1, 32)
    np.testing.assert_allclose(layer.apply(variables, x), x * weights, atol=1e-6)
