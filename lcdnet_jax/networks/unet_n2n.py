"""The U-Net of Noise2Noise.

Lehtinen, Munkberg, Hasselgren, Laine, Karras, Aittala and Aila, "Noise2Noise: Learning Image
Restoration without Clean Data", ICML 2018 (arXiv 1803.04189), as in the code of stochastic
frequency masking (ECCV 2020, arXiv 2003.07119), which trains it on pairs of noisy images
("the SFM code" below).
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax import ops
from lcdnet_jax.networks._base import RestorationNetwork
from lcdnet_jax.networks._blocks import check_fields, check_image, conv, torch_default
from lcdnet_jax.ops.precision import at_least_float32
from lcdnet_jax.value_rules import value_range


class UnetN2N(RestorationNetwork):
    """Encoder-decoder of five scales. The output is the image itself, not a residual.

    The image is mirrored to sides that are multiples of 32, and the result is cropped. No
    convolution has a bias. Initialization: PyTorch's default, U(-s, s) with
    s = 1 / sqrt(9 * input channels).

    Attributes:
        channels: Channels of the image.
        input_range: Values of black and white that the weights expect, (low, high). Images are
            in [0, 1] for every ``input_range``. The SFM code's weights for BSD have (0, 1), those
            for microscopy (-0.5, 0.5).
        dtype: Compute type.
    """

    channels: int = 1
    input_range: tuple[float, float] = (0.0, 1.0)
    dtype: DTypeLike = jnp.float32

    # The contract, see RestorationNetwork.
    scale = 1
    stride = 32
    tile_overlap = 96  # five scales see far: with 64 tiles differ from the whole by 1e-2
    two_views = False
    global_means = False
    has_scales = False

    def __post_init__(self) -> None:
        check_fields(self, channels=1)
        if wanted := value_range(tuple)(self.input_range):
            raise ValueError(f"UnetN2N input_range must be {wanted}, got {self.input_range!r}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Restores ``x [N, H, W, channels]``; ``train`` and ``axis_name`` change nothing here."""
        del train, axis_name
        check_image(x, "UnetN2N", self.channels)
        height, width = x.shape[1:3]
        low, high = self.input_range
        shifted = (low, high) != (0, 1)
        image = ops.pad_to_multiple(x, self.stride)
        if shifted:
            image = image.astype(at_least_float32(x.dtype)) * (high - low) + low
        image = image.astype(self.dtype)

        y = self._conv(image, 48, "enc_conv0")
        skips = [image]
        for scale in (1, 2, 3, 4, 5):
            y = self._conv(y, 48, f"enc_conv{scale}")
            y = nn.max_pool(y, (2, 2), strides=(2, 2))
            skips.append(y)
        y = self._conv(skips.pop(), 48, "enc_conv6")

        for scale in (5, 4, 3, 2):
            y = jnp.concatenate([_enlarge(y), skips.pop()], axis=-1)
            y = self._conv(y, 96, f"dec_conv{scale}a")
            y = self._conv(y, 96, f"dec_conv{scale}b")
        y = jnp.concatenate([_enlarge(y), skips.pop()], axis=-1)
        y = self._conv(y, 64, "dec_conv1a")
        y = self._conv(y, 32, "dec_conv1b")
        y = conv(y, self.channels, dtype=self.dtype, kernel_init=torch_default, name="dec_conv1c")
        if shifted:
            y = (y.astype(at_least_float32(self.dtype)) - low) / (high - low)
        return y[:, :height, :width].astype(x.dtype)

    def _conv(self, x: Array, features: int, name: str) -> Array:
        y = conv(x, features, dtype=self.dtype, kernel_init=torch_default, name=name)
        return nn.leaky_relu(y, negative_slope=0.1)


def _enlarge(x: Array) -> Array:
    """``[N, H, W, C]`` -> ``[N, 2 H, 2 W, C]``: repeats every pixel twice in both directions."""
    return x.repeat(2, axis=1).repeat(2, axis=2)
