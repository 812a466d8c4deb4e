"""SADNet against the official module's numbers, its parameter counts, and any image size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import convert, networks
from lcdnet_jax.networks import sadnet

TINY = {"width": 4, "offset_width": 4, "groups": 2}


def quick_jit(function):
    """Compiled without LLVM's optimisation: these programs run once or twice."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def count(module, size=8):
    x = jnp.zeros((1, size, size, module.channels))
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def state_dict(golden):
    prefix = "state_dict/"
    return {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}


@pytest.fixture(scope="module")
def tiny():
    module = networks.create("sadnet", **TINY)
    init = quick_jit(module.init)
    return module, init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))), quick_jit(module.apply)


@pytest.mark.parametrize(("name", "channels"), [("sadnet_color", 3), ("sadnet_gray", 1)])
def test_official_output(golden, name, channels):
    data = golden(name)
    kwargs = {"channels": channels, "width": 8, "offset_width": 8, "groups": 8}
    variables = convert.from_torch("sadnet", state_dict(data), **kwargs)
    module = networks.create("sadnet", **kwargs)
    x = jnp.asarray(data["input"].transpose(0, 2, 3, 1))
    expected = data["output"].transpose(0, 2, 3, 1)
    actual = np.asarray(quick_jit(module.apply)(variables, x), np.float64)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_official_output_in_float64(golden):
    data = golden("sadnet_gray")
    kwargs = {"channels": 1, "width": 8, "offset_width": 8, "groups": 8}
    variables = convert.from_torch("sadnet", state_dict(data), **kwargs)
    with jax.enable_x64(True):
        module = networks.create("sadnet", dtype=jnp.float64, **kwargs)
        variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)
        x = jnp.asarray(data["input"].transpose(0, 2, 3, 1), jnp.float64)
        actual = quick_jit(module.apply)(variables, x)
    expected = data["output"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, 4_234_723),
        ({"preset": "base", "channels": 1}, 4_234_081),
        ({"dilations": (1, 2, 4, 8)}, 4_234_723),
        ({"use_rsab": False, "use_offset_transfer": False, "use_context": False}, 3_524_323),
        ({"use_offset_transfer": False, "use_context": False}, 3_949_379),
        ({"use_rsab": False, "use_offset_transfer": False}, 3_754_275),
        ({"use_offset_transfer": False}, 4_179_331),
        ({"use_context": False}, 4_004_771),
        ({"preset": "small"}, 307_283),
    ],
)
def test_parameter_counts(kwargs, expected):
    assert count(networks.create("sadnet", **kwargs)) == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 13), (17, 30)])
def test_any_size(tiny, size):
    _, variables, apply = tiny
    x = jax.random.uniform(jax.random.key(1), (2, *size, 3))
    y = apply(variables, x)
    assert y.shape == x.shape
    assert np.isfinite(y).all()
    # Cropping undoes padding: the same image mirrored by hand gives the same pixels.
    below, right = -size[0] % 8, -size[1] % 8
    padded = np.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), mode="reflect")
    by_hand = apply(variables, jnp.asarray(padded))[:, : size[0], : size[1]]
    np.testing.assert_allclose(y, by_hand, atol=1e-6)


def test_images_of_a_batch_do_not_mix(tiny):
    _, variables, apply = tiny
    x = jax.random.uniform(jax.random.key(1), (2, 16, 24, 3))
    np.testing.assert_allclose(apply(variables, x)[:1], apply(variables, x[:1]), atol=1e-6)


def test_constant_and_black_images_stay_finite(tiny):
    _, variables, apply = tiny
    for value in (0.0, 0.5, 1.0):
        assert np.isfinite(apply(variables, jnp.full((1, 16, 16, 3), value))).all()


def test_gradients_reach_every_parameter(tiny):
    module, variables, _ = tiny
    x = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    grads = quick_jit(jax.grad(lambda v: (module.apply(v, x) ** 2).mean()))(variables)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(grad).all(), path
        assert np.abs(grad).max() > 0, path


