"""Orientations, against NumPy's rotations and flips."""

import numpy as np
import pytest

from lcdnet_jax.inference import self_ensemble


def test_orientations_are_the_symmetries_of_a_square(rng):
    x = rng.random((1, 3, 5, 3), np.float32)
    found = [
        self_ensemble.orient(x, orientation, two_views=False).tobytes()
        for orientation in self_ensemble.orientations(two_views=False)
    ]
    expected = [
        np.rot90(image, turns, axes=(1, 2)).tobytes()
        for image in (x, x[:, :, ::-1])
        for turns in range(4)
    ]
    assert len(found) == 8
    assert set(found) == set(expected)
    assert found[0] == x.tobytes()


def test_two_views_are_swapped_and_not_transposed(rng):
    x = rng.random((1, 3, 5, 6), np.float32)
    swapped = np.concatenate([x[..., 3:], x[..., :3]], axis=-1)
    found = [
        self_ensemble.orient(x, orientation, two_views=True)
        for orientation in self_ensemble.orientations(two_views=True)
    ]
    expected = [x, swapped[:, :, ::-1], x[:, ::-1], swapped[:, ::-1, ::-1]]
    for image, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(image, wanted)


@pytest.mark.parametrize("orientation", self_ensemble.orientations(two_views=False))
def test_revert(rng, orientation):
    x = rng.random((2, 3, 5, 1), np.float32)
    turned = self_ensemble.orient(x, orientation, two_views=False)
    np.testing.assert_array_equal(self_ensemble.revert(turned, orientation), x)
