"""Supervised training: the losses that are added up. tests/training/test_sfm.py tests masking."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lcdnet_jax import losses, networks


def test_the_dct_loss_is_added_with_its_weight(clean_batch, prepared, step_with, shift):
    batch = clean_batch()
    seen = prepared(batch)
    output = 0.5 * seen["degraded"] + np.float32(0.25)
    plain, extra = (f(output, seen["clean"]) for f in (losses.l2, losses.dct_sse))
    _, loss = step_with(shift, batch, dct_loss_weight=0.3)
    np.testing.assert_allclose(loss, plain + 0.3 * extra, rtol=1e-5)


class Scales(networks.RestorationNetwork):
    """Gives a coarser image when asked, as LCDNet does."""

    has_scales = True
    channels: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None, all_scales=False):
        a = self.param("a", nn.initializers.constant(0.5), ())
        b = self.param("b", nn.initializers.constant(0.25), ())
        finest = x * a + b
        return (finest, finest[:, ::2, ::2]) if all_scales else finest


@pytest.mark.extended
def test_all_scales_are_compared_where_the_loss_takes_them(clean_batch, prepared, step_with):
    batch = clean_batch(16, 16)
    seen = prepared(batch)
    output = 0.5 * seen["degraded"] + np.float32(0.25)
    for loss, expected in (
        ("l1_fft", losses.l1_fft((output, output[:, ::2, ::2]), seen["clean"], fft_weight=0.5)),
        ("l2", losses.l2(output, seen["clean"])),
    ):
        _, actual = step_with(Scales(), batch, loss=loss, fft_weight=0.5)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)
