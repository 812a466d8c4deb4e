"""Degradations of clean images: noise, blur, rain, JPEG and downsampling.

All functions are pure JAX functions of random keys and images ``[N, H, W, C]`` in [0, 1]. Each
image has its own key, so its degradation depends neither on the other images of the batch nor on
the number of devices. An option given as a pair ``(low, high)`` is drawn for each image, uniformly
unless the function says otherwise; equal ends give a fixed value. Options must be static under
``jax.jit`` (``static_argnames``). The computation is in float32, and the result has the type of the
images. docs/explanations/degradations.md shows every degradation.
"""

from lcdnet_jax.degradations.bayer import demosaic, mosaic
from lcdnet_jax.degradations.camera import camera_noise, poisson_gaussian
from lcdnet_jax.degradations.compose import Step, compose
from lcdnet_jax.degradations.defocus import defocus, disk_kernels, dual_pixel
from lcdnet_jax.degradations.downsample import downsample, gaussian_downsample
from lcdnet_jax.degradations.filtering import filter_images
from lcdnet_jax.degradations.jpeg import SUBSAMPLINGS, jpeg, random_jpeg
from lcdnet_jax.degradations.kernels import KERNELS, random_kernels, read_kernels
from lcdnet_jax.degradations.kinds import KINDS, from_kind
from lcdnet_jax.degradations.motion import camera_paths, motion_blur, path_kernels
from lcdnet_jax.degradations.noise import (
    NOISE_PROTOCOLS,
    SPECTRA,
    apply_protocol,
    awgn,
    blind_awgn,
    noisy_copies,
    shape_noise,
    varying_sigma,
)
from lcdnet_jax.degradations.rain import RAINS, Rain, rain
from lcdnet_jax.degradations.resize import BICUBIC, bicubic
from lcdnet_jax.degradations.super_resolution import (
    DOWNSAMPLINGS,
    low_resolution,
    random_low_resolution,
)
from lcdnet_jax.ops import encode_kernels, fit_kernel_code, gaussian_kernels

__all__ = [
    "BICUBIC",
    "DOWNSAMPLINGS",
    "KERNELS",
    "KINDS",
    "NOISE_PROTOCOLS",
    "RAINS",
    "SPECTRA",
    "SUBSAMPLINGS",
    "Rain",
    "Step",
    "apply_protocol",
    "awgn",
    "bicubic",
    "blind_awgn",
    "camera_noise",
    "camera_paths",
    "compose",
    "defocus",
    "demosaic",
    "disk_kernels",
    "downsample",
    "dual_pixel",
    "encode_kernels",
    "filter_images",
    "fit_kernel_code",
    "from_kind",
    "gaussian_downsample",
    "gaussian_kernels",
    "jpeg",
    "low_resolution",
    "mosaic",
    "motion_blur",
    "noisy_copies",
    "path_kernels",
    "poisson_gaussian",
    "rain",
    "random_jpeg",
    "random_kernels",
    "random_low_resolution",
    "read_kernels",
    "shape_noise",
    "varying_sigma",
]
