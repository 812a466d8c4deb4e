"""The blocks of LCDNet: each against NumPy in float64, and its options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import stats

from lcdnet_jax.networks import _lcdnet_blocks as blocks
from lcdnet_jax.ops import rows
from tests.networks.by_hand import image, quick_jit
from tests.networks.lcdnet_by_hand import (
    assert_equals,
    cat,
    conv,
    dense,
    drawn,
    gate,
    head_of,
    mean,
    norm,
    scam,
    scam_of_normalized_means,
    scam_of_pixels,
    sfe,
    sff,
    shared,
    softmax,
    up,
)


@pytest.mark.parametrize(
    ("kind", "by_hand"),
    [("sk", scam), ("sk_norm", scam_of_normalized_means), ("pixel", scam_of_pixels)],
)
def test_gate_of_a_skip_connection_by_hand(kind, by_hand):
    for channels, narrow, wide in ((16, 4, 32), (128, 16, 64)):
        one, other = image(2, 3, 5, channels), image(2, 3, 5, channels)[::-1] * 2
        params = assert_equals(blocks.SCAM(kind, "branch", None, shared()), by_hand, one, other)
        shapes = jax.tree.map(np.shape, params)
        assert (
            shapes.get("squeeze")
            == {
                "sk": {"kernel": (channels, narrow)},
                "sk_norm": {"bias": (wide,), "kernel": (channels, wide)},
                "pixel": None,
            }[kind]
        )


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

    gates = blocks.SCAM("sk", softmax, None, shared())
    one, other = image(2, 6, 9, 16), image(2, 6, 9, 16)[::-1]
    variables = drawn(gates, one.shape, other.shape)
    _, seen = gates.apply(variables, one, other, mutable=["intermediates"])
    weights = np.stack(seen["intermediates"]["gates"][0])
    total = weights.sum(0) if softmax == "branch" else weights.sum((0, -1))
    np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_cross_fusion_adds_attention_to_the_whole():
    """With factors of 0 the result is that of low + high, unlike MSFSNet's."""
    module = blocks.MSFM((3, 5), 4, "cross", "branch", None, shared())
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
