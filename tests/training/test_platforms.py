"""Networks and training steps are lowered for TPU and CUDA on a CPU.

Lowering finds operations that JAX cannot translate for a platform. What the platform's compiler
makes of the program only the platform tells.
"""

import itertools

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import sr_esrgan, sr_ikc, tiny
from lcdnet_jax import config as config_lib
from lcdnet_jax import networks, ops
from lcdnet_jax.config.objectives import OBJECTIVES
from lcdnet_jax.training import objectives
from lcdnet_jax.training.optimizer import make_optimizer
from lcdnet_jax.training.program import compile_program
from lcdnet_jax.training.sharding import Partitioner
from lcdnet_jax.training.state import abstract_state
from tests.export.cases import TINY

PLATFORMS = ("tpu", "cuda")
DTYPES = ("float32", "bfloat16")
STRATEGIES = ("jit", "pmap")
# "ikc" has objectives of its own, "lcdnet" a test of its own.
NETWORKS = sorted(set(TINY) - {"ikc", "lcdnet"})
QUICK = ("dncnn", "noise2noise")

slow = [pytest.mark.extended, pytest.mark.slow]


def cases(names, *options):
    """Every name with every value of the options. A few are not slow."""
    return [
        pytest.param(
            *case,
            marks=pytest.mark.extended if case[0] in QUICK and case[-1] != "pmap" else slow,
            id="-".join(case),
        )
        for case in itertools.product(names, *options)
    ]


def config_of(objective, name="dncnn", dtype="float32"):
    """The configuration of a step that compiles quickly."""
    if objective == "gan":
        config = sr_esrgan.get_config("sfm")
        config.network.name = name = "rcan"
        config.degradation.options = ConfigDict({"low_resolution": {"scale": 2}})
        config.data.crop, config.gan.critic_features = 32, 2
        config.gan.vgg, config.gan.perceptual_weight = "", 0.0
    elif objective.startswith("ikc"):
        config = sr_ikc.get_config(f"{objective.removeprefix('ikc_')}:sfm")
        low = config.degradation.options.low_resolution
        low.update({"scale": 2, "width": (0.2, 2.0), "size": 5})
        name, config.data.crop = "ikc", 12
    else:
        config = tiny.get_config()
        config.objective, config.network.name, config.sfm.rate = objective, name, 0.5
        if scale := TINY.get(name, {}).get("scale"):
            config.degradation.kind, config.data.crop = "low_resolution", 4 * scale
            config.degradation.options = ConfigDict({"low_resolution": {"scale": scale}})
        if objective == "noise2self":
            config.loss = "sse"
    fields = {**TINY.get(name, {}), **({"scale": 2, "width": (0.2, 2.0)} if name == "ikc" else {})}
    config.data.channels = fields.pop("channels", networks.get(name).channels)
    config.network.kwargs = ConfigDict(fields)
    config.network.dtype = dtype
    config.batch_size, config.steps, config.init_from = 2, 2, ""
    config_lib.validate(config)
    return config


def make_step(config):
    """A step on two devices, and shapes of its arguments."""
    partitioner = Partitioner.from_config(config, jax.devices()[:2])
    module, tx = config_lib.network(config), make_optimizer(config)
    state = abstract_state(
        module,
        tx,
        ema=True,
        init_extra_state=objectives.get(config).make_extra_state_init(config),
    )
    program = compile_program(module, tx, config, partitioner, state)
    crop = config.data.crop
    clean = np.zeros((2, crop, crop, config.data.channels), np.float32)
    batch = partitioner.put_batches([{"clean": clean, "mask": np.ones(2, np.float32)}])
    return jax.jit(program), (state, batch)


def check_export(config):
    step, arguments = make_step(config)
    exported = jax.export.export(step, platforms=PLATFORMS)(*arguments)
    assert exported.platforms == PLATFORMS
    assert exported.nr_devices == 2


def check_lowered(config):
    """Programs that tell the partitioner about Fourier transforms cannot be stored."""
    step, arguments = make_step(config)
    text = step.trace(*arguments).lower(lowering_platforms=PLATFORMS).as_text()
    assert "stablehlo.fft" in text or "CustomSPMDPartitioning" in text


@pytest.mark.parametrize(("name", "dtype"), cases(sorted(TINY), DTYPES))
def test_forward(name, dtype):
    module = networks.create(name, **TINY[name], dtype=jnp.dtype(dtype))
    x = jax.ShapeDtypeStruct((1, 16, 20, module.channels), jnp.float32)
    variables = networks.abstract_variables(module)
    exported = jax.export.export(jax.jit(module.apply), platforms=PLATFORMS)(variables, x)
    assert exported.platforms == PLATFORMS
    assert exported.out_avals[0].shape[:2] == (1, 16 * module.scale)
    if dtype == "bfloat16":
        lines = exported.mlir_module().splitlines()
        convolutions = [line for line in lines if "stablehlo.convolution" in line]
        # Attention weights of means, see docs/explanations/devices.md.
        assert any("xf32>" in line for line in convolutions) == (name in ("rcan", "ridnet"))


@pytest.mark.parametrize(("name", "dtype", "strategy"), cases(NETWORKS, DTYPES, STRATEGIES))
def test_step_of_every_network(name, dtype, strategy):
    config = config_of("supervised", name, dtype)
    config.parallel.strategy = strategy
    check_export(config)


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "strategy"), [("float32", "jit"), ("bfloat16", "pmap")])
def test_step_of_lcdnet(dtype, strategy, traced_once):
    config = config_of("supervised", "lcdnet", dtype)
    config.parallel.strategy = strategy
    check_lowered(config)


class Spectrum(networks.RestorationNetwork):
    """A convolution of the spectrum, as LCDNet has it."""

    channels: int = 1
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return x + ops.irfft2(nn.Conv(2, (1, 1))(ops.rfft2(x)), x.shape[2])


@pytest.mark.extended
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_step_with_fourier_transforms(strategy):
    with networks.registered("spectrum", Spectrum):
        config = config_of("supervised", "spectrum")
        config.parallel.strategy = strategy
        check_lowered(config)


@pytest.mark.parametrize(
    ("objective", "dtype", "strategy"), cases(sorted(set(OBJECTIVES)), DTYPES, STRATEGIES)
)
def test_step_of_every_objective(objective, dtype, strategy):
    config = config_of(objective, dtype=dtype)
    config.parallel.strategy = strategy
    check_export(config)


def test_every_network_is_tried():
    assert set(TINY) >= set(networks.available())
