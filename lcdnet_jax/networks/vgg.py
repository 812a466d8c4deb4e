"""Features of VGG19, which perceptual losses compare; its weights come from a file of the user.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR
2015 (arXiv 1409.1556), as in torchvision: up to conv5_4, its last convolution, before the ReLU,
which is what ESRGAN compares (arXiv 1809.00219, section 3.3). ``convert.read_vgg19`` reads weights.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from lcdnet_jax.networks._blocks import check_image
from lcdnet_jax.ops.convolution import conv2d

# Kernel [3, 3, C, O] and bias [O] of each convolution, the first one first.
Weights = tuple[tuple[Array, Array], ...]

# Convolutions of torchvision's list "features", and their channels.
LAYERS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
WIDTHS = (*(2 * (64,)), *(2 * (128,)), *(4 * (256,)), *(8 * (512,)))
_AFTER_POOLING = (5, 10, 19, 28)

# Of ImageNet's images in [0, 1].
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def vgg19(weights: Weights, x: Array) -> Array:
    """What conv5_4 sees in images.

    Args:
        weights: Of the convolutions ``LAYERS``, in ``x``'s type.
        x: ``[N, H, W, C]``, floating point in [0, 1], C = 1 or 3, H and W at least 16; grey counts
            as three equal channels.

    Returns:
        ``[N, H // 16, W // 16, O]``.

    Raises:
        ValueError: For images of another shape.
        TypeError: For images that are not floating point.
    """
    check_image(x, "vgg19", 1 if x.shape[-1] == 1 else 3)
    if min(x.shape[1:3]) < 16:
        raise ValueError(
            f"vgg19 halves images four times, got {x.shape[1]}x{x.shape[2]} pixels; use at least "
            "16x16"
        )
    mean, std = (jnp.asarray(each, x.dtype)[None, None, None] for each in (_MEAN, _STD))
    y = (jnp.broadcast_to(x, (*x.shape[:3], 3)) - mean) / std
    for layer, (kernel, bias) in zip(LAYERS, weights, strict=True):
        if layer:
            y = nn.relu(y)
        if layer in _AFTER_POOLING:
            y = nn.max_pool(y, (2, 2), strides=(2, 2))
        y = conv2d(y, kernel, precision=lax.Precision.HIGHEST) + bias[None, None, None]
    return y
