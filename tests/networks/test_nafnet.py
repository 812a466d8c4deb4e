"""NAFNet: padding, windows of local pooling, initialization, presets. Its numbers: test_golden."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import Restorer, convert, networks
from lcdnet_jax.networks import nafnet
from tests.networks.by_hand import (
    assert_fills,
    check,
    conv,
    dense,
    depthwise,
    drawn,
    image,
    layer_norm,
    quick_jit,
)

TINY = {"width": 4, "enc_blocks": (1, 2, 1, 1)}


@pytest.fixture(scope="module")
def tiny():
    module = networks.create("nafnet", **TINY)
    return module, drawn(module, image(1, 16, 16, 3))


def test_presets():
    """Those of the authors' option files."""
    deblurring = {"enc_blocks": (1, 1, 1, 28), "mid_blocks": 1, "dec_blocks": (1, 1, 1, 1)}
    denoising = {"enc_blocks": (2, 2, 4, 8), "mid_blocks": 12, "dec_blocks": (2, 2, 2, 2)}
    for width in (32, 64):
        for data in ("gopro", "reds"):
            module = networks.create("nafnet", preset=f"{data}_width{width}")
            assert module == networks.NAFNet(3, width, **deblurring, local_pool=384)
        module = networks.create("nafnet", preset=f"sidd_width{width}")
        assert module == networks.NAFNet(3, width, **denoising)


@pytest.mark.parametrize("contrast", [1.0, 1e-3])
def test_block_by_hand(contrast):
    """At low contrast the epsilon of the normalization, 1e-6, is as large as the variance."""

    def by_hand(x, p):
        y = depthwise(conv(layer_norm(x, p["norm1"], 1e-6), p["conv1"]), p["conv2"])
        y = y[..., :4] * y[..., 4:]
        y = y * dense(y.mean((1, 2), keepdims=True), p["sca_1"])
        x = x + conv(y, p["conv3"]) * p["beta"]
        y = conv(layer_norm(x, p["norm2"], 1e-6), p["conv4"])
        return x + conv(y[..., :4] * y[..., 4:], p["conv5"]) * p["gamma"]

    check(nafnet.Block(None, jnp.float32), (contrast * image(2, 5, 7, 4),), by_hand)


@pytest.mark.extended
@pytest.mark.parametrize("size", [(17, 30), (1, 5)])
def test_images_are_padded_with_zeros(tiny, size):
    module, variables = tiny
    x = image(1, *size, 3)
    padded = np.pad(x, ((0, 0), *((0, -side % 16) for side in size), (0, 0)))
    whole = quick_jit(module.apply)(variables, padded)
    found = quick_jit(module.apply)(variables, x)
    np.testing.assert_allclose(found, whole[:, : size[0], : size[1]], rtol=0, atol=1e-5)


@pytest.mark.extended
class TestLocalPooling:
    def test_large_windows_are_the_whole_image(self, tiny):
        module, variables = tiny
        x = image(1, 32, 48, 3)
        whole = quick_jit(module.apply)(variables, x)
        large = quick_jit(module.clone(local_pool=48).apply)(variables, x)
        np.testing.assert_array_equal(large, whole)
        small = quick_jit(module.clone(local_pool=32).apply)(variables, x)
        assert np.abs(small - whole).max() > 1e-4

    def test_pixels_far_away_do_not_matter(self, tiny):
        """Without windows they do, by way of the means."""
        module, variables = tiny
        x = image(1, 16, 640, 3)
        changed = x.copy()
        changed[:, :, -32:] = 0
        for window, moves in ((16, False), (None, True)):
            apply = quick_jit(module.clone(local_pool=window).apply)
            before, after = (np.asarray(apply(variables, y)) for y in (x, changed))
            assert (np.abs(after - before)[:, :, :16].max() > 2e-6) == moves

    @pytest.mark.parametrize(
        ("local_pool", "windows"), [(384, {384, 192, 96, 48, 24}), (8, {8, 4, 2, 1})]
    )
    def test_windows_of_each_scale(self, tiny, monkeypatch, local_pool, windows):
        """In its own pixels, at least one."""
        module, variables = tiny
        seen, mean = set(), nafnet.windowed_mean
        monkeypatch.setattr(nafnet, "windowed_mean", lambda x, w: seen.add(w) or mean(x, w))
        jax.eval_shape(module.clone(local_pool=local_pool).apply, variables, image(1, 16, 16, 3))
        assert seen == windows

    def test_option_of_restorers(self, tiny):
        module, variables = tiny
        restorer = Restorer(module, variables, local_pool=32)
        assert restorer.module == module.clone(local_pool=32)
        assert restorer.mode.endswith("local 32")


@pytest.mark.extended
@pytest.mark.slow
def test_initialization():
    """Blocks start as the identity, convolutions as PyTorch's."""
    module = networks.create("nafnet", width=16, enc_blocks=(1, 1, 1, 2))
    x = image(1, 16, 80, 3)  # no side as large as a width
    params = quick_jit(module.init)(jax.random.key(0), x)["params"]
    for stage in ("encoders_0", "encoders_3", "middle_blks", "decoders_0"):
        assert not params[stage]["beta"].any()
        assert not params[stage]["gamma"].any()
        assert (params[stage]["norm1"]["scale"] == 1).all()
    block = params["encoders_3"]
    assert block["conv1"]["kernel"].shape == (2, 1, 1, 128, 256)
    assert (block["conv1"]["kernel"][0] != block["conv1"]["kernel"][1]).mean() > 0.9
    for layer, fan_in in (
        (params["intro"], 27),
        (params["downs_0"], 4 * 16),
        (block["conv1"], 128),
        (block["conv2"], 9),
        (block["sca_1"], 128),
    ):
        assert_fills(layer["kernel"], fan_in**-0.5)
        assert 0.5 * fan_in**-0.5 < np.abs(layer["bias"]).max() <= fan_in**-0.5
    assert_fills(params["ups_0_0"]["kernel"], 256**-0.5)
    assert_fills(params["downs_3"]["bias"], (4 * 128) ** -0.5)


@pytest.mark.extended
def test_weights_of_another_variant_name_the_presets_that_fit():
    shapes = networks.abstract_variables(networks.create("nafnet", preset="sidd_width32"))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, "f"), shapes)
    state_dict = convert.to_torch("nafnet", variables, preset="sidd_width32")
    with pytest.raises(ValueError, match=r"not the weights of nafnet with \{\}") as error:
        convert.from_torch("nafnet", {"params": state_dict})
    assert str(error.value).endswith("\nThey fit preset='sidd_width32'; give it.")
    assert "unknown: decoders.0.1.beta; " in str(error.value)
