"""LCDNet and its stages against NumPy in float64; sizes, options and refusals."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lcdnet_jax import networks
from lcdnet_jax.networks import _lcdnet_blocks as blocks
from lcdnet_jax.networks import lcdnet
from tests.networks.by_hand import image, quick_jit
from tests.networks.lcdnet_by_hand import (
    assert_equals,
    drawn,
    lcdnet_by_hand,
    shared,
    stage,
)


@pytest.mark.parametrize("count", [1, 2])
def test_stage_by_hand(count):
    module = lcdnet.HSFSBlock(count, (3, 5), 8, "sk", "branch", None, False, shared())
    params = assert_equals(module, stage, image(2, 5, 6, 16))
    assert params["blocks"]["gamma"].shape == (count, 16)
    assert params["msfm"]["squeeze_3x3"]["kernel"].shape == (8, 32)


def test_stage_of_plain_blocks():
    """Of NAFNet's."""
    x, options = image(1, 3, 4, 16), shared(block="naf")
    module = lcdnet.HSFSBlock(1, (), 8, "sk", "branch", None, False, options)
    variables = drawn(module, x.shape)
    params = jax.tree.map(lambda leaf: leaf[0], variables["params"]["blocks"])
    block = quick_jit(blocks.NAFBlock(None, options).apply)
    expected = block({"params": params}, x)
    np.testing.assert_allclose(quick_jit(module.apply)(variables, x), expected, atol=1e-6)


@pytest.mark.extended
@pytest.mark.parametrize("count", [1, 3])
def test_blocks_of_a_stage_start_differently(count):
    module = lcdnet.HSFSBlock(count, (), 8, "sk", "branch", None, False, shared())
    params = quick_jit(module.init)(jax.random.key(0), image(1, 4, 4, 16))["params"]
    kernel = np.asarray(params["blocks"]["expand"]["kernel"])
    assert kernel.shape == (count, 1, 1, 16, 32)
    assert len(np.unique(kernel)) > 0.9 * kernel.size
    assert "msfm" not in params


def test_smaller_images_and_bases():
    """Every other pixel or means of cells; the input, the mean of its two views, or nothing."""
    x = image(2, 16, 32, 6)
    for kind in ("nearest", "bilinear"):
        module = networks.create("lcdnet", preset="tiny", channels=6, input_downsample=kind)
        pyramid = module._pyramid(jnp.asarray(x))
        assert len(pyramid) == 4
        np.testing.assert_array_equal(pyramid[0], x)
        for i, smaller in enumerate(pyramid):
            side = 2**i
            cells = x.astype(np.float64).reshape(2, 16 // side, side, 32 // side, side, 6)
            expected = cells[:, :, 0, :, 0] if kind == "nearest" else cells.mean((2, 4))
            np.testing.assert_allclose(smaller, expected, atol=1e-6)
    both = module._base(jnp.asarray(x))
    np.testing.assert_allclose(both, (x[..., :3] + x[..., 3:]) / 2, atol=1e-6)
    gray = x[..., :1]
    for base, expected in ((None, gray), ("input", gray), ("none", 0 * gray)):
        module = networks.create("lcdnet", preset="tiny", channels=1, residual_base=base)
        found = module._base(jnp.asarray(gray, jnp.bfloat16))
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, expected.astype(jnp.bfloat16).astype(np.float32))
    black = networks.create("lcdnet", preset="tiny", channels=6, residual_base="none")
    np.testing.assert_array_equal(black._base(jnp.asarray(x)), np.zeros((2, 16, 32, 3)))


def test_windows_shrink_with_the_scale():
    module = networks.create("lcdnet", preset="tiny", local_pool=24)
    assert [module._window(scale) for scale in range(6)] == [24, 12, 6, 3, 1, 1]
    assert networks.create("lcdnet", preset="tiny")._window(0) is None


