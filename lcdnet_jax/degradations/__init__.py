"""Degradations of clean images: pure, keyed JAX functions on ``[N, H, W, C]`` in [0, 1].

Each image has a key of its own, so what happens to an image depends neither on the others in
its batch nor on how many devices share them. Options given as a pair ``(low, high)`` are drawn
for each image, uniformly unless the function says otherwise; equal ends fix them. They must be
known when a program is compiled (``static_argnames`` of ``jax.jit``). Numbers are float32 inside,
and results have the type of the images. docs/degradations.md shows all of them.
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
    as_stored,
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
    "as_stored",
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
