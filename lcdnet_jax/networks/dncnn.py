"""DnCNN: a plain stack of convolutions that predicts the noise.

Zhang, Zuo, Chen, Meng and Zhang, "Beyond a Gaussian Denoiser", IEEE TIP 2017
(arXiv 1608.03981), in the blind form that the code of stochastic frequency masking
(El Helou, Zhou and Süsstrunk, ECCV 2020, arXiv 2003.07119) trains ("the SFM code" below).
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax.networks._base import RestorationNetwork
from lcdnet_jax.networks._blocks import batch_norm, check_fields, check_image, conv


class DnCNN(RestorationNetwork):
    """Residual denoiser: output = input - predicted noise.

    All convolutions are 3x3 without bias. Initialization as in the SFM code: Kaiming normal
    convolutions, BatchNorm scales N(0, 0.059) clipped to +-0.025.

    Attributes:
        channels: Channels of the image.
        depth: Number of convolutions.
        features: Channels between convolutions.
        dtype: Compute type. Normalization is float32.
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
    def __call__(self, x: Array, *, train: bool = False, axis_name: str | None = None) -> Array:
        """Restores ``x [N, H, W, channels]``."""
        check_image(x, "DnCNN", self.channels)
        stack = ConvStack(self.depth, self.features, 3, dtype=self.dtype, name="dncnn")
        return x - stack(x, train=train, axis_name=axis_name)


class ConvStack(nn.Module):
    """Convolutions with ReLU between them; BatchNorm after all except the first and the last.

    ``[N, H, W, C]`` -> ``[N, H, W, C]`` of the same type.
    """

    depth: int
    features: int
    size: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, axis_name: str | None) -> Array:
        y = conv(x, self.features, self.size, dtype=self.dtype, name="conv_0")
        for i in range(1, self.depth - 1):
            y = conv(nn.relu(y), self.features, self.size, dtype=self.dtype, name=f"conv_{i}")
            y = batch_norm(y, train=train, axis_name=axis_name, dtype=self.dtype, name=f"bn_{i}")
        last = f"conv_{self.depth - 1}"
        y = conv(nn.relu(y), x.shape[-1], self.size, dtype=self.dtype, name=last)
        return y.astype(x.dtype)
