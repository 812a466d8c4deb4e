"""SADNet against the official module's numbers, its parameter counts, and any image size."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import convert, networks, ops
from lcdnet_jax.networks import sadnet
from lcdnet_jax.ops import rows

TINY = {"width": 4, "offset_width": 4, "groups": 2}


def quick_jit(function):
    """Compiled without LLVM's optimization: these programs run once or twice."""
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


@pytest.mark.extended
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


@pytest.mark.extended
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
        ({"preset": "fast"}, 1_030_212),
        ({"preset": "fast", "channels": 1}, 1_028_924),
        ({"preset": "small"}, 307_283),
    ],
)
def test_parameter_counts(kwargs, expected):
    assert count(networks.create("sadnet", **kwargs)) == expected


def test_default_switches():
    """Those of the published network, which are not all seen in counts of parameters."""
    module = networks.create("sadnet")
    switches = ("use_rsab", "use_offset_transfer", "use_context")
    assert all(getattr(module, name) is True for name in switches)
    for cls in (sadnet.SADNet, sadnet.RSAB, sadnet.DeformConv):
        assert cls.low_memory is False
    assert module.zero_init_offsets is False
    assert module.dilations == (1, 2, 3, 4)


@pytest.mark.extended
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


@pytest.mark.extended
def test_images_of_a_batch_do_not_mix(tiny):
    _, variables, apply = tiny
    x = jax.random.uniform(jax.random.key(1), (2, 16, 24, 3))
    np.testing.assert_allclose(apply(variables, x)[:1], apply(variables, x[:1]), atol=1e-6)


@pytest.mark.extended
def test_constant_and_black_images_stay_finite(tiny):
    _, variables, apply = tiny
    for value in (0.0, 0.5, 1.0):
        assert np.isfinite(apply(variables, jnp.full((1, 16, 16, 3), value))).all()


@pytest.mark.extended
def test_gradients_reach_every_parameter(tiny):
    module, variables, _ = tiny
    x = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    grads = quick_jit(jax.grad(lambda v: (module.apply(v, x) ** 2).mean()))(variables)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(grad).all(), path
        assert np.abs(grad).max() > 0, path


@pytest.mark.extended
def test_bfloat16_is_near_float32(tiny):
    module, variables, apply = tiny
    x = jax.random.uniform(jax.random.key(1), (1, 24, 16, 3))
    rough = quick_jit(module.clone(dtype=jnp.bfloat16).apply)(variables, x)
    assert rough.dtype == jnp.float32  # input plus residual, added in the image's own type
    np.testing.assert_allclose(rough, apply(variables, x), atol=0.05)
    assert np.abs(np.asarray(rough) - np.asarray(apply(variables, x))).max() > 0


@pytest.mark.extended
def test_low_memory_gives_the_same(tiny, rng):
    module, variables, apply = tiny
    x = jnp.asarray(rng.uniform(size=(2, 16, 24, 3)), jnp.float32)
    lean = quick_jit(module.clone(low_memory=True).apply)
    np.testing.assert_allclose(lean(variables, x), apply(variables, x), rtol=0, atol=1e-6)


