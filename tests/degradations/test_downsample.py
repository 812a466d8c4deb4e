"""Decimation, against scipy and positions known by hand."""

import functools

import jax
import numpy as np
import pytest
from scipy import ndimage

from lcdnet_jax import degradations

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
gaussian_kernels = quick_jit(degradations.gaussian_kernels, static_argnames="size")
downsample = quick_jit(degradations.downsample, static_argnames="factor")


@pytest.mark.parametrize(("factor", "size"), [(1, 5), (3, 7)])
def test_odd_factors(rng, factor, size):
    """Every third result of scipy's convolution, from the middle of the first block on."""
    images = rng.random((2, 10, 13, 3), np.float32)
    kernels = rng.random((2, size, size), np.float32)
    kernels /= kernels.sum(axis=(1, 2), keepdims=True)
    actual = np.asarray(downsample(images, kernels, factor=factor))
    # Mirrored on, so that the last, incomplete block has a middle.
    larger = np.pad(images, ((0, 0), (9, 9), (9, 9), (0, 0)), mode="reflect").astype(np.float64)
    full = np.stack(
        [
            np.stack([ndimage.convolve(x[..., c], k) for c in range(3)], axis=-1)
            for x, k in zip(larger, kernels.astype(np.float64), strict=True)
        ]
    )
    start = 9 + factor // 2
    rows, columns = -(-10 // factor), -(-13 // factor)
    expected = full[:, start::factor, start::factor][:, :rows, :columns]
    np.testing.assert_allclose(actual, expected, atol=2e-6)


@pytest.mark.parametrize("factor", [2, 4])
def test_even_factors(factor):
    """The mean of a block where the kernel is one, and the middle of a block on a ramp."""
    ramp = np.arange(12, dtype=np.float32)[None, :, None, None] * np.ones((1, 1, 8, 1), np.float32)
    block = np.full((1, factor, factor), 1 / factor**2, np.float32)
    expected = ramp.reshape(1, 12 // factor, factor, 8, 1).mean(axis=2)[:, :, ::factor]
    np.testing.assert_allclose(downsample(ramp, block, factor=factor), expected, atol=1e-5)
    kernel = gaussian_kernels(np.float32([[0.5, 0.5]]), np.zeros(1), size=factor + 2)
    actual = np.asarray(downsample(ramp, kernel, factor=factor))
    np.testing.assert_allclose(actual[:, 1:-1], expected[:, 1:-1], atol=1e-4)


@pytest.mark.extended
def test_kernels_that_do_not_fit(rng):
    image = np.zeros((1, 8, 8, 1), np.float32)
    for shape in ((1, 3, 3), (1, 1, 1), (2, 4, 4), (1, 4, 6), (4, 4)):
        with pytest.raises(ValueError, match=r"expected kernels \[1, K, K\] with K = 2, 4, ..."):
            degradations.downsample(image, np.zeros(shape, np.float32), factor=2)


def test_random_kernels():
    """Of a point; half of them have one width."""
    count = 40
    points = np.zeros((count, 31, 31, 1), np.float32)
    points[:, 15, 15] = 1
    draw = functools.partial(degradations.gaussian_downsample, factor=1, width=(1.0, 3.0))
    keys = jax.random.split(jax.random.key(0), count)
    kernels = np.asarray(quick_jit(draw)(keys, points), np.float64)[..., 0]
    np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1, atol=1e-5)
    places = np.mgrid[-15:16, -15:16]
    covariance = np.einsum("nij,aij,bij->nab", kernels, places, places)
    narrow, wide = np.sqrt(np.linalg.eigvalsh(covariance)).T
    assert narrow.min() > 0.95
    assert wide.max() < 3.05
    assert wide.max() - narrow.min() > 1.5
    round_ones = (wide - narrow < 0.02).sum()
    assert 10 < round_ones < 30
