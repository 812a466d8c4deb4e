"""Image quality metrics."""

from lcdnet_jax.metrics.padded import psnr_and_ssim, score_padded
from lcdnet_jax.metrics.quality import (
    float32_pair,
    mae,
    psnr,
    ssim,
    ssim_3d,
    ssim_uniform,
)

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
