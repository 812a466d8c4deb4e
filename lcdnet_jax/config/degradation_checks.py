"""Checks of the degradation against the network and the crop, by tracing it.

Nothing is computed and no file is read, see :func:`lcdnet_jax.config.check_kernels`.
"""

import functools
import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lcdnet_jax import degradations
from lcdnet_jax.config import build
from lcdnet_jax.messages import format_count
from lcdnet_jax.ops import TWO_VIEW_CHANNELS, clean_channels
from lcdnet_jax.typing import Fields


def find_problems(config: ConfigDict, scale: int) -> list[str]:
    """Finds problems of the degradation. ``scale`` is the scale of the network."""
    kind = config.degradation.kind
    if kind == "none":
        return _check_small_inputs(config, scale) if scale > 1 else []
    if kind == "awgn":
        return _check_noise(config, scale)
    return _check_device(config) + _check_shapes(config, scale)


def _check_noise(config: ConfigDict, scale: int) -> list[str]:
    kind, options = config.degradation.kind, config.degradation.options
    found = []
    if options:
        found.append(
            f"config.degradation.options {options.to_dict()} are of other kinds than {kind!r}; "
            "remove them"
        )
    if scale > 1:
        found.append(
            f"config.network.name {config.network.name!r} enlarges {scale} times, but "
            "config.degradation.kind 'awgn' leaves images their size; set it to "
            "'low_resolution', or to 'none' for pairs"
        )
    return found


def _check_device(config: ConfigDict) -> list[str]:
    if config.degradation.where != "host":
        return []
    return [
        f"config.degradation.kind {config.degradation.kind!r} is made on the device only; set "
        "config.degradation.where to 'device'"
    ]


def _check_shapes(config: ConfigDict, scale: int) -> list[str]:
    """Shapes of a degraded training crop."""
    kind, options = config.degradation.kind, config.degradation.options.to_dict()
    crop, channels, low = config.data.crop, config.data.channels, options.get("low_resolution")
    if isinstance(low, Mapping) and "return_kernels" in low:
        return [
            "config.degradation.options.low_resolution.return_kernels follows from "
            "config.objective; remove it",
        ]
    factor = low.get("scale") if isinstance(low, Mapping) else None
    if isinstance(factor, int) and factor > 1 and crop % factor:
        return [_describe_remainder("data.crop", crop, factor)]
    image = jax.ShapeDtypeStruct((1, crop, crop, clean_channels(channels)), jnp.float32)
    try:
        degrade = degradations.from_kind(kind, _replace_folder(options))
        _, side, _, given = jax.eval_shape(degrade, _make_abstract_keys(), image).shape
        json.dumps(options)
    except (ValueError, TypeError) as error:
        return [f"config.degradation.options: {error}"]
    found = []
    if side * scale != crop:
        found.append(
            f"config.network.name {config.network.name!r} makes {side * scale} pixels of the "
            f"{side} that config.degradation.kind {kind!r} leaves of a side of {crop}; "
            + (
                "give config.network.kwargs and the options of low_resolution, which must be in "
                "the kind, one scale"
                if scale > 1
                else "set config.degradation.options.low_resolution.enlarge to True, or "
                "config.network to one that enlarges, such as 'rcan'"
            )
        )
    if given != channels:
        found.append(
            f"config.degradation.kind {kind!r} gives images of {format_count(given, 'channel')}, "
            f"but config.data.channels is {channels}; "
            + (
                "add dual_pixel to the kind, or set the channels to 3"
                if channels == TWO_VIEW_CHANNELS
                else f"set the channels to {TWO_VIEW_CHANNELS}"
            )
        )
    return found


def _check_small_inputs(config: ConfigDict, scale: int) -> list[str]:
    """Problems of pairs whose degraded image is smaller."""
    data = config.data
    found = [
        _describe_remainder(f"data.{field}", data[field], scale)
        for field in ("crop", "tile", "tile_stride")
        if data[field] % scale
    ]
    if data.where == "device":
        found.append(
            f"config.data.where 'device' draws from pairs of equal size, but config.network.name "
            f"{config.network.name!r} enlarges {scale} times; set it to 'host'"
        )
    return found


def find_kernel_problems(config: ConfigDict) -> list[str]:
    """Finds problems of the kernels for an objective that estimates them."""
    low = config.degradation.options.to_dict().get("low_resolution")
    if not isinstance(low, Mapping) or low.get("kernel") is None:
        return [
            f"config.objective {config.objective!r} needs kernels to estimate; set "
            "config.degradation.options.low_resolution.kernel to one of "
            f"{', '.join(map(repr, degradations.KERNELS))}"
        ]
    if isinstance(low.get("pool"), str):
        return []  # a folder, see config.check_kernels
    options = {option: low[option] for option in ("width", "size", "pool") if option in low}
    draw = functools.partial(degradations.random_kernels, kind=low["kernel"], **options)
    try:
        size = jax.eval_shape(draw, _make_abstract_keys()).shape[-1]
        return build.find_kernel_size_problems(config, size)
    except (ValueError, TypeError):
        return []  # reported for the whole degradation


def _make_abstract_keys() -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))


def _replace_folder(options: Fields) -> Fields:
    """Options with one kernel in place of a folder of kernels, which is not read here."""
    low = options.get("low_resolution")
    if not isinstance(low, Mapping) or not isinstance(low.get("pool"), str):
        return options
    return {**options, "low_resolution": {**low, "pool": [[[1.0]]]}}


def _describe_remainder(field: str, value: int, scale: int) -> str:
    return (
        f"config.{field} ({value}), pixels of the large images, is not a multiple of the scale "
        f"{scale}; use {value - value % scale or scale}"
    )
