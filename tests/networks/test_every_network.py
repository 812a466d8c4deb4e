"""What holds of all networks: sizes, batches, gradients, bfloat16, mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import macs
from lcdnet_jax import Restorer, networks
from lcdnet_jax.networks.costs import COSTS
from tests.networks.by_hand import (
    drawn,
    image,
    quick_jit,
    size_of,
    variables_of,
)
from tests.networks.every_network import TINY

DENOISERS = ("buifd", "dncnn", "memnet", "n3net", "ridnet", "unet_n2n")
SUPER_RESOLUTION = ("kmsr", "rcan", "rrdb")
PEERS = ("nafnet", "restormer")
NORMALIZED = ("buifd", "dncnn", "memnet", "n3net")


@pytest.fixture(scope="module", params=DENOISERS)
def denoiser(request):
    module = networks.create(request.param, **TINY[request.param])
    return module, variables_of(module), quick_jit(module.apply)


@pytest.fixture(scope="module", params=SUPER_RESOLUTION + PEERS)
def tiny(request):
    module = networks.create(request.param, **TINY[request.param])
    return module, drawn(module, image(1, 8, 8, 1)), quick_jit(module.apply)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("name", "channels", "expected"),
    [
        ("buifd", 1, 1_075_040),
        ("buifd", 3, 1_085_472),
        ("dncnn", 1, 556_032),
        ("dncnn", 3, 558_336),
        ("memnet", 1, 194_922),
        ("memnet", 3, 195_646),
        ("n3net", 1, 705_895 - 3 * 128),  # without the three unused BatchNorms
        ("n3net", 3, 705_895 - 3 * 128 + 2 * (9 * 64) + 2 * (9 * 64 + 1)),
        ("ridnet", 1, 1_497_045),
        ("ridnet", 3, 1_499_371),
        ("unet_n2n", 1, 987_408),
        ("unet_n2n", 3, 987_408 + 2 * 9 * (48 + 64 + 32)),
    ],
)
def test_parameter_counts_of_denoisers(name, channels, expected):
    module = networks.create(name, channels=channels)
    x = jnp.zeros((1, 8, 8, channels))
    y, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
    assert y.shape == x.shape
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected
    assert ("batch_stats" in variables) == (name in NORMALIZED)
    assert name in networks.available()


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (1, 13), (17, 30)])
def test_any_size_of_denoisers(denoiser, size):
    _, variables, apply = denoiser
    x = image(2, *size, 1)
    y = apply(variables, x)
    assert y.shape == x.shape
    assert np.isfinite(y).all()


@pytest.mark.extended
@pytest.mark.parametrize(
    ("name", "size", "inside"), [("n3net", (1, 13), (7, 13)), ("unet_n2n", (17, 40), (32, 64))]
)
def test_cropping_undoes_padding(name, size, inside):
    module = networks.create(name, **TINY[name])
    x = image(1, *size, 1)
    pads = [(0, large - small) for large, small in zip(inside, size, strict=True)]
    by_hand = np.pad(x, ((0, 0), *pads, (0, 0)), mode="reflect")

    @quick_jit
    def both(variables):
        return module.apply(variables, x), module.apply(variables, by_hand)

    y, whole = both(variables_of(module))
    np.testing.assert_allclose(y, whole[:, : size[0], : size[1]], atol=1e-5)


@pytest.mark.extended
@pytest.mark.slow
def test_images_of_a_batch_do_not_mix_of_denoisers(denoiser):
    _, variables, apply = denoiser
    x = image(2, 17, 30, 1)
    np.testing.assert_allclose(apply(variables, x)[1:], apply(variables, x[1:]), atol=1e-5)


@pytest.mark.extended
@pytest.mark.slow
def test_training_reaches_every_variable_of_denoisers(denoiser):
    module, variables, _ = denoiser
    old = variables.get("batch_stats", {})

    def loss(params, x):
        variables = {"params": params, "batch_stats": old}
        y, updates = module.apply(variables, x, train=True, mutable=["batch_stats"])
        return ((y - x / 2) ** 2).mean(), updates.get("batch_stats", {})

    grad = quick_jit(jax.grad(loss, has_aux=True))
    grads, new = grad(variables["params"], image(2, 9, 14, 1))
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path
    moved = jax.tree.map(lambda a, b: (np.asarray(a) != np.asarray(b)).any(), old, new)
    assert all(jax.tree.leaves(moved))
    # Outside training Flax refuses to write statistics, so every other test shows they stay.
    for leaf in jax.tree.leaves(grad(variables["params"], np.full((2, 9, 14, 1), 0.5, np.float32))):
        assert np.isfinite(leaf).all()


@pytest.mark.extended
@pytest.mark.slow
def test_bfloat16_is_near_float32_of_denoisers(denoiser):
    module, variables, apply = denoiser
    x = image(1, 17, 30, 1)
    exact = np.asarray(apply(variables, x))
    half = module.clone(dtype=jnp.bfloat16).apply
    assert jax.eval_shape(half, variables, jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16
    rough = quick_jit(half)(variables, x)
    assert rough.dtype == jnp.float32
    assert 0 < np.abs(np.asarray(rough) - exact).max() < 0.02 * max(1, np.abs(exact).max())


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("dncnn", {"depth": 1}, "DnCNN depth must be an integer of at least 2, got 1"),
        ("dncnn", {"features": 6.5}, "DnCNN features must be an integer of at least 1, got 6.5"),
        ("memnet", {"blocks": 0}, "MemNet blocks must be an integer of at least 1, got 0"),
        ("buifd", {"channels": 0}, "BUIFD channels must be an integer of at least 1, got 0"),
        ("unet_n2n", {"channels": "1"}, "UnetN2N channels must be an integer of at least 1"),
        ("ridnet", {"channels": 2}, "RIDNet channels must be 1 or 3, got 2"),
        ("ridnet", {"features": 40}, "RIDNet features 40 is not divisible by 16"),
        ("n3net", {"stride": 11}, "N3Net stride 11 leaves pixels between patches of 10"),
        ("n3net", {"neighbours": 9, "window": 3}, "window 3 has 8 other patches, fewer than 9"),
    ],
)
def test_bad_fields_are_explained_of_denoisers(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        networks.create(name, **kwargs)


def test_bad_inputs_are_explained_of_denoisers(denoiser):
    module, variables, _ = denoiser
    with pytest.raises(TypeError, match="takes floating-point images"):
        module.apply(variables, jnp.zeros((1, 8, 8, 1), jnp.uint8))
    for shape in ((1, 8, 8, 3), (8, 8, 1)):
        with pytest.raises(ValueError, match=r"\(channels=1\) takes \[N, H, W, 1\], got shape"):
            module.apply(variables, jnp.zeros(shape))


@pytest.mark.extended
@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("rcan", {}, 15_590_049),
        ("rcan", {"scale": 2}, 15_442_337),
        ("rcan", {"scale": 3}, 15_442_337 + 5 * 64 * (9 * 64 + 1)),
        ("rcan", {"channels": 3}, 15_590_049 + 2 * 9 * 64 + 2 * (9 * 64 + 1)),
        (
            "rrdb",
            {},
            17_065_538 - 185_217,
        ),  # without the layers that the official class never calls
        ("rrdb", {"channels": 3, "scale": 2}, 16_880_321 - 147_712 + 2 * 9 * 64 + 2 * (9 * 64 + 1)),
        ("ikc", {}, 430_730 + 649_930 + 4_234_691 + 441 * 10),
        ("kmsr", {}, 1_185_152),
        ("kmsr", {"channels": 1}, 1_185_152 - 2 * 2 * 9 * 64),
        ("nafnet", {"preset": "gopro_width32"}, 17_111_907),
        ("nafnet", {"preset": "gopro_width64"}, 67_888_835),
        ("nafnet", {"preset": "reds_width64"}, 67_888_835),
        ("nafnet", {"preset": "sidd_width32"}, 29_159_715),
        ("nafnet", {"preset": "sidd_width64"}, 115_982_915),
        ("restormer", {"preset": "motion_deblurring"}, 26_126_644),
        ("restormer", {"preset": "defocus_single"}, 26_126_644),
        ("restormer", {"preset": "deraining"}, 26_126_644),
        ("restormer", {"preset": "gaussian_color"}, 26_111_668),
        ("restormer", {"preset": "real_denoising"}, 26_111_668),
        ("restormer", {"preset": "gaussian_gray"}, 26_109_076),
        ("restormer", {"preset": "defocus_dual"}, 26_132_548),
    ],
)
def test_parameter_counts(name, kwargs, expected):
    module = networks.create(name, **kwargs)
    x = jnp.zeros((1, 7, 8, module.channels))
    y, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
    scale = module.scale
    assert y.shape == (1, 7 * scale, 8 * scale, module.channels_out)
    assert set(variables) == {"params"}
    assert size_of(variables) == expected
    assert name in networks.available()


@pytest.mark.parametrize(
    ("module", "inputs", "expected"),
    [
        (networks.Discriminator(), [(2, 128, 128, 1)], 14_498_249),
        (networks.Predictor(), [(2, 9, 8, 3)], 430_730),
        (networks.Corrector(), [(2, 9, 8, 3), (2, 10)], 649_930),
        (networks.SFTMD(), [(2, 9, 8, 3), (2, 10)], 4_234_691),
    ],
)
def test_parameter_counts_outside_the_registry(module, inputs, expected):
    variables = jax.eval_shape(module.init, jax.random.key(0), *map(jnp.zeros, inputs))
    assert size_of(variables["params"]) == expected
    assert ("batch_stats" in variables) == isinstance(module, networks.Discriminator)
    assert type(module) not in map(networks.get, networks.available())


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (9, 6)])
def test_any_size(tiny, size):
    module, variables, apply = tiny
    x = image(2, *size, 1)
    y = apply(variables, x)
    scale = module.scale
    assert y.shape == (2, size[0] * scale, size[1] * scale, 1)
    assert np.isfinite(y).all()


@pytest.mark.extended
@pytest.mark.slow
def test_images_of_a_batch_do_not_mix(tiny):
    _, variables, apply = tiny
    x = image(2, 9, 6, 1)
    np.testing.assert_allclose(apply(variables, x)[1:], apply(variables, x[1:]), atol=1e-5)


@pytest.mark.extended
def test_equal_blocks_are_one_loop():
    """Or hundreds of them would be compiled, which takes minutes."""

    def loops(module):
        x = jnp.zeros((1, 8, 8, module.channels))
        variables = jax.eval_shape(module.init, jax.random.key(0), x)
        equations = jax.make_jaxpr(module.apply)(variables, x).eqns
        return [e.params["length"] for e in equations if e.primitive.name == "scan"]

    assert loops(networks.create("rcan", groups=3)) == [20, 20, 20]
    assert loops(networks.create("rrdb")) == [23]
    assert loops(networks.create("kmsr")) == [16]
    assert loops(networks.create("nafnet", preset="gopro_width32")) == [28]
    assert loops(networks.create("restormer")) == [4, 6, 6, 8, 6, 6, 4, 4]


@pytest.mark.parametrize(("name", "preset"), [("rcan", "small"), ("kmsr", "")])
def test_costs_are_as_counted(name, preset):
    module = networks.create(name, preset=preset or None)
    shape = (1, 256, 256, module.channels)
    parameters, cost = COSTS[name][preset]
    assert macs.count_parameters(module, shape) == parameters
    assert round(macs.count_macs(module, shape) / 256**2) == cost


@pytest.mark.extended
@pytest.mark.slow
def test_training_reaches_every_variable(tiny):
    module, variables, _ = tiny

    def loss(variables, x):
        return (module.apply(variables, x, train=True) ** 2).mean()

    grad = quick_jit(jax.grad(loss))
    # Queries and keys have no gradient where the coarsest scale has one pixel.
    size = (5, 6) if module.stride == 1 else (3 * module.stride - 3, 2 * module.stride)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grad(variables, image(2, *size, 1))):
        assert np.isfinite(leaf).all(), path
        each = np.abs(leaf).max(axis=(1, 2, 3, 4)) if leaf.ndim == 5 else np.abs(leaf).max()
        assert np.all(each > 0), path  # in every one of equal blocks
    for leaf in jax.tree.leaves(grad(variables, np.zeros((2, *size, 1), np.float32))):
        assert np.isfinite(leaf).all()


@pytest.mark.extended
@pytest.mark.slow
def test_bfloat16_is_near_float32(tiny):
    module, variables, apply = tiny
    x = image(1, 9, 6, 1)
    full = np.asarray(apply(variables, x))
    half = module.clone(dtype=jnp.bfloat16).apply
    assert jax.eval_shape(half, variables, jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16
    rough = quick_jit(half)(variables, x)
    assert rough.dtype == jnp.float32
    assert 0 < np.abs(np.asarray(rough) - full).max() < 0.02 * max(1, np.abs(full).max())


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("rcan", {"scale": 5}, "RCAN scale must be 2, 3 or 4, got 5"),
        ("rcan", {"scale": 2.0}, "RCAN scale must be 2, 3 or 4, got 2.0"),
        ("rcan", {"scale": 1}, "RCAN scale must be 2, 3 or 4, got 1"),
        ("rcan", {"features": 40}, "RCAN features 40 is not divisible by 16"),
        ("rcan", {"groups": 0}, "RCAN groups must be an integer of at least 1, got 0"),
        ("rcan", {"blocks": 0}, "RCAN blocks must be an integer of at least 1, got 0"),
        ("rcan", {"growth": 3}, "has no field 'growth'; its fields: blocks, channels, dtype"),
        ("rcan", {"preset": "large"}, "no preset 'large'; its presets: base, small"),
        ("rrdb", {"scale": "4"}, "RRDB scale must be 2, 3 or 4, got '4'"),
        ("rrdb", {"growth": 0}, "RRDB growth must be an integer of at least 1, got 0"),
        ("kmsr", {"blocks": 0}, "KMSR blocks must be an integer of at least 1, got 0"),
        ("kmsr", {"channels": 0}, "KMSR channels must be an integer of at least 1, got 0"),
        ("kmsr", {"scale": 4}, "network 'kmsr' has no field 'scale'"),
        ("nafnet", {"width": 0}, "NAFNet width must be an integer of at least 1, got 0"),
        ("nafnet", {"enc_blocks": (1, 1, 1)}, "NAFNet enc_blocks must be 4 integers of at least"),
        ("nafnet", {"dec_blocks": (1, 1, 1, 0)}, "NAFNet dec_blocks must be 4 integers of at"),
        ("nafnet", {"mid_blocks": 0}, "NAFNet mid_blocks must be an integer of at least 1, got 0"),
        ("nafnet", {"local_pool": 0}, "NAFNet local_pool must be an integer of at least 1, got 0"),
        ("restormer", {"channels": 2}, "Restormer channels must be 1, 3, or 6 for two views, got"),
        ("restormer", {"width": 9}, "Restormer width must be even, got 9"),
        ("restormer", {"blocks": (4, 6, 6)}, "Restormer blocks must be 4 integers of at least 1"),
        ("restormer", {"heads": (5, 2, 4, 8)}, "divide 48 channels of scale 1 among 5 heads; use"),
        ("restormer", {"heads": (1, 2, 4, 9)}, "divide 384 channels of scale 4 among 9 heads; use"),
        ("restormer", {"norm_bias": 1}, "Restormer norm_bias must be True or False, got 1"),
        ("sftmd", {}, "no network 'sftmd'; known networks: "),
    ],
)
def test_bad_fields_are_explained(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        networks.create(name, **kwargs)


@pytest.mark.parametrize(
    ("cls", "kwargs", "message"),
    [
        (networks.Discriminator, {"size": 100}, "Discriminator size 100 is not divisible by 32"),
        (networks.Discriminator, {"size": 0}, "Discriminator size must be an integer of at least"),
        (networks.Predictor, {"code_length": 0}, "Predictor code_length must be an integer of at"),
        (networks.Corrector, {"features": 0}, "Corrector features must be an integer of at least"),
        (networks.SFTMD, {"scale": 8}, "SFTMD scale must be 2, 3 or 4, got 8"),
    ],
)
def test_bad_fields_outside_the_registry_are_explained(cls, kwargs, message):
    with pytest.raises(ValueError, match=message):
        cls(**kwargs)


def test_bad_images_are_explained(tiny):
    module, variables, _ = tiny
    with pytest.raises(TypeError, match="takes floating-point images"):
        module.apply(variables, jnp.zeros((1, 8, 8, 1), jnp.uint8))
    with pytest.raises(ValueError, match="got no pixels"):
        module.apply(variables, jnp.zeros((1, 0, 8, 1)))
    for shape in ((1, 8, 8, 3), (8, 8, 1)):
        with pytest.raises(ValueError, match=r"\(channels=1\) takes \[N, H, W, 1\], got shape"):
            module.apply(variables, jnp.zeros(shape))


def test_bad_inputs_outside_the_registry_are_explained():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"Discriminator\(size=64\) takes images of 64x64 pixels, "
                       "got 64x32; crop them"):  # fmt: skip
        networks.Discriminator(size=64).init(key, jnp.zeros((1, 64, 32, 1)))
    with pytest.raises(ValueError, match=r"Predictor\(channels=3\) takes \[N, H, W, 3\]"):
        networks.Predictor().init(key, jnp.zeros((1, 8, 8, 1)))
    x = jnp.zeros((2, 8, 8, 3))
    for module in (networks.Corrector(), networks.SFTMD()):
        name = type(module).__name__
        for shape in ((10,), (1, 10), (2, 9), (2, 10, 1)):
            message = rf"{name}\(code_length=10\) takes a code for each image, \[2, 10\], got shape"
            with pytest.raises(ValueError, match=message):
                module.init(key, x, jnp.zeros(shape))
        with pytest.raises(TypeError, match=f"{name} takes floating-point codes, got int32"):
            module.init(key, x, jnp.zeros((2, 10), jnp.int32))
        with pytest.raises(ValueError, match="takes \\[N, H, W, 3\\]"):
            module.init(key, x[..., :1], jnp.zeros((2, 10)))


@pytest.mark.parametrize("name", ["rcan", "rrdb"])
def test_weights_for_twice_as_much(name):
    """Have all layers that are needed, and one more."""
    kwargs = TINY[name]
    variables = drawn(networks.create(name, **kwargs | {"scale": 4}), image(1, 8, 8, 1))
    module = networks.create(name, **kwargs | {"scale": 2})
    with pytest.raises(ValueError, match=r"of another network than this \w+ of scale 2, which has"):
        Restorer(module, variables)(image(20, 20, 1))
