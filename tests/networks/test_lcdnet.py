"""LCDNet layer by layer against NumPy in float64, its sizes, options and refusals."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import ndimage, special, stats

from lcdnet_jax import networks
from lcdnet_jax.networks import _lcdnet_blocks as blocks
from lcdnet_jax.networks import lcdnet
from lcdnet_jax.ops import rows
from tests.networks.by_hand import shuffle

# Compiled without LLVM's optimization: these programs run once.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def drawn(module, *shapes):
    """Variables as after some training: every number its own, so that none can be mixed up."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            fan = np.prod(leaf.shape[:-1]) if leaf.ndim < 5 else np.prod(leaf.shape[1:-1])
            value = rng.normal(0, fan**-0.5, leaf.shape)
        elif name == "scale":
            value = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            value = rng.uniform(-0.4, 0.4, leaf.shape)
        return value.astype(np.float32)

    inputs = [jnp.zeros(shape) for shape in shapes]
    return jax.tree_util.tree_map_with_path(
        draw, {"params": jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]}
    )


def image(*shape):
    return np.random.default_rng(1).uniform(size=shape).astype(np.float32)


def shared(**fields):
    options = {"dtype": jnp.float32, "norm_eps": 1e-6, "layer_scale_init": 0.0}
    options |= {"global_branch": "fourier_unit", "fourier": "fft", "block": "mssf"}
    return blocks.Shared(**options | fields)


# --- The layers by hand, in float64 ---------------------------------------------------------------


def conv(x, p):
    """Zero-padded, by shifted products; grouped where the kernel has fewer inputs."""
    kernel = np.asarray(p["kernel"], np.float64)
    size, per_group, out = kernel.shape[0], kernel.shape[2], kernel.shape[3]
    reach = size // 2
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    total = 0
    for i in range(size):
        for j in range(size):
            part = padded[:, i : i + height, j : j + width]
            if per_group == x.shape[3]:
                total = total + part @ kernel[i, j]
            else:  # depthwise: output o belongs to input o // multiplier
                total = total + part.repeat(out // x.shape[3], axis=-1) * kernel[i, j, 0]
    return total + np.asarray(p.get("bias", np.zeros(out)), np.float64)


def dense(x, p):
    return x @ np.asarray(p["kernel"], np.float64) + np.asarray(p.get("bias", 0), np.float64)


def norm(x, p, axes=-1, eps=1e-6):
    centered = x - x.mean(axes, keepdims=True)
    unit = centered / np.sqrt((centered**2).mean(axes, keepdims=True) + eps)
    return unit * np.asarray(p["scale"], np.float64) + np.asarray(p["bias"], np.float64)


def gate(x):
    half = x.shape[-1] // 2
    return x[..., :half] * x[..., half:]


def mean(x):
    return x.mean((1, 2), keepdims=True)


def softmax(x, axis):
    weights = np.exp(x - x.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


def cat(*parts):
    return np.concatenate(parts, axis=-1)


def head_of(x, p, name):
    return gate(conv(conv(x, p[f"{name}_expand"]), p[f"{name}_dw"]))


def mssf_block(x, p):
    n = norm(x, p["norm1"])
    local = head_of(n, p, "local")
    total = x + p["beta_local"] * conv(local * dense(mean(local), p["local_sca"]), p["local_out"])

    f = p["global"]
    spectrum = np.fft.rfft2(head_of(n, f, "spatial"), axes=(1, 2), norm="ortho")
    mixed = gate(norm(conv(cat(spectrum.real, spectrum.imag), f["spectral"]), f["norm"]))
    half = mixed.shape[-1] // 2
    spectrum = mixed[..., :half] + 1j * mixed[..., half:]
    y = np.fft.irfft2(spectrum, x.shape[1:3], axes=(1, 2), norm="ortho")
    total = total + p["beta_global"] * conv(y * dense(mean(y), f["sca"]), f["out"])

    h = conv(norm(total, p["norm2"]), p["expand"])
    small, large = gate(conv(h, p["first_3"])), gate(conv(h, p["first_5"]))
    half = small.shape[-1] // 2
    u = gate(conv(cat(small[..., :half], large[..., :half]), p["second_3"]))
    v = gate(conv(cat(small[..., half:], large[..., half:]), p["second_5"]))
    return total + p["gamma"] * conv(cat(u, v), p["reduce"])


def msfm(x, p, groups=8):
    y = conv(x, p["in"])
    half = y.shape[-1] // 2
    branches = []
    for part, size in ((y[..., :half], 3), (y[..., half:], 5)):
        name = f"{size}x{size}"
        logits = norm(dense(mean(part), p[f"filter_{name}"]), p[f"filter_norm_{name}"])
        filters = softmax(logits.reshape(len(x), groups, size * size), -1)
        low = np.empty_like(part)
        for n in range(len(x)):
            for channel in range(half):
                kernel = filters[n, channel // (half // groups)].reshape(size, size)
                low[n, ..., channel] = ndimage.correlate(
                    part[n, ..., channel], kernel, mode="mirror"
                )
        high = part - low
        z = dense(mean(low + high), p[f"squeeze_{name}"])
        weights = softmax(np.stack([dense(z, p[f"{name}_{i}"]) for i in (0, 1)]), 0)
        branches.append(conv(weights[0] * high + weights[1] * low, p[f"out_{name}"]))
    return conv(cat(*branches), p["out"])


def stage(x, p):
    blocks = p["blocks"]
    for i in range(blocks["gamma"].shape[0]):
        x = mssf_block(x, jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i], np.float64), blocks))
    return x + msfm(x, p["msfm"])


