"""The step on several devices, under every strategy: the numbers of one device, and no traffic."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

from benchmarks.check_parallel import exchanges
from configs import tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax import networks
from lcdnet_jax.config import ConfigError
from lcdnet_jax.networks import _lcdnet_blocks, lcdnet, registered
from lcdnet_jax.resident_images import ResidentImages
from lcdnet_jax.training.program import compile_program
from lcdnet_jax.training.progress import CompilationCounter
from lcdnet_jax.training.sharding import Partitioner
from lcdnet_jax.training.state import abstract_state

pytestmark = pytest.mark.usefixtures("quickly_compiled")


class NormNet(networks.RestorationNetwork):
    """Batch normalization, whose statistics must be those of the global batch."""

    channels: int = 3
    norm: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        y = nn.Conv(48, (3, 3))(x)
        if self.norm:
            y = nn.BatchNorm(use_running_average=not train, axis_name=axis_name)(y)
        return x + nn.Conv(self.channels, (3, 3))(nn.relu(y))


class FourierNet(networks.RestorationNetwork):
    """A block of LCDNet with its Fourier transforms; the whole network takes minutes to compile.

    ``benchmarks/check_parallel.py`` does with the whole what is done here with a block.
    """

    channels: int = 3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        shared = _lcdnet_blocks.Shared(
            dtype=self.dtype,
            norm_eps=1e-6,
            layer_scale_init=1.0,  # else the block starts as the identity
            global_branch="fourier_unit",
            fourier="fft",
            block="mssf",
        )
        y = nn.Conv(16, (3, 3))(x)
        y = lcdnet.HSFSBlock(1, (3, 5), 8, "sk", "branch", None, False, shared)(y)
        return x + nn.Conv(self.channels, (3, 3))(y)


@pytest.fixture(scope="module", autouse=True)
def by_name():
    """Networks are taken by name."""
    with registered("norm", NormNet), registered("fourier", FourierNet):
        yield


def config_of(network, **fields):
    config = tiny.get_config()
    if network == "sadnet":
        config.network.kwargs.use_context = False  # quicker to compile
    else:
        config.network = ConfigDict({"name": network, "kwargs": {}, "dtype": "float32"})
    config.degradation.sigma_min = 10.0  # per-image levels and noise must agree as well
    config.update_from_flattened_dict(fields)
    config_lib.validate(config)
    return config


def batch_of(size=16, count=8):
    clean = np.random.default_rng(0).uniform(size=(count, size, size, 3)).astype(np.float32)
    return {"clean": clean, "mask": np.ones(count, np.float32)}


def images(count=5):
    rng = np.random.default_rng(0)
    return ResidentImages.from_arrays(
        [rng.integers(0, 256, (19 + i, 40 - i, 3), np.uint8) for i in range(count)]
    )


# Adam would hide a wrong scale of the gradients.
TX = optax.sgd(0.01)


def drawn(module):
    """A state without compiling the initialization."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return np.zeros(leaf.shape, leaf.dtype)
        fan_in = max(1, math.prod(leaf.shape[:-1]))
        value = rng.normal(0, fan_in**-0.5, leaf.shape)
        return (np.abs(value) if path[-1].key in ("scale", "var") else value).astype(leaf.dtype)

    state = jax.tree_util.tree_map_with_path(draw, abstract_state(module, TX, ema=True))
    return state.replace(ema=state.params)


class Run:
    """One call of the program on so many devices."""

    def __init__(self, config, devices, state=None):
        self.partitioner = partitioner = Partitioner.from_config(config, jax.devices()[:devices])
        module = config_lib.network(config)
        self.start = state = drawn(module) if state is None else state
        placed = jax.device_put(state, partitioner.get_state_sharding(state))
        program = compile_program(module, TX, config, partitioner, placed)
        if config.data.where == "device":
            given = partitioner.replicate(images())
        else:
            given = partitioner.put_batches([batch_of()] * config.steps_per_call)
        self.text = ""
        compiled = program.lower(placed, given).compile()
        if config.parallel.strategy == "jit":
            self.text = compiled.as_text()
        compilations = CompilationCounter()
        with compilations.watch():
            self.state, self.metrics = program(placed, given)
        assert compilations.count == 0  # a call takes what was compiled before

    def exchanges(self):
        """How many numbers are summed over devices, and how many other exchanges there are."""
        return exchanges(self.text)


