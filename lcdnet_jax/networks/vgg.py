"""VGG19 features for perceptual losses. The weights come from a file of the user.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR
2015 (arXiv 1409.1556), as in torchvision: up to conv5_4, the last convolution, before its ReLU.
ESRGAN compares these features (arXiv 1809.00219, section 3.3). ``convert.read_vgg19`` reads the
weights.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from lcdnet_jax.networks._blocks import check_image
from lcdnet_jax.ops.convolution import conv2d

# Kernel [3, 3, C, O] and bias [O] of each convolution, in order.
Weights = tuple[tuple[Array, Array], ...]

# Indices of the convolutions in torchvision's list "features", and their output channels.
LAYERS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
WIDTHS = (*(2 * (64,)), *(2 * (128,)), *(4 * (256,)), *(8 * (512,)))
_AFTER_POOLING = (5, 10, 19, 28)

# Mean and standard deviation of ImageNet's RGB images in [0, 1].
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def vgg19(weights: Weights, x: Array) -> Array:
    """Features of conv5_4, before its ReLU.

    Args:
        weights: Kernel and bias of each convolution of ``LAYERS``, in ``x``'s type.
        x: ``[N, H, W, C]``, floating point in [0, 1], C = 1 or 3, H and W at least 16. A gray
            image is repeated to three channels.

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
