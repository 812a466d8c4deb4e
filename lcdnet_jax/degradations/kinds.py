"""Degradations by the names that configurations use."""

import functools
import inspect
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
from lcdnet_jax.typing import Fields

#: Name of a degradation in configurations -> its function.
KINDS: Mapping[str, Callable[..., Any]] = {
    "camera": camera_noise,
    "defocus": defocus,
    "dual_pixel": dual_pixel,
    "jpeg": random_jpeg,
    "low_resolution": random_low_resolution,
    "motion": motion_blur,
    "rain": rain,
}


def from_kind(kind: str, options: Mapping[str, Fields]) -> Step:
    """Makes a degradation from its name.

    Args:
        kind: One of :data:`KINDS`, or several joined by "+" and applied in that order by
            :func:`compose`, such as "motion+camera".
        options: Keyword arguments by kind, such as ``{"motion": {"length": (4.0, 20.0)}}``. Kinds
            that are left out use the defaults of their function. "low_resolution" takes the
            arguments of :func:`random_low_resolution`, of which ``scale`` is required. Its ``pool``
            may also be a folder for :func:`read_kernels`, which is read once, at the first call.

    Returns:
        A function of keys ``[N]`` and images ``[N, H, W, C]`` that returns images. If the last kind
        is "low_resolution" with the option ``return_kernels``, it returns images and kernels.

    Raises:
        ValueError: If a kind is unknown or given twice, or if options are given for a kind that is
            not used, or have unknown names. Wrong values raise only when the returned function is
            called or traced.
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
        known = [*inspect.signature(KINDS[name]).parameters][2:]  # keys and images come first
        if wrong := sorted(set(given) - set(known)):
            raise ValueError(f"{name!r} has no option {wrong[0]!r}; use {', '.join(known)}")
    return compose(*(_step(name, options.get(name, {})) for name in names))


def _step(name: str, options: Fields) -> Step:
    pool = options.get("pool")
    if not isinstance(pool, str | os.PathLike):
        return functools.partial(KINDS[name], **options)
    # The folder is read once. If it were read for each trace, a change of the folder during an
    # evaluation would mix kernels within one table.
    kernels = functools.cache(functools.partial(read_kernels, pool))
    return lambda keys, images: KINDS[name](keys, images, **{**options, "pool": kernels()})
