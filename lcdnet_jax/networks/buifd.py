"""BUIFD: a blind denoiser that also estimates the noise level and fuses by it.

El Helou and Süsstrunk, "Blind Universal Bayesian Image Denoising with Gaussian Noise Level
Learning", IEEE TIP 2020 (arXiv 1907.03029), as in the code of stochastic frequency masking
(ECCV 2020, arXiv 2003.07119), which defines it without training it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax.networks._base import RestorationNetwork
from lcdnet_jax.networks._blocks import check_fields, check_image, conv
from lcdnet_jax.networks.dncnn import ConvStack
from lcdnet_jax.ops.precision import at_least_float32


class BUIFD(RestorationNetwork):
    """Fuses the input and DnCNN's estimate by a predicted noise level map.

    The fusion is three linear convolutions. None of the convolutions has a bias. Initialization as
    in :class:`~lcdnet_jax.networks.dncnn.DnCNN`.

    Attributes:
        channels: Channels of the image and of the noise level map.
        depth: Convolutions of the denoising branch. The noise level branch has seven, of 5x5.
        features: Channels inside both branches.
        dtype: Compute type. Normalization and the noise level are float32.
    """

    channels: int = 1
    depth: int = 17
    features: int = 64
    dtype: DTypeLike = jnp.float32

    # The contract, see RestorationNetwork.
    scale = 1
    stride = 1
    input_range = (0.0, 1.0)
    tile_overlap = 64
    two_views = False
    global_means = False
    has_scales = False

    def __post_init__(self) -> None:
        check_fields(self, channels=1, depth=2, features=1)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        train: bool = False,
        axis_name: str | None = None,
        return_level: bool = False,
    ) -> Array | tuple[Array, Array]:
        """Restores ``x [N, H, W, channels]``.

        With ``return_level`` returns ``(restored, level)``. ``level`` has ``x``'s shape and type
        and lies in (0, 1): the noise's standard deviation, divided by the largest one in training.
        """
        check_image(x, "BUIFD", self.channels)
        denoise = ConvStack(self.depth, self.features, 3, dtype=self.dtype, name="dncnn")
        estimate = ConvStack(7, self.features, 5, dtype=self.dtype, name="noisecnn")
        exact = at_least_float32(self.dtype)
        image = x.astype(exact)
        prior = image - denoise(image, train=train, axis_name=axis_name)
        level = jax.nn.sigmoid(estimate(image, train=train, axis_name=axis_name))

        parts = [image, prior, level, image * (1 - level), prior * level]
        y = jnp.concatenate(parts, axis=-1)
        for i, features in enumerate((16, 16, self.channels)):  # no activations between
            y = conv(y, features, dtype=self.dtype, name=f"fusion_{i}")
        restored = y.astype(x.dtype)
        return (restored, level.astype(x.dtype)) if return_level else restored
