"""Two views as six channels."""

import jax.numpy as jnp
import numpy as np

from lcdnet_jax.ops import two_views


def test_clean_channels():
    assert [two_views.clean_channels(channels) for channels in (1, 3, 6)] == [1, 3, 3]


def test_mean_of_views(rng):
    left, right = rng.random((2, 4, 5, 3), np.float32)
    both = np.concatenate([left, right], axis=-1)
    expected = np.mean([left, right], axis=0)
    for x in (both, jnp.asarray(both)):
        mean = two_views.mean_of_views(x)
        assert isinstance(mean, type(x))
        np.testing.assert_allclose(mean, expected, rtol=1e-6)
