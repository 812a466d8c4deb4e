"""Layers by rows give what they give for the whole image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import ops
from lcdnet_jax.ops import rows


@pytest.mark.parametrize("height", [4, 9, 12, 17])
@pytest.mark.parametrize("planes", [False, True])
def test_zero_padded_layers(rng, monkeypatch, height, planes):
    """Two convolutions, the second of what is not zero outside of the image."""
    monkeypatch.setattr(rows, "_PIXELS", 8)
    kernels = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((3, 3, 2, 4), (3, 3, 4, 3))]
    x = jnp.asarray(rng.normal(size=(2, height, 4, 2)), jnp.float32)

    def convolve(part, keep_inside):
        first = keep_inside(1 + ops.conv2d(part, kernels[0]))
        return ops.conv2d(first, kernels[1])

    def convolve_planes(part, keep_inside):
        part, keep = jnp.moveaxis(part, 1, 3), keep_inside
        first = keep(jnp.moveaxis(1 + ops.conv2d(part, kernels[0]), 3, 1))
        return jnp.moveaxis(ops.conv2d(jnp.moveaxis(first, 1, 3), kernels[1]), 3, 1)

    def run(x):
        layers = convolve_planes if planes else convolve
        x = jnp.moveaxis(x, 3, 1) if planes else x
        y = rows.apply_by_rows(layers, x, channels=3, reach=2, planes=planes)
        return jnp.moveaxis(y, 1, 3) if planes else y

    expected = convolve(x, lambda y: y)
    assert "while" not in jax.jit(lambda x: run(x)).lower(x).as_text()
    with rows.split_large_images():
        split = jax.jit(run)
        assert ("while" in split.lower(x).as_text()) == (height * 4 >= 4 * 2 * 8)
        np.testing.assert_allclose(split(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("planes", [False, True])
def test_layers_of_single_pixels(rng, monkeypatch, planes):
    monkeypatch.setattr(rows, "_PIXELS", 8)
    x = jnp.asarray(rng.normal(size=(1, 11, 11, 11)), jnp.float32)
    with rows.split_large_images():
        y = jax.jit(
            lambda x: rows.apply_by_rows(
                lambda part, _: jnp.exp(part), x, channels=11, reach=0, planes=planes
            )
        )(x)
    np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)


def test_rows_are_chosen_for_large_images_where_allowed():
    assert rows.choose_rows(1024, 1024) is None
    with rows.split_large_images():
        assert rows.choose_rows(1024, 1024) == 32
        assert rows.choose_rows(1024, 1024, reach=4) == 128
        assert rows.choose_rows(2, 100_000) == 1
        assert rows.choose_rows(128, 512) is None
    assert rows.choose_rows(1024, 1024) is None
