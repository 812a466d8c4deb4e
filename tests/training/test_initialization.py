"""The draws of an initialization, made apart from the rest, give the same bits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax.training.initialization import split_draws

OPTIONS = {"xla_backend_optimization_level": 0}
INITIALIZERS = {
    "kaiming": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "lecun": nn.initializers.lecun_normal(),
    "torch": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
}


def initialize(key):
    """Arrays of each initializer, one in a stack, and work that none of them needs."""
    keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(INITIALIZERS)}
    arrays = {name: init(keys[name], (3, 5, 7)) for name, init in INITIALIZERS.items()}
    jnp.cumsum(arrays["lecun"])
    split = jax.random.split(key)[1]
    stack = jnp.stack([INITIALIZERS["lecun"](split, (2, 51)), jnp.ones((2, 51))])
    return {**arrays, "stack": stack}


@pytest.mark.extended  # compiles two programs
def test_split_draws():
    traced = jax.jit(initialize).trace(jax.random.key(0))
    draw, finish = split_draws(traced.jaxpr, OPTIONS)
    key = jax.random.key(7)
    numbers = draw(key)
    # Sizes are rounded up to powers of 4, so that arrays of 102 and of 105 share a program.
    assert sorted(x.size for x in numbers) == [256] * 4
    found = jax.jit(finish, compiler_options=OPTIONS)(key, numbers)
    expected = jax.tree.leaves(jax.jit(initialize, compiler_options=OPTIONS)(key))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    rest = str(jax.make_jaxpr(finish)(key, numbers))
    for left_out in ("_truncated_normal", "_normal", "_uniform", "cumsum"):
        assert left_out in str(traced.jaxpr)
        assert left_out not in rest


def test_draws_with_several_keys_are_not_split():
    """As flax.linen.vmap makes them."""

    def initialize(key):
        return jax.vmap(lambda one: jax.random.uniform(one, (4,)))(jax.random.split(key, 3))

    key = jax.random.key(7)
    draw, finish = split_draws(jax.make_jaxpr(initialize)(key), OPTIONS)
    assert draw(key) == []
    np.testing.assert_array_equal(finish(key, [])[0], initialize(key))
