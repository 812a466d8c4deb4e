"""Windows on several devices, of which the tests have eight fake ones."""

import jax
import numpy as np
import pytest

from lcdnet_jax import Restorer, networks
from lcdnet_jax.inference.program import Program
from tests.guards.cases import NETWORKS


def random_variables(module):
    shapes = networks.abstract_variables(module)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, "f"), shapes)
    variables["params"] = jax.tree.map(
        lambda leaf: 0.05 * rng.normal(size=leaf.shape).astype("f"), shapes["params"]
    )
    return variables


@pytest.fixture(scope="module")
def sadnet():
    module = networks.create("sadnet", preset="small", width=4, offset_width=4)
    return module, random_variables(module)


def watch(restorer, monkeypatch):
    """The number of windows and the devices of each call."""
    calls, run = [], restorer._program.run

    def spy(variables, windows):
        result = run(variables, windows)
        calls.append((len(windows), {shard.device for shard in result.addressable_shards}))
        return result

    monkeypatch.setattr(restorer._program, "run", spy)
    return calls


def four_devices(restorer):
    restorer._program.devices = tuple(jax.devices()[4:])
    return restorer


@pytest.mark.extended
@pytest.mark.parametrize("tile_batch", [None, 2])
def test_tiles_on_four_devices(rng, sadnet, monkeypatch, tile_batch):
    """The same pixels as on one, bit by bit; each device computes."""
    options = {"tile": 64, "overlap": 8, "tile_batch": tile_batch}
    one = Restorer(*sadnet, **options, device="cpu")
    four = four_devices(Restorer(*sadnet, **options))
    calls = watch(four, monkeypatch)
    for shape in ((150, 90, 3), (70, 40)):
        image = rng.integers(0, 256, shape).astype(np.uint8) / np.float32(255)
        np.testing.assert_array_equal(four(image), one(image))
    assert calls == [(4 * (tile_batch or 1), set(jax.devices()[4:]))] * len(calls)
    assert len(calls) >= 2


@pytest.mark.extended
def test_images_on_four_devices(rng, sadnet, monkeypatch):
    """Images of equal padded size, type and channels; others run alone."""
    one, four = Restorer(*sadnet, device="cpu"), four_devices(Restorer(*sadnet))
    calls = watch(four, monkeypatch)
    images = [rng.integers(0, 256, (50 + i, 60, 3), np.uint8) for i in range(5)]
    images += [rng.random((60, 64, 4), np.float32), rng.random((60, 64), np.float32)]
    images += [rng.random((70, 64, 3), np.float32), rng.random((60, 64, 3), np.float32)]
    for found, expected in zip(four(images), one(images), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    everywhere, first = set(jax.devices()[4:]), {jax.devices()[4]}
    # 4 of uint8, 1 filled up for their program; alpha, gray, 96 x 64 and another alone.
    assert calls == [(4, everywhere), (4, everywhere), *[(1, first)] * 4]


def test_default_device(sadnet):
    assert Program(sadnet[0], None).devices == tuple(jax.local_devices())
    with jax.default_device(jax.devices()[2]):
        assert Program(sadnet[0], None).devices == (jax.devices()[2],)
    with jax.default_device("cpu"):
        assert Program(sadnet[0], None).devices == (jax.devices()[0],)
    assert Program(sadnet[0], jax.devices()[3]).devices == (jax.devices()[3],)


@pytest.mark.extended
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("lcdnet", "restormer") else name
        for name in networks.available()
    ],
)
def test_every_network_on_two_devices(rng, name):
    module = networks.create(name, **NETWORKS[name])
    variables = random_variables(module)
    images = rng.random((2, 33, 40, module.channels), np.float32)
    options = {"bucket": 32}
    both = Restorer(module, variables, **options)
    both._program.devices = tuple(jax.devices()[:2])
    expected = Restorer(module, variables, **options, device="cpu")(images)
    np.testing.assert_allclose(both(images), expected, rtol=0, atol=1e-6)


def test_each_type_has_a_program(sadnet):
    program = Program(sadnet[0], jax.devices()[0])
    shape, float32 = (1, 32, 32, 3), np.dtype(np.float32)
    variables = program.place(sadnet[1])
    assert not program.is_compiled(shape, float32)
    program.run(variables, np.zeros(shape, float32))
    assert program.is_compiled(shape, float32)
    assert not program.is_compiled(shape, np.dtype(np.uint8))
    assert not program.is_compiled((2, *shape[1:]), float32)
