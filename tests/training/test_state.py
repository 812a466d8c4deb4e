"""The state of a training: its parts, its start, and the variables for inference."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from lcdnet_jax.training.state import StateCreator, TrainState, abstract_state, create_state
from tests.training.conv_net import ConvNet

TX = optax.adam(1e-3)


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def state():
    return create_state(jax.random.key(3), ConvNet(), TX, ema=True)


def test_start(state):
    assert int(state.step) == 0
    expected = ConvNet().init(jax.random.key(3), jnp.zeros((1, 8, 8, ConvNet().channels)))
    for one, other in zip(leaves(state.params), leaves(expected["params"]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    same(state.ema, state.params)
    same(state.opt_state, TX.init(state.params))
    assert (state.critic, state.features) == (None, None)


def test_start_from_variables(state):
    variables = {"params": jax.tree.map(jnp.ones_like, state.params)}
    started = create_state(jax.random.key(3), ConvNet(), TX, ema=False, variables=variables)
    same(started.params, variables["params"])
    assert started.ema is None
    assert started.batch_stats == {}


def test_extra_state_does_not_change_the_network(state):
    extra = {}

    def init_extra_state(key):
        extra["key"] = key
        return {"features": jax.random.normal(key, (3,))}

    found = create_state(
        jax.random.key(3), ConvNet(), TX, ema=True, init_extra_state=init_extra_state
    )
    same(found.params, state.params)
    expected = jax.random.normal(jax.random.fold_in(jax.random.key(3), 1), (3,))
    np.testing.assert_allclose(found.features, expected, rtol=1e-6)


def test_abstract_state(state):
    shapes = abstract_state(ConvNet(), TX, ema=True)
    assert jax.tree.structure(shapes) == jax.tree.structure(state)
    for shape, leaf in zip(jax.tree.leaves(shapes), jax.tree.leaves(state), strict=True):
        assert isinstance(shape, jax.ShapeDtypeStruct)
        assert (shape.shape, shape.dtype) == (leaf.shape, leaf.dtype)


def test_the_network_is_traced_once(state):
    calls = []

    class Counted(ConvNet):
        def __call__(self, x, **options):
            calls.append(x.shape)
            return ConvNet.__call__(self, x, **options)

    devices = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    creator = StateCreator(
        Counted(), TX, ema=True, get_sharding=lambda tree: jax.tree.map(lambda _: devices, tree)
    )
    assert jax.tree.structure(creator.abstract()) == jax.tree.structure(state)
    same(creator.create(jax.random.key(3)), state)
    assert len(calls) == 1


class Critic(struct.PyTreeNode):
    params: dict
    opt_state: dict
    batch_stats: dict


def make(**fields):
    parts = {"params": {"x": 1.0}, "opt_state": {"m": 2.0}, "batch_stats": {}, "ema": None}
    return TrainState(jnp.int32(5), **{**parts, **fields})


def test_items_are_without_empty_trees():
    assert make().items() == {"params": {"x": 1.0}, "opt_state": {"m": 2.0}}
    critic = Critic({"y": 3.0}, {}, {})
    items = make(critic=critic, ema={"x": 4.0}, features={"z": 6.0}).items()
    assert set(items) == {"params", "opt_state", "ema", "critic"}
    assert items["critic"] == {"params": {"y": 3.0}, "opt_state": {}, "batch_stats": {}}


def test_variables():
    assert make().variables() == {"params": {"x": 1.0}}
    found = make(ema={"x": 4.0}, batch_stats={"mean": 7.0}).variables()
    assert found == {"params": {"x": 4.0}, "batch_stats": {"mean": 7.0}}


def test_map_weights():
    critic = Critic({"y": 3.0}, {"n": 8.0}, {})
    state = make(critic=critic, ema={"x": 4.0}, features={"z": 6.0})
    mapped = state.map_weights(lambda tree: jax.tree.map(lambda leaf: -leaf, tree))
    assert mapped.params == {"x": -1.0}
    assert mapped.features == {"z": -6.0}
    assert mapped.critic == Critic({"y": -3.0}, {"n": 8.0}, {})
    assert (mapped.ema, mapped.opt_state) == ({"x": 4.0}, {"m": 2.0})


def test_with_features():
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    state = make()
    assert state.with_features(None, None) is state
    features = {"z": np.arange(3.0, dtype=np.float32)}
    placed = state.with_features(features, lambda tree: jax.tree.map(lambda _: device, tree))
    same(placed.features, features)
    assert placed.features["z"].sharding == device
