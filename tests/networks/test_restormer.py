"""Restormer: padding, views, initialization, presets. Its numbers: test_golden."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from lcdnet_jax import convert, networks
from lcdnet_jax.config import network_fields
from lcdnet_jax.networks import restormer
from tests.networks.by_hand import (
    assert_fills,
    check,
    conv,
    depthwise,
    drawn,
    exact,
    image,
    layer_norm,
    quick_jit,
)

TINY = {"width": 4, "blocks": (1, 2, 1, 1), "refinement_blocks": 1, "heads": (1, 2, 2, 4)}


def test_presets():
    """Those of the authors' option files."""
    for preset, channels, norm_bias in (
        ("motion_deblurring", 3, True),
        ("defocus_single", 3, True),
        ("defocus_dual", 6, True),
        ("deraining", 3, True),
        ("gaussian_gray", 1, False),
        ("gaussian_color", 3, False),
        ("real_denoising", 3, False),
    ):
        module = networks.create("restormer", preset=preset)
        fields = {"width": 48, "blocks": (4, 6, 6, 8), "refinement_blocks": 4}
        assert module == networks.Restormer(
            channels, **fields, heads=(1, 2, 4, 8), norm_bias=norm_bias
        )
    # A configuration has the channels elsewhere.
    assert "channels" not in network_fields.resolve("restormer", {"preset": "gaussian_gray"})


@pytest.mark.extended
@pytest.mark.parametrize("size", [(17, 30), (1, 5)])
def test_images_are_mirrored(size):
    module = networks.create("restormer", **TINY)
    variables = drawn(module, image(1, 16, 16, 3))
    x = image(1, *size, 3)
    padded = np.pad(x, ((0, 0), *((0, -side % 8) for side in size), (0, 0)), mode="reflect")
    whole = quick_jit(module.apply)(variables, padded)
    found = quick_jit(module.apply)(variables, x)
    np.testing.assert_allclose(found, whole[:, : size[0], : size[1]], rtol=0, atol=1e-5)


def attention(x, p, heads):
    n, height, width, channels = x.shape
    qkv = depthwise(conv(x, p["qkv"]), p["qkv_dwconv"])
    size = channels // heads
    out = np.zeros(x.shape)
    for k, head in np.ndindex(n, heads):
        query, key, value = (
            qkv[k, :, :, channels * i + size * head :][..., :size].reshape(-1, size)
            for i in range(3)
        )
        scores = np.zeros((size, size))
        for i, j in np.ndindex(size, size):
            norms = np.linalg.norm(query[:, i]) * np.linalg.norm(key[:, j])
            scores[i, j] = query[:, i] @ key[:, j] / norms * p["temperature"][head, 0, 0]
        weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        mixed = (value @ weights.T).reshape(height, width, size)
        out[k, :, :, size * head : size * (head + 1)] = mixed
    return conv(out, p["project_out"])


def feed_forward(x, p):
    y = depthwise(conv(x, p["project_in"]), p["dwconv"])
    one, other = np.split(y, 2, axis=-1)
    gelu = one * (1 + scipy.special.erf(one / 2**0.5)) / 2
    return conv(gelu * other, p["project_out"])


@pytest.mark.parametrize("norm_bias", [True, False])
@pytest.mark.parametrize("contrast", [1.0, 3e-3])
def test_block_by_hand(norm_bias, contrast):
    """At low contrast the epsilon of the normalization, 1e-5, is as large as the variance."""

    def by_hand(x, p):
        x = x + attention(layer_norm(x, p["norm1"], 1e-5), p["attn"], heads=2)
        return x + feed_forward(layer_norm(x, p["norm2"], 1e-5), p["ffn"])

    check(restormer.Block(2, norm_bias, jnp.float32), (contrast * image(2, 5, 7, 8),), by_hand)


def test_attention_by_hand():
    """Between the channels of a head; and sums over many pixels stay exact in bfloat16."""
    x = image(2, 48, 64, 8) - 0.5
    layer = restormer.Attention(2, jnp.float32)
    variables = drawn(layer, x)
    p = exact(variables["params"])
    expected = attention(x.astype(np.float64), p, heads=2)
    found = quick_jit(layer.apply)(variables, x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    rough = quick_jit(restormer.Attention(2, jnp.bfloat16).apply)(variables, x)
    assert rough.dtype == jnp.bfloat16
    error = np.abs(np.asarray(rough, np.float64) - expected).max()
    assert 0 < error < 0.02 * np.abs(expected).max()


@pytest.mark.extended
def test_initialization():
    module = networks.create("restormer", width=16, blocks=(2, 1, 1, 1), refinement_blocks=1)
    params = quick_jit(module.init)(jax.random.key(0), image(1, 16, 16, 3))["params"]
    block = params["encoder_level1"]
    assert (block["attn"]["temperature"] == 1).all()
    assert block["attn"]["temperature"].shape == (2, 1, 1, 1)
    assert (block["norm1"]["scale"] == 1).all()
    assert not block["norm2"]["bias"].any()
    for layer, fan_in in (
        (params["patch_embed"], 27),
        (params["down1_2"], 9 * 16),
        (params["output"], 9 * 32),
        (block["attn"]["qkv"], 16),
        (block["attn"]["qkv_dwconv"], 9),
        (block["ffn"]["project_in"], 16),
    ):
        assert set(layer) == {"kernel"}
        assert_fills(layer["kernel"], fan_in**-0.5)
    assert block["ffn"]["project_in"]["kernel"].shape == (2, 1, 1, 16, 2 * 42)  # int(16 * 2.66)


class TestOtherVariants:
    @pytest.fixture(scope="class")
    @classmethod
    def gray(cls):
        shapes = networks.abstract_variables(networks.create("restormer", preset="gaussian_gray"))
        variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, "f"), shapes)
        return convert.to_torch("restormer", variables, preset="gaussian_gray")

    def test_presets_that_fit_are_named(self, gray):
        with pytest.raises(ValueError, match="not the weights of restormer with") as error:
            convert.from_torch("restormer", gray, preset="real_denoising")
        assert str(error.value).endswith("\nThey fit preset='gaussian_gray'; give it.")
        wanted = "output.weight gives (1, 96, 3, 3), the network needs (3, 96, 3, 3)"
        assert wanted in str(error.value)

    @pytest.mark.extended
    def test_several_presets_fit(self, gray):
        color = dict(gray)
        color["patch_embed.proj.weight"] = np.zeros((48, 3, 3, 3), "f")
        color["output.weight"] = np.zeros((3, 96, 3, 3), "f")
        with pytest.raises(ValueError, match=r"encoder_level1\.0\.norm1\.body\.bias; ") as error:
            convert.from_torch("restormer", color)
        fit = "They fit preset='gaussian_color' or preset='real_denoising'; give it."
        assert str(error.value).endswith(fit)

    @pytest.mark.extended
    def test_no_preset_fits(self, gray):
        other = {key: value for key, value in gray.items() if "attn.qkv." not in key}
        with pytest.raises(ValueError, match=r"Check the network's fields \(channels, sizes, pre"):
            convert.from_torch("restormer", other, preset="gaussian_gray")