@pytest.mark.extended
@pytest.mark.parametrize("shape", [(2, 19, 33, 3)])
def test_by_hand(shape):
    module = networks.create("lcdnet", preset="tiny", enc_blocks=(1, 2, 1, 1))
    variables = drawn(module, (1, 16, 16, 3))
    x = image(*shape)
    actual = quick_jit(functools.partial(module.apply, all_scales=True))(variables, x)
    expected = lcdnet_by_hand(x, variables["params"])
    for one, other in zip(actual, expected, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one / scale, other / scale, atol=2e-4)
    assert np.abs(expected[0] - x).max() > 0.05
    alone = jax.eval_shape(module.apply, variables, x)
    assert (alone.shape, alone.dtype) == (x.shape, x.dtype)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("fields", "size", "count"),
    [
        # Parameters of the specification of the layers
        ({"preset": "tiny"}, (256, 256), 3_320_076),
        ({"preset": "small"}, (45, 1280), 22_232_428),
        ({"preset": "base"}, (16, 16), 49_486_188),
        ({"preset": "base", "channels": 6}, (90, 72), 49_490_076),
        ({"preset": "base", "global_branch": "literal_chain"}, (40, 33), 58_409_580),
        ({"preset": "base", "global_branch": "none"}, (16, 16), 22_707_628),
        ({"preset": "base", "scam_type": "none"}, (16, 16), 49_464_428),
        # All other alternatives
        ({"block": "naf", "use_msfm": False, "scam_type": "none"}, (40, 33), None),
        ({"layer_scale_init": None, "msfm_softmax": "joint", "scam_softmax": "joint"},
         (40, 33), None),
        ({"msfm_fusion": "cross", "msfm_kernels": (5, 7), "scam_type": "sff", "sfe_type": "naf"},
         (40, 33), None),
        ({"channels": 1, "scam_type": "cross", "input_downsample": "bilinear"}, (1, 3), None),
        ({"channels": 6, "residual_base": "none", "remat": True}, (40, 33), None),
        ({"scam_type": "sk_norm", "local_pool": 24}, (40, 33), 3_351_020),
        ({"scam_type": "pixel", "dtype": jnp.bfloat16}, (40, 33), 3_358_332),
        ({"local_pool": 24, "dtype": jnp.bfloat16}, (40, 33), None),
    ],
    ids=str,
)  # fmt: skip
def test_shapes_and_parameters(fields, size, count, traced_once):
    module = networks.create("lcdnet", **{"preset": "tiny", **fields})
    x = jnp.zeros((2, *size, module.channels), jnp.float32)
    scales, variables = jax.eval_shape(
        functools.partial(module.init_with_output, all_scales=True), jax.random.key(0), x
    )
    out = min(module.channels, 3)
    padded = [-(-side // 16) * 16 for side in size]
    coarse = [(2, padded[0] // f, padded[1] // f, out) for f in (2, 4, 8)]
    assert [y.shape for y in scales] == [(2, *size, out), *coarse]
    assert {f"head{scale}" for scale in range(4)} <= set(variables["params"])
    leaves = jax.tree.leaves(variables)
    assert {leaf.dtype for leaf in (*scales, *leaves)} == {jnp.dtype("float32")}
    if count is not None:
        assert sum(leaf.size for leaf in leaves) == count


@pytest.mark.extended
@pytest.mark.slow
def test_whole_network_without_complex_numbers(traced_once):
    x = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    for fourier in ("fft", "matmul"):
        module = networks.create("lcdnet", preset="tiny", fourier=fourier)
        text = str(jax.make_jaxpr(module.apply)(networks.abstract_variables(module), x))
        assert ("fft[" in text) == (fourier == "fft")


class TestLocalPooling:
    @pytest.mark.extended
    def test_in_a_stage(self):
        """Windows that hold the image change nothing; smaller ones do."""
        x = image(1, 8, 12, 16)
        options = ((3, 5), 8, "sk", "branch")
        whole = lcdnet.HSFSBlock(1, *options, None, False, shared())
        variables = drawn(whole, x.shape)
        expected = quick_jit(whole.apply)(variables, x)
        for window, same in ((12, True), (5, False)):
            local = lcdnet.HSFSBlock(1, *options, window, False, shared())
            difference = np.abs(quick_jit(local.apply)(variables, x) - expected).max()
            assert (difference == 0) == same


@pytest.mark.extended
def test_bfloat16():
    """Transforms and normalization are in float32, whatever the type of the rest."""
    x = image(1, 8, 12, 16)
    options = (2, (3, 5), 8, "sk", "branch", None, False)
    exact = lcdnet.HSFSBlock(*options, shared())
    variables = drawn(exact, x.shape)
    expected = quick_jit(exact.apply)(variables, x)
    coarse = lcdnet.HSFSBlock(*options, shared(dtype=jnp.bfloat16))
    actual = quick_jit(coarse.apply)(variables, x.astype(jnp.bfloat16))
    assert actual.dtype == jnp.bfloat16
    # Over all pixels: what rounding does to a single one is chance.
    error = np.linalg.norm(actual.astype(np.float32) - expected) / np.linalg.norm(expected)
    assert error < 0.03


@pytest.mark.extended
@pytest.mark.slow
def test_gradients_of_a_sharded_stage_need_no_other_images():
    """The gradient of parameters is summed over devices; nothing else travels. With remat."""
    block = lcdnet.HSFSBlock(2, (3, 5), 8, "sk", "branch", None, True, shared())
    x = image(8, 6, 9, 16)
    variables = drawn(block, x.shape)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    batch, whole = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (("data",), ()))

    def loss(variables, x):
        return (block.apply(variables, x) ** 2).mean()

    program = quick_jit(
        jax.value_and_grad(loss), in_shardings=(whole, batch), out_shardings=whole
    ).lower(variables, x).compile()  # fmt: skip
    text = program.as_text()
    assert "all-reduce" in text
    assert not re.findall(r"all-gather|all-to-all|collective-permute", text)
    value, gradient = program(
        jax.device_put(variables, whole), jax.device_put(x, batch)
    )  # fmt: skip
    plain = lcdnet.HSFSBlock(2, (3, 5), 8, "sk", "branch", None, False, shared())
    expected = quick_jit(
        jax.value_and_grad(lambda v, x: (plain.apply(v, x) ** 2).mean())
    )(variables, x)  # fmt: skip
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    for one, other in zip(*map(jax.tree.leaves, (gradient, expected[1])), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 24}, "LCDNet width 24 is not divisible by 16; use 16 or 32"),
        ({"width": 8}, "LCDNet width must be an integer of at least 16"),
        ({"channels": 2}, "channels must be 1, 3, or 6 for two views, got 2"),
        ({"enc_blocks": (1, 1, 1)}, "enc_blocks must be 4 integers of at least 1"),
        ({"dec_blocks": (1, 1, 0, 1)}, "dec_blocks must be 4 integers of at least 1"),
        ({"enc_blocks": 3}, "LCDNet enc_blocks must be 4 integers of at least 1, got 3"),
        ({"msfm_kernels": 3}, "msfm_kernels must be 2 integers of at least 1, got 3"),
        ({"mid_blocks": True}, "mid_blocks must be an integer of at least 1, got True"),
        ({"global_branch": "dct"}, "global_branch must be one of 'fourier_unit', 'literal_chain'"),
        ({"fourier": "dct"}, "fourier must be one of 'fft', 'matmul', got 'dct'"),
        (
            {"scam_type": None},
            "scam_type must be one of 'sk', 'sk_norm', 'pixel', 'sff', 'cross', 'none', got None",
        ),
        ({"msfm_kernels": (3, 4)}, "msfm_kernels must be two odd sizes"),
        ({"msfm_groups": 3}, "msfm_groups 3 does not divide half of the width"),
        ({"residual_base": "view_mean"}, "'view_mean' is for 6 channels; use 'input'"),
        ({"channels": 6, "residual_base": "input"}, "use 'view_mean'"),
        ({"local_pool": 0}, "local_pool must be an integer of at least 1"),
    ],
)
def test_fields_that_make_no_network(fields, message):
    with pytest.raises(ValueError, match=message):
        networks.create("lcdnet", **fields)


@pytest.mark.parametrize(
    ("channels", "shape", "dtype", "error", "message"),
    [
        (3, (1, 16, 16, 1), np.float32, ValueError, "got shape .*convert the image or create"),
        (3, (1, 16, 16, 6), np.float32, ValueError, r"LCDNet\(channels=3\) takes \[N, H, W, 3\]"),
        (6, (1, 16, 16, 3), np.float32, ValueError, r"LCDNet\(channels=6\) takes"),
        (3, (1, 16, 16, 3), np.uint8, TypeError, "image_io.to_float"),
        (3, (1, 0, 16, 3), np.float32, ValueError, "no pixels"),
    ],
)
def test_bad_images(channels, shape, dtype, error, message):
    module = networks.create("lcdnet", preset="tiny", channels=channels)
    with pytest.raises(error, match=message):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape, dtype))