def assert_same(one, other, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(one.state), jax.tree.leaves(other.state), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
    for key in ("loss", "psnr", "grad_norm"):
        np.testing.assert_allclose(one.metrics[key], other.metrics[key], rtol=1e-5)


@pytest.mark.extended
@pytest.mark.parametrize(
    "network",
    ["norm", *(pytest.param(n, marks=pytest.mark.slow) for n in ("fourier", "sadnet"))],
)
def test_eight_devices_give_the_numbers_of_one(network):
    one = Run(config_of(network), 1)
    moved = [
        np.abs(a - b).max()
        for a, b in zip(
            jax.tree.leaves(one.start.params), jax.tree.leaves(one.state.params), strict=True
        )
    ]
    assert max(moved) > 1e-3  # or equality would mean nothing

    many = Run(config_of(network), 8, one.start)
    assert_same(one, many)
    summed, others = many.exchanges()
    assert others == 0
    # Each gradient once, and a few numbers: loss, PSNR, sizes of masks, batch statistics.
    parameters = sum(x.size for x in jax.tree.leaves(one.start.params))
    statistics = 2 * sum(x.size for x in jax.tree.leaves(one.start.batch_stats))
    assert parameters <= summed <= parameters + statistics + 30

    assert_same(one, Run(config_of(network, **{"parallel.strategy": "pmap"}), 8, one.start))


@pytest.mark.extended
def test_divided_state():
    """Each device holds a part of the large arrays; the numbers stay."""
    one = Run(config_of("norm"), 1)
    divided = Run(config_of("norm", **{"parallel.state_shards": 4}), 8, one.start)
    assert_same(one, divided)
    kernel = divided.state.params["Conv_0"]["kernel"]
    assert kernel.shape == (3, 3, 3, 48)
    assert kernel.addressable_shards[0].data.shape == (3, 3, 3, 12)
    averaged = divided.state.ema["Conv_1"]["kernel"]
    assert averaged.addressable_shards[0].data.shape == (3, 3, 12, 3)
    assert divided.exchanges()[1] > 0  # parameters are gathered
    assert divided.state.params["Conv_0"]["bias"].sharding.is_fully_replicated
    whole = divided.partitioner.fetch(divided.state.params)
    np.testing.assert_array_equal(whole["Conv_0"]["kernel"], kernel)
    with pytest.raises(
        ConfigError, match=r"state_shards 3 does not divide the number of devices \(8\)"
    ):
        Partitioner.from_config(config_of("norm", **{"parallel.state_shards": 3}))


@pytest.mark.extended
@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_batches_drawn_on_the_devices(strategy):
    fields = {"data.where": "device", "data.crop": 16}
    one = Run(config_of("norm", **fields), 1)
    many = Run(config_of("norm", **fields, **{"parallel.strategy": strategy}), 8, one.start)
    assert_same(one, many)
    assert many.exchanges()[1] == 0


@pytest.mark.extended
@pytest.mark.parametrize(("strategy", "where"), [("jit", "device"), ("pmap", "host")])
def test_several_steps_in_one_call(strategy, where):
    """As many calls of one step give the same, and metrics of each step come back."""
    fields = {"data.where": where, "parallel.strategy": strategy}
    fields |= {"log_every": 4, "steps_per_call": 2}
    both = Run(config_of("norm", **fields), 8)
    assert int(both.state.step) == 2
    assert both.metrics["loss"].shape == (2,)
    fields["steps_per_call"] = 1
    first = Run(config_of("norm", **fields), 8, both.start)
    second = Run(config_of("norm", **fields), 8, jax.device_get(first.state))
    for i, run in enumerate((first, second)):
        np.testing.assert_allclose(both.metrics["loss"][i], run.metrics["loss"], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(both.state), jax.tree.leaves(second.state), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.extended
def test_accumulation_on_several_devices():
    """Without batch normalization, whose statistics are those of a part."""
    plain = config_of("norm")
    plain.network.kwargs = ConfigDict({"norm": False})
    one = Run(plain, 1)
    plain.accumulate = 2
    assert_same(one, Run(plain, 4, one.start))
    plain.parallel.strategy = "pmap"
    assert_same(one, Run(plain, 4, one.start))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"batch_size": 12},
            "not divisible by the number of devices .8.; use a multiple of 8 as batch_size",
        ),
        ({"batch_size": 8, "accumulate": 2}, "use a multiple of 16 as batch_size"),
    ],
)
def test_batches_that_the_devices_cannot_share(fields, message):
    with pytest.raises(ConfigError, match=message):
        Partitioner.from_config(config_of("norm", **fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parallel.strategy": "shmap"}, "strategy must be one of 'jit', 'pmap'"),
        ({"parallel.strategy": "pmap", "parallel.state_shards": 2}, "pmap' keeps the whole state"),
        ({"steps_per_call": 3}, r"config.steps \(8\) is not a multiple"),
        ({"steps_per_call": 4}, r"config.log_every \(2\) is not a multiple"),
        ({"data.where": "device", "degradation.where": "host"}, "never see the host"),
        ({"data.where": "device", "steps": 2**28}, r"reaches 2\^31"),
        ({"data.where": "device", "data.cache_dir": "x"}, r"cache_dir \(x\) is for batches of the"),
        (
            {"data.where": "device", "data.encoded_cache_gb": 1.0},
            r"encoded_cache_gb \(1\.0\) is for batches of the host",
        ),
    ],
)
def test_fields_that_do_not_go_together(fields, message):
    with pytest.raises(ConfigError, match=message):
        config_of("norm", **fields)
