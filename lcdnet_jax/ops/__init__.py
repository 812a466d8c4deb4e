"""Array operations that the networks and the degradations share.

All of them are pure functions of arrays in NHWC layout. They compute sums, transforms and
interpolation weights in float32 also for bfloat16 inputs. Nothing here imports networks, training
or files.
"""

from lcdnet_jax.ops.convolution import conv2d
from lcdnet_jax.ops.dct import dct_2d, dct_matrix, idct_2d
from lcdnet_jax.ops.deform_conv import deform_conv2d
from lcdnet_jax.ops.depthwise import depthwise_conv2d
from lcdnet_jax.ops.dft import irdft2, irdft2_planes, rdft2, rdft2_planes
from lcdnet_jax.ops.fourier import irfft2, irfft2_planes, rfft2, rfft2_planes
from lcdnet_jax.ops.gaussian import gaussian_kernels
from lcdnet_jax.ops.kernel_code import encode_kernels, fit_kernel_code
from lcdnet_jax.ops.padding import mirror_borders, pad_to_multiple
from lcdnet_jax.ops.resample import conv2x2_down, conv2x2_up, upsample2x
from lcdnet_jax.ops.two_views import TWO_VIEW_CHANNELS, clean_channels, mean_of_views

__all__ = [
    "TWO_VIEW_CHANNELS",
    "clean_channels",
    "conv2d",
    "conv2x2_down",
    "conv2x2_up",
    "dct_2d",
    "dct_matrix",
    "deform_conv2d",
    "depthwise_conv2d",
    "encode_kernels",
    "fit_kernel_code",
    "gaussian_kernels",
    "idct_2d",
    "irdft2",
    "irdft2_planes",
    "irfft2",
    "irfft2_planes",
    "mean_of_views",
    "mirror_borders",
    "pad_to_multiple",
    "rdft2",
    "rdft2_planes",
    "rfft2",
    "rfft2_planes",
    "upsample2x",
]
