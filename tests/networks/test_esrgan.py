"""The discriminator of ESRGAN against a slow reference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import networks
from tests.networks.by_hand import (
    assert_fills,
    conv,
    dense,
    drawn,
    exact,
    image,
    lrelu,
    quick_jit,
)


def discriminator_by_hand(x, p, normalize):
    for i in range(5):
        x = conv(x, p[f"conv{i}_0"])
        x = lrelu(normalize(x, f"bn{i}_0") if i else x)
        x = lrelu(normalize(conv(x, p[f"conv{i}_1"], 2), f"bn{i}_1"))
    return dense(lrelu(dense(x.reshape(len(x), -1), p["linear1"])), p["linear2"])[:, 0]


class TestDiscriminator:
    MODULE = networks.Discriminator(channels=3, size=64, features=2)
    X = image(4, 64, 64, 3)

    @functools.cached_property
    def variables(self):
        return drawn(self.MODULE, self.X)

    def by_hand(self, stats):
        """``stats`` of a layer and its input: mean and variance."""
        params = exact(self.variables["params"])

        def normalize(y, name):
            mean, var = stats(y, name)
            return (y - mean) / np.sqrt(var + 1e-5) * params[name]["scale"] + params[name]["bias"]

        return discriminator_by_hand(self.X.astype(np.float64), params, normalize)

    def test_by_hand(self):
        kept = exact(self.variables["batch_stats"])
        expected = self.by_hand(lambda _, name: (kept[name]["mean"], kept[name]["var"]))
        actual = quick_jit(self.MODULE.apply)(self.variables, self.X)
        assert actual.shape == (4,)
        assert expected.std() > 1e-3
        np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())

    def test_training_by_hand(self):
        seen = {}

        def stats(y, name):
            seen[name] = y.mean((0, 1, 2)), y.var((0, 1, 2))
            return seen[name]

        expected = self.by_hand(stats)
        apply = functools.partial(self.MODULE.apply, train=True, mutable=["batch_stats"])
        actual, updates = quick_jit(apply)(self.variables, self.X)
        np.testing.assert_allclose(actual, expected, atol=1e-3 * np.abs(expected).max())
        old = self.variables["batch_stats"]
        assert set(updates["batch_stats"]) == set(seen)
        for name, new in updates["batch_stats"].items():
            for kind, value in zip(("mean", "var"), seen[name], strict=True):
                np.testing.assert_allclose(
                    new[kind], 0.9 * old[name][kind] + 0.1 * value, rtol=1e-4, atol=1e-5
                )

    @pytest.mark.extended
    def test_statistics_are_shared_over_the_mapped_axis(self):
        apply = functools.partial(
            self.MODULE.apply, self.variables, train=True, mutable=["batch_stats"]
        )
        y, together = quick_jit(apply)(self.X)
        parts = jax.vmap(functools.partial(apply, axis_name="i"), axis_name="i")
        mapped, apart = quick_jit(parts)(self.X.reshape(2, 2, 64, 64, 3))
        np.testing.assert_allclose(mapped.reshape(-1), y, atol=1e-4)
        for one, both in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
            np.testing.assert_allclose(both, np.stack([one, one]), rtol=1e-4, atol=1e-5)

    def test_gradients_reach_the_image(self):
        def loss(x):
            return self.MODULE.apply(self.variables, x).mean()

        gradient = quick_jit(jax.grad(loss))(self.X)
        assert np.isfinite(gradient).all()
        assert (np.asarray(gradient) != 0).mean() > 0.9

    def test_bfloat16_gives_float32_logits(self):
        module = self.MODULE.clone(dtype=jnp.bfloat16)
        logits = jax.eval_shape(module.apply, self.variables, self.X)
        assert (logits.shape, logits.dtype) == ((4,), jnp.float32)


@pytest.mark.extended
def test_initialization():
    module = networks.Discriminator(size=32, features=4)
    variables = quick_jit(module.init)(jax.random.key(0), image(1, 32, 32, 1))
    params = variables["params"]
    assert [name for name in params if "bias" in params[name] and "conv" in name] == ["conv0_0"]
    assert_fills(params["conv1_1"]["kernel"], (16 * 8) ** -0.5)
    assert_fills(params["linear1"]["kernel"], 32**-0.5)
    assert_fills(params["linear1"]["bias"], 32**-0.5)
    np.testing.assert_array_equal(params["bn4_1"]["scale"], np.ones(32))
    np.testing.assert_array_equal(params["bn4_1"]["bias"], np.zeros(32))