def scam(e, d, p):
    t = gate(dense(mean(e + d), p["squeeze"]))
    weights = softmax(np.stack([dense(t, p[f"gate_{i}"]) for i in (0, 1)]), 0)
    return weights[0] * e + weights[1] * d


def sfe(x, p):
    def gelu(y):
        return y * (1 + special.erf(y / np.sqrt(2))) / 2

    y = gelu(conv(gelu(conv(gelu(conv(x, p["conv1"])), p["conv2"])), p["conv3"]))
    return norm(conv(y, p["conv4"]), p["norm"], (1, 2), 1e-5)


def down(x, p):
    kernel = np.asarray(p["kernel"], np.float64)
    cells = [x[:, i::2, j::2] @ kernel[i, j] for i in (0, 1) for j in (0, 1)]
    return sum(cells) + np.asarray(p["bias"], np.float64)


def up(x, p):
    """Pixel shuffle: channel 4 c + 2 i + j becomes pixel (i, j) of channel c."""
    y = conv(x, p["conv"])
    n, height, width, channels = y.shape
    out = np.empty((n, 2 * height, 2 * width, channels // 4))
    for i in (0, 1):
        for j in (0, 1):
            out[:, i::2, j::2] = y[..., 2 * i + j :: 4]
    return out


def sff(skips, context, p):
    """Of MSFSNet: mixed from all scales, gated with a context from coarse to fine, mixed again."""

    def mix(features, name):
        mixed = []
        for to, own in enumerate(features):
            parts = []
            for source, other in enumerate(features):
                label = f"{name}_{source}_to_{to}"
                factor = 2 ** abs(to - source)
                if source < to:  # every so many pixels of a finer scale
                    parts.append(conv(other[:, ::factor, ::factor], p[label]))
                elif source > to:
                    parts.append(shuffle(conv(other, p[label]), factor))
                else:
                    parts.append(own)
            mixed.append(conv(cat(*parts), p[f"{name}_{to}"]))
        return mixed

    features, gated = mix(skips, "before"), []
    for scale in reversed(range(len(skips))):
        feature, context = features[scale], up(context, p[f"context{scale}"])
        t = gate(dense(mean(feature + context), p[f"squeeze{scale}"]))
        of_feature, of_context = (
            softmax(dense(t, p[f"{name}{scale}"]), -1) for name in ("feature", "gate")
        )
        context = context * (1 + of_context)
        gated.insert(0, feature * (1 + of_feature) + context)
    return mix(gated, "after")


def lcdnet_by_hand(x, p):
    height, width = x.shape[1:3]
    below, right = -height % 16, -width % 16
    image = np.pad(x.astype(np.float64), ((0, 0), (0, below), (0, right), (0, 0)), mode="reflect")
    images = [image[:, :: 2**k, :: 2**k] for k in range(4)]
    feature, skips = conv(image, p["stem"]), []
    for k in range(4):
        if k:
            feature = conv(cat(sfe(images[k], p[f"sfe{k}"]), feature), p[f"merge{k}"])
        feature = stage(feature, p[f"enc{k}"])
        skips.append(feature)
        feature = down(feature, p[f"down{k}"])
    feature = stage(feature, p["mid"])
    outputs = []
    for k in (3, 2, 1, 0):
        feature = up(feature, p[f"up{k}"])
        feature = conv(cat(feature, scam(skips[k], feature, p[f"scam{k}"])), p[f"skip{k}"])
        feature = stage(feature, p[f"dec{k}"])
        outputs.insert(0, images[k] + conv(feature, p[f"head{k}"]))
    return [outputs[0][:, :height, :width], *outputs[1:]]


def assert_equals(module, by_hand, *inputs):
    """Within 4e-5 of the largest magnitude: rounding differs between processors."""
    variables = drawn(module, *(x.shape for x in inputs))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    expected = by_hand(*(x.astype(np.float64) for x in inputs), p)
    actual = quick_jit(module.apply)(variables, *inputs)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=4e-5 * np.abs(expected).max())
    return variables["params"]


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


def test_gate_of_a_skip_connection_by_hand():
    for channels, inside in ((16, 4), (64, 8)):
        one, other = image(2, 3, 5, channels), image(2, 3, 5, channels)[::-1] * 2
        params = assert_equals(blocks.SCAM("branch", None, jnp.float32), scam, one, other)
        assert jax.tree.map(np.shape, params["squeeze"]) == {"kernel": (channels, inside)}


@pytest.mark.parametrize("softmax_over", ["branch", "joint"])
def test_pairs_of_weights_by_hand(softmax_over):
    class Pair(nn.Module):
        @nn.compact
        def __call__(self, z):
            weights = blocks._pair_of_weights(z, 3, softmax_over, jnp.float32, True, "w")
            return jnp.stack(weights)

    def by_hand(z, p):
        one, other = (dense(z, p[f"w_{i}"]) for i in (0, 1))
        if softmax_over == "branch":
            return softmax(np.stack([one, other]), 0)
        return np.stack(np.split(softmax(cat(one, other), -1), 2, axis=-1))

    assert_equals(Pair(), by_hand, image(2, 1, 1, 5))


def test_features_of_smaller_images_by_hand():
    """Also of a nearly constant image, whose variance is as small as the constant beside it."""
    module = blocks.SFE(16, "scm", shared())
    params = assert_equals(module, sfe, image(2, 5, 6, 3))
    shapes = [params[f"conv{i}"]["kernel"].shape for i in (1, 2, 3, 4)]
    assert shapes == [(3, 3, 3, 4), (1, 1, 4, 8), (3, 3, 8, 8), (1, 1, 8, 16)]
    module = blocks.SFE(4, "scm", shared())
    variables = drawn(module, (1, 5, 6, 3))
    variables["params"]["conv4"]["kernel"] *= np.float32(0.01)
    variables["params"]["conv4"]["bias"] *= 0
    x = image(2, 5, 6, 3)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    np.testing.assert_allclose(quick_jit(module.apply)(variables, x), sfe(x, p), atol=2e-5)


def test_doubling_by_hand():
    assert_equals(blocks.Up(jnp.float32), up, image(2, 3, 5, 8))


def test_skip_connections_of_msfsnet_by_hand():
    class Mixed(nn.Module):
        """All scales as one array, since results are of several sizes."""

        @nn.compact
        def __call__(self, *skips_and_middle):
            *skips, middle = skips_and_middle
            gated = blocks.SFF(shared(), name="sff")(skips, middle)
            return jnp.concatenate([part.ravel() for part in gated])

    def by_hand(*inputs):
        *skips, middle, p = inputs
        return np.concatenate([part.ravel() for part in sff(skips, middle, p["sff"])])

    sides, shift = (8, 4, 2, 1), np.float32(0.5)
    inputs = [image(2, side, side, 32 // side) - shift for side in sides]
    params = assert_equals(Mixed(), by_hand, *inputs)["sff"]
    assert jax.tree.map(np.shape, params["squeeze0"]) == {"kernel": (4, 4)}
    for name in ("feature", "gate"):
        assert jax.tree.map(np.shape, params[f"{name}1"]) == {"kernel": (2, 8)}
    for finer, coarser, channels, wide in ((0, 1, 8, 16), (0, 2, 16, 64), (1, 2, 16, 32)):
        for name in ("before", "after"):
            layer = params[f"{name}_{coarser}_to_{finer}"]
            assert jax.tree.map(np.shape, layer) == {"kernel": (1, 1, channels, wide)}
    large = [jnp.zeros((1, side, side, 512 // side)) for side in sides]
    shapes = jax.eval_shape(Mixed().init, jax.random.key(0), *large)["params"]["sff"]
    squeezes = [shapes[f"squeeze{i}"]["kernel"].shape for i in range(3)]
    assert squeezes == [(64, 8), (128, 16), (256, 32)]


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


def test_weights_of_bands_come_from_half_of_the_means():
    """But from 32 numbers at least."""
    for channels, inside in ((32, 32), (256, 64)):
        module = blocks.MSFM((3, 5), 8, "sk", "branch", None, shared())
        x = jnp.zeros((1, 4, 4, channels))
        params = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
        for size in ("3x3", "5x5"):
            half = channels // 2
            assert params[f"squeeze_{size}"]["kernel"].shape == (half, inside)
            for i in (0, 1):
                layer = jax.tree.map(lambda leaf: leaf.shape, params[f"{size}_{i}"])
                assert layer == {"kernel": (inside, half), "bias": (half,)}


@pytest.mark.extended
def test_filters_start_by_fan_out():
    module = blocks.MSFM((3, 5), 64, "sk", "branch", None, shared())
    params = quick_jit(module.init)(jax.random.key(0), image(1, 4, 4, 128))["params"]
    for size in (3, 5):
        kernel = np.asarray(params[f"filter_{size}x{size}"]["kernel"])
        assert kernel.shape == (64, 64 * size**2)
        law = stats.norm(0, (2 / kernel.shape[1]) ** 0.5)
        assert stats.kstest(kernel.ravel(), law.cdf).statistic < 3 / kernel.size**0.5


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


# --- Sizes ----------------------------------------------------------------------------------------


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


# --- Blocks ---------------------------------------------------------------------------------------


def test_a_block_with_factors_of_zero_changes_nothing():
    block = blocks.MSSFBlock(None, shared())
    x = image(2, 7, 9, 16)
    result, _ = quick_jit(block.init_with_output)(jax.random.key(0), x)
    np.testing.assert_array_equal(result, x)


def test_plain_sums_are_factors_of_one():
    x = image(2, 6, 9, 16)
    plain, scaled = (blocks.MSSFBlock(None, shared(layer_scale_init=s)) for s in (None, 1.0))
    variables = drawn(plain, x.shape)
    names = ("beta_local", "beta_global", "gamma")
    ones = {"params": variables["params"] | {name: jnp.ones(16) for name in names}}
    expected = quick_jit(scaled.apply)(ones, x)
    np.testing.assert_allclose(quick_jit(plain.apply)(variables, x), expected, atol=1e-6)


@pytest.mark.parametrize("size", [3, 5])
def test_low_pass(size):
    rng = np.random.default_rng(0)
    y = rng.standard_normal((2, 7, 6, 8)).astype(np.float32)
    filters = softmax(rng.standard_normal((2, 4, size * size)), -1).astype(np.float32)
    actual = blocks.low_pass(jnp.asarray(y), jnp.asarray(filters))
    padded = np.pad(y.astype(np.float64), ((0, 0), *[(size // 2,) * 2] * 2, (0, 0)), mode="reflect")
    for n, row, column, channel in np.ndindex(y.shape):
        patch = padded[n, row : row + size, column : column + size, channel]
        expected = (patch.ravel() * filters[n, channel // 2]).sum()
        assert actual[n, row, column, channel] == pytest.approx(expected, abs=1e-5)


@pytest.mark.extended
@pytest.mark.parametrize("size", [3, 5])
def test_gradients_of_low_pass(size):
    """It is linear in both arguments, so each gradient's product with a step is a difference."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        y, step_y, incoming = (jnp.asarray(rng.standard_normal((2, 5, 6, 8))) for _ in range(3))
        filters, step_filters = (
            jnp.asarray(rng.standard_normal((2, 4, size**2))) for _ in range(2)
        )
        _, pull = jax.vjp(blocks.low_pass, y, filters)
        of_y, of_filters = pull(incoming)
        assert of_y.dtype == of_filters.dtype == jnp.float64
        along_y = (blocks.low_pass(step_y, filters) * incoming).sum()
        along_filters = (blocks.low_pass(y, step_filters) * incoming).sum()
        np.testing.assert_allclose((of_y * step_y).sum(), along_y, rtol=1e-10)
        np.testing.assert_allclose((of_filters * step_filters).sum(), along_filters, rtol=1e-10)


@pytest.mark.extended
@pytest.mark.parametrize("softmax", ["branch", "joint"])
def test_weights_of_low_and_high(softmax):
    """Constant images have no high frequencies; filters and weights add up to one."""
    module = blocks.MSFM((3, 5), 4, "sk", softmax, None, shared())
    x = np.broadcast_to(image(2, 1, 1, 16), (2, 6, 9, 16))
    variables = drawn(module, x.shape)
    _, seen = module.apply(variables, x, mutable=["intermediates"])
    seen = seen["intermediates"]
    for name in ("3x3", "5x5"):
        (filters,) = seen[f"filters_{name}"]
        assert filters.shape == (2, 4, int(name[0]) ** 2)
        np.testing.assert_allclose(filters.sum(-1), 1, rtol=1e-5)
        assert (filters > 0).all()
        ((low, high),) = seen[f"bands_{name}"]
        assert np.abs(low).max() > 0.1
        np.testing.assert_allclose(high, 0, atol=1e-6)
    y = jnp.asarray(np.broadcast_to(image(2, 1, 1, 8), (2, 6, 9, 8)))
    np.testing.assert_allclose(blocks.low_pass(y, filters), y, atol=1e-6)

    gates = blocks.SCAM(softmax, None, jnp.float32)
    one, other = image(2, 6, 9, 16), image(2, 6, 9, 16)[::-1]
    variables = drawn(gates, one.shape, other.shape)
    _, seen = gates.apply(variables, one, other, mutable=["intermediates"])
    weights = np.stack(seen["intermediates"]["gates"][0])
    total = weights.sum(0) if softmax == "branch" else weights.sum((0, -1))
    np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_cross_fusion_adds_attention_to_the_whole():
    """With factors of 0 the result is that of low + high, unlike MSFSNet's."""
    module = lcdnet.MSFM((3, 5), 4, "cross", "branch", None, shared())
    x = image(2, 6, 9, 16)
    params = drawn(module, x.shape)["params"]
    for name in ("3x3", "5x5"):
        for factors in ("beta", "gamma"):
            fuse = params[f"fuse_{name}"]
            fuse[factors] = np.zeros_like(fuse[factors])

    def linear(x, layer):
        return x @ params[layer]["kernel"][0, 0] + params[layer]["bias"]

    halves = np.split(linear(x, "in"), 2, axis=-1)
    joined = [
        linear(half, f"out_{name}") for half, name in zip(halves, ("3x3", "5x5"), strict=True)
    ]
    expected = linear(np.concatenate(joined, axis=-1), "out")
    np.testing.assert_allclose(module.apply({"params": params}, x), expected, atol=1e-5)


def test_row_attention():
    module = blocks.RowAttention(shared())
    a, b = image(2, 3, 5, 8), image(2, 3, 5, 8)[::-1] * 2
    variables = drawn(module, a.shape, b.shape)
    p = jax.tree.map(np.asarray, variables["params"])
    query, key = (
        conv(norm(a, p["norm_one"]), p["query_one"]),
        conv(norm(b, p["norm_other"]), p["query_other"]),
    )
    expected = [a.astype(np.float64), b.astype(np.float64)]
    for n, row in np.ndindex(2, 3):
        scores = query[n, row] @ key[n, row].T / np.sqrt(8)
        other = conv(b, p["value_other"])[n, row]
        one = conv(a, p["value_one"])[n, row]
        expected[0][n, row] += p["beta"] * (softmax(scores, 1) @ other)
        expected[1][n, row] += p["gamma"] * (softmax(scores.T, 1) @ one)
    for actual, wanted in zip(module.apply(variables, a, b), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-5)


def test_literal_chain():
    module = blocks.LiteralChain(shared())
    x = image(2, 5, 7, 4)
    variables = drawn(module, x.shape)
    p = variables["params"]
    z = np.fft.rfft2(x.astype(np.float64), axes=(1, 2), norm="ortho")
    y = head_of(cat(z.real, z.imag), p, "spectral")
    y = conv(y * dense(mean(y), p["sca"]), p["out"])
    expected = np.fft.irfft2(y[..., :4] + 1j * y[..., 4:], (5, 7), axes=(1, 2), norm="ortho")
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize("branch", ["unit", pytest.param("chain", marks=pytest.mark.extended)])
def test_fourier_transforms_as_matrix_products(branch):
    """The same parameters and the same result, without complex numbers, at odd sides too."""
    x = image(2, 5, 7, 4)
    modules = {}
    for fourier in ("fft", "matmul"):
        options = shared(fourier=fourier)
        modules[fourier] = (
            blocks.FourierUnit(None, options) if branch == "unit" else blocks.LiteralChain(options)
        )
    variables = drawn(modules["fft"], x.shape)
    assert jax.tree.structure(variables) == jax.tree.structure(drawn(modules["matmul"], x.shape))
    expected = modules["fft"].apply(variables, x)
    np.testing.assert_allclose(modules["matmul"].apply(variables, x), expected, atol=2e-6)
    programs = {k: str(jax.make_jaxpr(m.apply)(variables, x)) for k, m in modules.items()}
    assert "fft[" in programs["fft"]
    assert "fft[" not in programs["matmul"]


@pytest.mark.extended
@pytest.mark.slow
def test_whole_network_without_complex_numbers(traced_once):
    x = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    for fourier in ("fft", "matmul"):
        module = networks.create("lcdnet", preset="tiny", fourier=fourier)
        text = str(jax.make_jaxpr(module.apply)(networks.abstract_variables(module), x))
        assert ("fft[" in text) == (fourier == "fft")


@pytest.mark.parametrize("branch", ["fourier_unit", "literal_chain"])
def test_a_block_by_rows_is_the_same(branch, monkeypatch):
    module = blocks.MSSFBlock(None, shared(global_branch=branch))
    x = image(2, 41, 7, 4)
    variables = drawn(module, x.shape)
    expected = quick_jit(module.apply)(variables, x)
    monkeypatch.setattr(rows, "_PIXELS", 14)
    with rows.split_large_images():
        by_rows = quick_jit(lambda v, x: module.apply(v, x))
        assert by_rows.lower(variables, x).as_text().count("stablehlo.while") >= 3
        np.testing.assert_allclose(by_rows(variables, x), expected, rtol=0, atol=1e-5)


def test_a_block_by_rows_plans_less_memory(monkeypatch):
    module = blocks.MSSFBlock(None, shared())
    x = image(1, 64, 64, 8)
    variables = drawn(module, x.shape)

    def planned():
        program = quick_jit(lambda v, x: module.apply(v, x)).lower(variables, x).compile()
        return program.memory_analysis().temp_size_in_bytes

    whole = planned()
    monkeypatch.setattr(rows, "_PIXELS", 128)
    with rows.split_large_images():
        assert planned() < 0.75 * whole


def test_naf_block():
    module = blocks.NAFBlock(None, shared(block="naf"))
    x = image(2, 5, 7, 6)
    variables = drawn(module, x.shape)
    p = jax.tree.map(np.asarray, variables["params"])
    assert sum(leaf.size for leaf in jax.tree.leaves(p)) == 7 * 6**2 + 33 * 6
    y = head_of(norm(x, p["norm1"]), p, "spatial")
    y = x + p["beta"] * conv(y * dense(mean(y), p["sca"]), p["out"])
    expected = y + p["gamma"] * conv(gate(conv(norm(y, p["norm2"]), p["expand"])), p["reduce"])
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5)


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
        ({"scam_type": None}, "scam_type must be one of 'sk', 'sff', 'cross', 'none', got None"),
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
