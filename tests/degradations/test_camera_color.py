"""Color matrices of cameras against float64 references of NumPy."""

import functools

import jax
import numpy as np
import pytest

from lcdnet_jax.degradations import camera_color as color

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def matrices():
    keys = jax.random.split(jax.random.key(0), 40)
    return np.asarray(quick_jit(color.draw_color_matrices)(keys))


def srgb_to_xyz():
    """From the primaries and the white point of sRGB (ITU-R BT.709, D65)."""
    corners = np.array([[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]])
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in corners]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    return xyz * np.linalg.solve(xyz, white)


def test_primaries():
    np.testing.assert_allclose(color._SRGB_TO_XYZ, srgb_to_xyz(), atol=2e-4)


def test_matrices_are_means_of_those_of_cameras(matrices):
    cameras = color._XYZ_TO_SENSOR @ srgb_to_xyz()
    cameras /= cameras.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(matrices.sum(axis=-1), 1, atol=1e-6)  # gray stays gray
    for matrix in matrices.astype(np.float64):
        system = np.vstack([cameras.reshape(4, 9).T, np.ones(4)])
        weights, *_ = np.linalg.lstsq(system, np.append(matrix.ravel(), 1), rcond=None)
        np.testing.assert_allclose(system[:9] @ weights, matrix.ravel(), atol=3e-4)
        assert weights.min() > -1e-3
    assert matrices.std(axis=0).max() > 0.01  # cameras differ


def test_share_of_the_distance_from_srgb():
    keys = jax.random.split(jax.random.key(0), 3)
    share = np.float32([0, 0.25, 1])
    mixed = np.asarray(quick_jit(color.draw_color_matrices)(keys, share))
    whole = np.asarray(quick_jit(color.draw_color_matrices)(keys))
    wanted = np.eye(3) + share[:, None, None] * (whole - np.eye(3))
    np.testing.assert_allclose(mixed, wanted, atol=1e-6)


def test_conversion_and_its_inverse(matrices, rng):
    light = rng.random((3, 5, 7, 3), np.float32)
    sensor = np.asarray(quick_jit(color.to_sensor)(light, matrices[:3]))
    again = np.asarray(quick_jit(color.from_sensor)(sensor, matrices[:3]))
    for n in range(3):
        wanted = light[n].astype(np.float64) @ matrices[n].astype(np.float64).T
        np.testing.assert_allclose(sensor[n], wanted, atol=1e-6)
        wanted = sensor[n].astype(np.float64) @ np.linalg.inv(matrices[n].astype(np.float64)).T
        np.testing.assert_allclose(again[n], wanted, atol=1e-5)
    np.testing.assert_allclose(again, light, atol=1e-5)


def test_covariance_of_noise(matrices, rng):
    """Equal noise of a sensor becomes that of M M^T: stronger, unequal and correlated."""
    noise = rng.standard_normal((1, 200, 201, 3)).astype(np.float32)
    developed = np.asarray(quick_jit(color.from_sensor)(noise, matrices[:1]), np.float64)
    inverse = np.linalg.inv(matrices[0].astype(np.float64))
    covariance = np.cov(developed.reshape(-1, 3).T)
    np.testing.assert_allclose(covariance, inverse @ inverse.T, atol=0.06)
    variance = np.diag(covariance)
    assert variance.min() > 1.3
    assert variance.max() > 1.1 * variance.min()
    assert covariance[0, 1] < -0.2 * np.sqrt(variance[0] * variance[1])


def test_gains():
    red, blue = np.float32([1.9, 2.2]), np.float32([1.5, 1.7])
    expected = np.float32([[1.9, 1, 1.5], [2.2, 1, 1.7]])[:, None, None]
    np.testing.assert_array_equal(color.balance_gains(red, blue), expected)