def test_bfloat16_is_near_float32(tiny):
    module, variables, apply = tiny
    x = jax.random.uniform(jax.random.key(1), (1, 24, 16, 3))
    rough = quick_jit(module.clone(dtype=jnp.bfloat16).apply)(variables, x)
    assert rough.dtype == jnp.float32  # input plus residual, added in the image's own type
    np.testing.assert_allclose(rough, apply(variables, x), atol=0.05)
    assert np.abs(np.asarray(rough) - np.asarray(apply(variables, x))).max() > 0


def test_initialisation_is_the_official_one(tiny):
    params = tiny[1]["params"]

    def assert_fills(array, bound):
        assert 0.95 * bound < np.abs(array).max() <= bound

    dcn = params["dres4"]["dcnpack"]
    assert_fills(dcn["conv_offset_mask"]["kernel"], (6 / ((4 + 54) * 9)) ** 0.5)  # Xavier
    assert_fills(dcn["kernel"], (9 * 32) ** -0.5)
    assert_fills(params["up1"]["kernel"], (6 / ((8 + 4) * 4)) ** 0.5)
    assert not params["out"]["bias"].any()


@pytest.mark.parametrize("zero", [True, False])
def test_offsets_can_start_at_zero(zero):
    block = sadnet.DeformConv(2, zero_init_offsets=zero)
    x = jnp.zeros((1, 4, 4, 4))
    params = block.init(jax.random.key(0), x, x)["params"]
    assert params["conv_offset_mask"]["kernel"].any() != zero


def test_bad_fields_and_inputs_are_explained():
    with pytest.raises(ValueError, match=r"width 20 is not divisible by 8 .* or groups=5"):
        networks.create("sadnet", width=20)
    with pytest.raises(ValueError, match=r"no network 'sadnett'; known networks: .*sadnet"):
        networks.create("sadnett")
    with pytest.raises(ValueError, match=r"no preset 'huge'; its presets: base, small"):
        networks.create("sadnet", preset="huge")
    with pytest.raises(ValueError, match=r"no field 'depth'; its fields: channels, dilations"):
        networks.create("sadnet", depth=3)
    with pytest.raises(ValueError, match="must be four integers of at least 1"):
        networks.create("sadnet", dilations=(1, 2))
    with pytest.raises(ValueError, match="must be four integers of at least 1"):
        networks.create("sadnet", dilations=(0, 1, 2, 3))
    with pytest.raises(ValueError, match="use_rsab must be True or False, got 'yes'"):
        networks.create("sadnet", use_rsab="yes")
    module = networks.create("sadnet", **TINY)
    with pytest.raises(TypeError, match="takes floating-point images"):
        module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8))
    for shape in ((1, 8, 8, 1), (8, 8, 3)):
        with pytest.raises(ValueError, match=r"SADNet\(channels=3\) takes \[N, H, W, 3\]"):
            module.init(jax.random.key(0), jnp.zeros(shape))


class TestFromTorch:
    kwargs = {"channels": 1, "width": 8, "offset_width": 8, "groups": 8}  # noqa: RUF012

    def test_prefix_and_dead_keys_are_accepted(self, golden):
        weights = state_dict(golden("sadnet_gray"))
        plain = convert.from_torch("sadnet", weights, **self.kwargs)
        weights = {f"module.{k}": v for k, v in weights.items()}
        weights["module.res2.conv0.weight"] = np.zeros((16, 16, 1, 1), np.float32)
        weights["module.offset4.offset_conv2.bias"] = np.zeros(8, np.float32)
        again = convert.from_torch("sadnet", weights, **self.kwargs)
        jax.tree.map(np.testing.assert_array_equal, plain, again)

    def test_every_problem_is_listed(self, golden):
        weights = state_dict(golden("sadnet_gray"))
        del weights["down1.bias"]
        weights["out.weight"] = np.zeros((3, 8, 3, 3), np.float32)
        weights["head.weight"] = np.zeros(3, np.float32)
        with pytest.raises(ValueError, match="not the weights of sadnet") as error:
            convert.from_torch("sadnet", weights, **self.kwargs)
        message = str(error.value)
        assert "missing: down1.bias" in message
        assert "unknown: head.weight" in message
        assert "out.weight gives (3, 3, 8, 3), the network needs (3, 3, 8, 1)" in message

    def test_unknown_network(self):
        with pytest.raises(ValueError, match=r"no conversion for 'vgg'; known: .*sadnet"):
            convert.from_torch("vgg", {})