@pytest.mark.extended
def test_large_images_by_rows_are_the_same(tiny, rng, monkeypatch):
    module, variables, apply = tiny
    x = jnp.asarray(rng.uniform(size=(1, 48, 40, 3)), jnp.float32)
    monkeypatch.setattr(rows, "_PIXELS", 100)
    with rows.split_large_images():
        by_rows = quick_jit(lambda v, x: module.apply(v, x))
        assert "while" in by_rows.lower(variables, x).as_text()
        np.testing.assert_allclose(by_rows(variables, x), apply(variables, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("size", "rsab_scales"), [((16, 16), 3), ((9, 21), 1)])
def test_unshuffled_image_is_an_image_of_more_channels(rng, size, rsab_scales):
    """The network of 4 C channels is an independent reference with the same parameters."""
    module = networks.create("sadnet", unshuffle=2, rsab_scales=rsab_scales, channels=1, **TINY)
    reference = networks.create("sadnet", rsab_scales=rsab_scales, channels=4, **TINY)
    variables = quick_jit(module.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    x = jnp.asarray(rng.random((2, *size, 1)), jnp.float32)
    padded = ops.pad_to_multiple(x, module.stride)
    assert padded.shape[1:3] == (16, -(-size[1] // 16) * 16)

    cells = padded.reshape(2, 8, 2, padded.shape[2] // 2, 2).transpose(0, 1, 3, 2, 4)
    restored = quick_jit(reference.apply)(variables, cells.reshape(*cells.shape[:3], 4))
    restored = restored.reshape(*cells.shape).transpose(0, 1, 3, 2, 4).reshape(padded.shape)
    result = quick_jit(module.apply)(variables, x)
    assert np.abs(result - x).max() > 1e-2
    np.testing.assert_allclose(result, restored[:, : size[0], : size[1]], atol=1e-6)


def test_sampling_of_an_unshuffled_image(rng):
    """Scales are those of the image, and only scales with deformable blocks sample."""
    module = networks.create("sadnet", unshuffle=2, rsab_scales=2, **TINY)
    x = jnp.asarray(rng.random((1, 18, 32, 3)), jnp.float32)

    @quick_jit
    def observe(key, x):
        variables = module.init(key, x)
        _, state = module.apply(variables, x, mutable=["intermediates"])
        return module.measure(state["intermediates"]), module.sampling(variables, x)

    measured, sampling = observe(jax.random.key(0), x)
    assert {size: part.positions.shape[1:3] for size, part in sampling.items()} == {
        8: (3, 4),
        16: (2, 2),
    }
    assert sorted(measured) == ["offset/16", "offset/8"]
    offset = np.asarray(sampling[16].positions, np.float64)
    offset = offset - regular_grid(2, 2)[None, :, :, None]
    np.testing.assert_allclose(measured["offset/16"], 16 * np.abs(offset).mean(), rtol=1e-4)


@pytest.mark.extended
def test_training_in_bfloat16_scatters_in_float32(tiny):
    """In the program that the compiler for GPUs is given; scatters of bfloat16 are slow there."""
    module, variables, _ = tiny
    module = module.clone(dtype=jnp.bfloat16)
    gradient = jax.jit(jax.grad(lambda v, x: (module.apply(v, x) ** 2).mean()))
    traced = gradient.trace(variables, jnp.zeros((1, 16, 16, 3)))
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    scatters = re.findall(r"stablehlo\.scatter.*?-> tensor<([^>]*)>", text, re.DOTALL)
    assert len(scatters) == 4  # one for each scale
    assert all(shape.endswith("xf32") for shape in scatters)


def test_initialization_is_the_official_one(tiny):
    params = tiny[1]["params"]

    def assert_fills(array, bound):
        assert -bound <= array.min() < -0.95 * bound
        assert 0.95 * bound < array.max() <= bound

    dcn = params["dres4"]["dcnpack"]
    assert_fills(dcn["conv_offset_mask"]["kernel"], (6 / ((4 + 54) * 9)) ** 0.5)  # Xavier
    assert_fills(dcn["kernel"], (9 * 32) ** -0.5)
    assert_fills(params["up1"]["kernel"], (6 / ((8 + 4) * 4)) ** 0.5)
    assert not params["out"]["bias"].any()


@pytest.mark.extended
@pytest.mark.parametrize("zero", [True, False])
def test_offsets_can_start_at_zero(zero):
    block = sadnet.DeformConv(2, zero_init_offsets=zero)
    x = jnp.zeros((1, 4, 4, 4))
    params = block.init(jax.random.key(0), x, x)["params"]
    assert params["conv_offset_mask"]["kernel"].any() != zero


@pytest.mark.parametrize(
    ("number", "limit", "expected"), [(20, 8, 5), (12, 5, 4), (12, 4, 4), (9, 8, 3), (7, 4, 1)]
)
def test_largest_divisor(number, limit, expected):
    assert sadnet._largest_divisor(number, limit) == expected


def test_bad_fields_and_inputs_are_explained():
    with pytest.raises(ValueError, match=r"width 20 is not divisible by 8 .* or groups=5"):
        networks.create("sadnet", width=20)
    with pytest.raises(ValueError, match=r"no network 'sadnett'; known networks: .*sadnet"):
        networks.create("sadnett")
    with pytest.raises(ValueError, match=r"no preset 'huge'; its presets: base, fast, small"):
        networks.create("sadnet", preset="huge")
    with pytest.raises(ValueError, match=r"no field 'depth'; its fields: channels, dilations"):
        networks.create("sadnet", depth=3)
    for wrong in ((1, 2), (0, 1, 2, 3), (True, 1, 2, 3), 3):
        with pytest.raises(ValueError, match="SADNet dilations must be 4 integers of at least 1"):
            networks.create("sadnet", dilations=wrong)
    with pytest.raises(ValueError, match="channels must be an integer of at least 1, got True"):
        networks.create("sadnet", channels=True)
    with pytest.raises(ValueError, match="use_rsab must be True or False, got 'yes'"):
        networks.create("sadnet", use_rsab="yes")
    with pytest.raises(ValueError, match="SADNet rsab_scales must be 1 to 4, got 5"):
        networks.create("sadnet", rsab_scales=5)
    module = networks.create("sadnet", **TINY)
    with pytest.raises(TypeError, match="takes floating-point images"):
        module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8))
    for shape in ((1, 8, 8, 1), (8, 8, 3)):
        with pytest.raises(ValueError, match=r"SADNet\(channels=3\) takes \[N, H, W, 3\]"):
            module.init(jax.random.key(0), jnp.zeros(shape))


def regular_grid(height, width):
    """[h, w, 9, 2]: what each output pixel of a 3x3 convolution reads."""
    grid = np.zeros((height, width, 9, 2))
    for y, x, i, j in np.ndindex(height, width, 3, 3):
        grid[y, x, 3 * i + j] = (y - 1 + i, x - 1 + j)
    return grid


class TestSampling:
    @pytest.mark.extended
    def test_means_what_the_official_code_means(self, rng):
        """A network of zeros whose offsets and logits are the biases set here."""
        module = networks.create("sadnet", channels=1, **TINY)
        x = jnp.zeros((2, 9, 18, 1))
        shapes = jax.eval_shape(module.init, jax.random.key(0), x)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
        set_by_hand = jax.tree.map(lambda leaf: leaf, zeros)
        biases = {}
        for scale in (1, 2, 3, 4):
            biases[2 ** (scale - 1)] = bias = rng.normal(size=54).astype(np.float32)
            block = set_by_hand["params"][f"dres{scale}"]["dcnpack"]
            block["conv_offset_mask"]["bias"] = jnp.asarray(bias)
        sampling = quick_jit(module.sampling)
        regular, learned = jax.device_get((sampling(zeros, x), sampling(set_by_hand, x)))
        assert list(learned) == [1, 2, 4, 8]
        for size, (h, w) in {1: (9, 18), 2: (5, 9), 4: (3, 5), 8: (2, 3)}.items():
            grid, bias = regular_grid(h, w), biases[size]
            for found in (regular[size], learned[size]):
                assert found.positions.shape == (2, h, w, 2, 9, 2)
                assert found.modulation.shape == (2, h, w, 2, 9)
                assert found.positions.dtype == found.modulation.dtype == jnp.float32
            for image, group, tap in np.ndindex(2, 2, 9):
                where = (image, slice(None), slice(None), group, tap)
                np.testing.assert_array_equal(regular[size].positions[where], grid[:, :, tap])
                shift = bias[18 * group + 2 * tap], bias[18 * group + 2 * tap + 1]
                np.testing.assert_allclose(
                    learned[size].positions[where], grid[:, :, tap] + shift, atol=2e-6
                )
                weight = 1 / (1 + np.exp(-bias[36 + 9 * group + tap]))
                np.testing.assert_allclose(learned[size].modulation[where], weight, rtol=1e-5)
            np.testing.assert_array_equal(regular[size].modulation, 0.5)

    @pytest.mark.extended
    def test_is_what_the_blocks_sample(self, tiny):
        """Sampling there again gives the blocks' own outputs, on an image that is padded."""
        module, variables, _ = tiny
        x = jax.random.uniform(jax.random.key(1), (2, 9, 14, 3))
        scales = {2 ** (scale - 1): f"dres{scale}" for scale in (1, 2, 3, 4)}

        @quick_jit
        def observe(variables, x):
            calls, again = {}, {}

            def record(next_call, args, kwargs, context):
                out = next_call(*args, **kwargs)
                if isinstance(context.module, sadnet.DeformConv):
                    calls[context.module.path[0]] = (args[0], out)
                return out

            with nn.intercept_methods(record):
                module.apply(variables, x)
            whole = module.sampling(variables, ops.pad_to_multiple(x, 8))
            for size, name in scales.items():
                params = variables["params"][name]["dcnpack"]
                grid = regular_grid(16 // size, 16 // size).astype(np.float32)
                offset = whole[size].positions - grid[None, :, :, None]
                again[name] = ops.deform_conv2d(
                    calls[name][0], offset, whole[size].modulation, params["kernel"], params["bias"]
                )
            outputs = {name: out for name, (_, out) in calls.items()}
            return outputs, again, whole, module.sampling(variables, x)

        outputs, again, whole, cropped = observe(variables, x)
        for size, name in scales.items():
            np.testing.assert_allclose(again[name], outputs[name], atol=1e-5)
            h, w = -(-9 // size), -(-14 // size)
            for part, everything in zip(cropped[size], whole[size], strict=True):
                assert part.shape[1:3] == (h, w)
                np.testing.assert_array_equal(part, everything[:, :h, :w])
            assert np.abs(whole[size].modulation - 0.5).max() > 1e-3

    def test_mean_offset_of_each_scale(self, tiny):
        """In pixels of the image, by hand from the positions."""
        module, variables, _ = tiny
        x = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))

        @quick_jit
        def measure(variables, x):
            _, state = module.apply(variables, x, mutable=["intermediates"])
            return module.measure(state["intermediates"]), module.sampling(variables, x)

        measured, whole = measure(variables, x)
        assert sorted(measured) == ["offset/1", "offset/2", "offset/4", "offset/8"]
        for size, sampling in whole.items():
            grid = regular_grid(16 // size, 16 // size)
            offset = np.asarray(sampling.positions, np.float64) - grid[None, :, :, None]
            wanted = size * np.abs(offset).mean()
            np.testing.assert_allclose(measured[f"offset/{size}"], wanted, rtol=1e-4)
        assert networks.create("sadnet", use_rsab=False, **TINY).measure({}) == {}

    def test_warns_of_offsets_beyond_the_crop(self, tiny):
        means = {"loss": 99.0, "offset/1": 8.0, "offset/8": 8.5}
        warnings = tiny[0].find_warnings(means, crop=8)
        assert list(warnings) == ["offset/8"]
        assert "the offsets of scale 1/8 are 8.5 pixels on average" in warnings["offset/8"]
        assert "more than the crop of 8" in warnings["offset/8"]

    @pytest.mark.extended
    def test_leaves_the_network_alone(self, tiny):
        """The network is the same program whether it is asked for its sampling or not."""
        module, variables, _ = tiny
        assert set(variables) == {"params"}
        x = jnp.zeros((1, 8, 8, 3))

        asked = jax.jit(lambda v, x: module.apply(v, x, mutable=["intermediates"])[0])
        plain = jax.jit(lambda v, x: module.apply(v, x))
        programs = [f.lower(variables, x).as_text() for f in (asked, plain)]
        assert programs[0] == programs[1]
        kept = jax.eval_shape(lambda: module.apply(variables, x, mutable=["batch_stats"])[1])
        assert kept == {}

    def test_needs_deformable_blocks(self):
        module = networks.create("sadnet", use_rsab=False, **TINY)
        with pytest.raises(ValueError, match="learns no sampling; use a network with use_rsab=Tr"):
            module.sampling({}, jnp.zeros((1, 8, 8, 3)))


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
        assert "out.weight gives (3, 8, 3, 3), the network needs (1, 8, 3, 3)" in message

    def test_unknown_network(self):
        with pytest.raises(ValueError, match=r"no network 'vgg'; known networks: .*sadnet"):
            convert.from_torch("vgg", {"other": np.ones(1, np.float32)})
