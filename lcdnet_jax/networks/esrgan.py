"""The discriminator of ESRGAN. Its generator is :mod:`lcdnet_jax.networks.rrdb`.

Wang, Yu, Wu, Gu, Liu, Dong, Qiao and Loy, "ESRGAN: Enhanced Super-Resolution Generative
Adversarial Networks", ECCV workshops 2018 (arXiv 1809.00219), as in the code of stochastic
frequency masking (ECCV 2020, arXiv 2003.07119).
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax.networks._blocks import (
    batch_norm,
    check_fields,
    check_image,
    conv,
    conv_down,
    lrelu,
    torch_default,
    torch_dense,
)
from lcdnet_jax.ops.precision import at_least_float32

_WIDTHS = (1, 2, 4, 8, 8)
_HIDDEN = 100


class Discriminator(nn.Module):
    """Five stages, each of which halves the size, and two dense layers.

    It maps images to numbers, so the registry does not hold it. Initialization: PyTorch's default,
    BatchNorm at identity.

    Attributes:
        channels: Channels of the image.
        size: Height and width of the images in pixels, a multiple of 32. The dense layers depend
            on it.
        features: Channels of the first stage. The others have 2, 4, 8 and 8 times as many.
        dtype: Compute type. Normalization and the dense layers are float32.
    """

    channels: int = 1
    size: int = 128
    features: int = 64
    dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        check_fields(self, channels=1, size=1, features=1)
        stride = 2 ** len(_WIDTHS)
        if self.size % stride:
            raise ValueError(
                f"Discriminator size {self.size} is not divisible by {stride}; use a multiple "
                f"of {stride}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Tells real images from restored ones.

        Args:
            x: ``[N, size, size, channels]``, floating point in [0, 1].
            train: Normalize by the statistics of the batch, which needs
                ``mutable=["batch_stats"]``, instead of the running averages.
            axis_name: The mapped axis over which batch statistics are averaged.

        Returns:
            ``[N]`` logits, float32 (float64 if ``dtype`` is). Higher means more real.

        Raises:
            ValueError: For images of another shape.
            TypeError: For images that are not floating point.
        """
        check_image(x, "Discriminator", self.channels)
        if x.shape[1:3] != (self.size, self.size):
            raise ValueError(
                f"Discriminator(size={self.size}) takes images of {self.size}x{self.size} pixels, "
                f"got {x.shape[1]}x{x.shape[2]}; crop them, or create it with another size"
            )

        def normalize(y: Array, name: str) -> Array:
            y = batch_norm(
                y,
                train=train,
                axis_name=axis_name,
                dtype=self.dtype,
                scale_init=nn.initializers.ones,
                name=name,
            )
            return lrelu(y)

        y = x
        for i, width in enumerate(_WIDTHS):
            width *= self.features
            y = conv(
                y, width, dtype=self.dtype, bias=i == 0, kernel_init=torch_default,
                name=f"conv{i}_0",
            )  # fmt: skip
            y = normalize(y, f"bn{i}_0") if i else lrelu(y)
            y = conv_down(y, width, 4, dtype=self.dtype, bias=False, name=f"conv{i}_1")
            y = normalize(y, f"bn{i}_1")

        exact = at_least_float32(self.dtype)
        y = y.astype(exact).reshape(x.shape[0], -1)
        y = lrelu(torch_dense(y, _HIDDEN, dtype=exact, name="linear1"))
        return torch_dense(y, 1, dtype=exact, name="linear2")[:, 0]
