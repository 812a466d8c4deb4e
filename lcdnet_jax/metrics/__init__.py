"""Image quality metrics.

The functions here compute in float32 for any input type. They take two batches ``[N, H, W, C]`` of
floating-point images whose values span ``data_range`` and return ``[N]`` float32. They neither clip
nor round nor crop: protocols do that (:mod:`lcdnet_jax.protocols`). They can be jitted and
differentiated. The modules ``registration``, ``lpips`` and ``niqe`` work on single images on the
host.

The files of ``psnr`` and ``ssim`` begin with an underscore, so that no module hides the function.
"""

from lcdnet_jax.metrics._inputs import float32_pair
from lcdnet_jax.metrics._psnr import mae, psnr
from lcdnet_jax.metrics._ssim import ssim, ssim_3d, ssim_uniform
from lcdnet_jax.metrics.padded import psnr_and_ssim, score_padded

__all__ = [
    "float32_pair",
    "mae",
    "psnr",
    "psnr_and_ssim",
    "score_padded",
    "ssim",
    "ssim_3d",
    "ssim_uniform",
]
