"""Degradations as configurations name them: kinds, and their options."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

from lcdnet_jax.degradations.camera import camera_noise
from lcdnet_jax.degradations.compose import Step, compose
from lcdnet_jax.degradations.defocus import defocus, dual_pixel
from lcdnet_jax.degradations.jpeg import random_jpeg
from lcdnet_jax.degradations.kernels import read_kernels
from lcdnet_jax.degradations.motion import motion_blur
from lcdnet_jax.degradations.rain import rain
from lcdnet_jax.degradations.super_resolution import random_low_resolution

KINDS: Mapping[str, Callable[..., Any]] = {
    "camera": camera_noise,
    "defocus": defocus,
    "dual_pixel": dual_pixel,
    "jpeg": random_jpeg,
    "low_resolution": random_low_resolution,
    "motion": motion_blur,
    "rain": rain,
}


def from_kind(kind: str, options: Mapping[str, Mapping[str, Any]]) -> Step:
    """A degradation by name.

    Args:
        kind: One of ``KINDS``, or several joined by "+", which are then applied in that order, as
            by :func:`compose`: "motion+camera".
        options: For each of them, if anything, its function's options by name:
            ``{"motion": {"length": (4.0, 20.0)}}``. Those of "low_resolution" are of
            :func:`random_low_resolution`; ``scale`` must be among them, and ``pool`` may also be
            a folder of kernels, see :func:`read_kernels`, which is read once, at the first
            call.

    Returns:
        A function of ``[N]`` keys and ``[N, H, W, C]`` images. For the kind "low_resolution" alone
        (or last) with the option ``return_kernels`` it gives images and kernels.

    Raises:
        ValueError: For a kind that is unknown, or given twice, or options of one that is not used.
            Wrong options are found when the function is called (or traced).
    """
    names = kind.split("+")
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise ValueError(f"no degradation {unknown[0]!r}; use {', '.join(KINDS)}, joined by '+'")
    if len(set(names)) < len(names):
        raise ValueError(f"degradation {kind!r} names one twice; give each once")
    unused = sorted(set(options) - set(names))
    if unused:
        raise ValueError(
            f"there are options of {unused[0]!r}, which is not in {kind!r}; remove them where they "
            "are set"
        )
    for name, given in options.items():
        if not isinstance(given, Mapping):
            raise ValueError(f"the options of {name!r} are {given!r}; give a mapping by name")
    return compose(*(_step(name, options.get(name, {})) for name in names))


def _step(name: str, options: Mapping[str, Any]) -> Step:
    pool = options.get("pool")
    if not isinstance(pool, str | os.PathLike):
        return functools.partial(KINDS[name], **options)
    # At every trace anew, kernels could change between the sizes of images of one table.
    kernels = functools.cache(functools.partial(read_kernels, pool))
    return lambda keys, images: KINDS[name](keys, images, **{**options, "pool": kernels()})
