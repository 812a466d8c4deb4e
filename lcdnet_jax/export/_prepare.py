"""Preparation of both forms of export: checks, the card, symbolic sizes, platforms."""

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax import Array

from lcdnet_jax import networks
from lcdnet_jax._version import __version__
from lcdnet_jax.typing import Json, JsonObject, Variables

#: Platforms that a program can be compiled for, as JAX names them.
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

#: Platforms that an export runs on by default.
DEFAULT_PLATFORMS = ("cpu", "cuda", "tpu")

#: Largest side of images of any size, in pixels. It bounds the symbols, so that the indices of
#: deformable convolution with 8 offset groups fit into 32 bits.
MAX_SIDE = 16_000

#: Largest image of a fixed size, in pixels. Verification takes at least a kilobyte per pixel.
MAX_PIXELS = 32_000_000

Sizes = Sequence[tuple[int, int]]


class ExportError(ValueError):
    """A network cannot be exported with these arguments; the message names the fix."""


class Network(NamedTuple):
    """A network that can be exported.

    Attributes:
        module: The network.
        variables: Its variables, on the host.
        apply: The network as a function of images only.
        card: The description that the export stores.
        device: The device of this machine that runs the export for verification.
    """

    module: networks.RestorationNetwork
    variables: Variables
    apply: Callable[[Array], Array]
    card: JsonObject
    device: jax.Device


def prepare(
    module: networks.RestorationNetwork,
    variables: Variables,
    sizes: Sizes | None,
    platforms: Sequence[str],
    about: Mapping[str, Json] | None,
    *,
    fix: str = "give those you need, as in sizes=[(256, 256)]",
) -> Network:
    """Checks a network; arguments and errors are those of ``export_program``.

    ``fix`` ends the error of a network that needs to know sizes.
    """
    device = _choose_device(platforms)
    # Weights that are spread over several devices would make a program for several devices.
    variables = jax.device_get(dict(variables))
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if not np.isfinite(leaf).all():
            raise ExportError(
                f"the weights {jax.tree_util.keystr(path)} hold NaN or infinity; export a "
                "checkpoint from before training went wrong"
            )

    def apply(images: Array) -> Array:
        return cast(Array, module.apply(variables, images))

    networks.check_module(module)
    channels, scale = int(module.channels), module.scale
    sizes = _check_sizes(sizes)
    # At a fixed size first, because the error for wrong weights is clear there.
    like = jax.eval_shape(apply, jax.ShapeDtypeStruct((1, 64, 64, channels), np.float32))
    card = {
        "network": type(module).__name__,
        "channels": channels,
        "channels_out": like.shape[3],
        "scale": scale,
        "range": [0.0, 1.0],
        "dtype": jnp.dtype(module.dtype).name,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        "sizes": None if sizes is None else [list(size) for size in sizes],
        "stride": module.stride if sizes is None else None,
        "padding": module.padding if sizes is None else None,
        "max_side": MAX_SIDE if sizes is None else None,
        "platforms": list(platforms),
        "jax": jax.__version__,
        "lcdnet_jax": __version__,
        "about": dict(about or {}),
    }
    if sizes is None:
        _check_any_size(apply, card, fix)
    return Network(module, variables, apply, card, device)


def _check_any_size(apply: Callable[[Array], Array], card: JsonObject, fix: str) -> None:
    """Raises ExportError if the network needs sides as numbers, not only as multiples."""
    try:
        jax.eval_shape(apply, symbolic_images(card, None))
    except Exception as error:  # its type depends on where the network needs numbers
        raise ExportError(
            f"{card['network']} of stride {card['stride']} cannot be exported for images of any "
            f"size, since its code needs to know sizes; {fix}"
        ) from error


def symbolic_images(card: JsonObject, size: Sequence[int] | None) -> jax.ShapeDtypeStruct:
    """Makes symbolic images of one size, or of any size for None."""
    shape, constraints = symbolic_shape(card, size)
    sides = jax.export.symbolic_shape(shape, constraints=constraints)
    return jax.ShapeDtypeStruct(sides, np.float32)


def symbolic_shape(card: JsonObject, size: Sequence[int] | None) -> tuple[str, tuple[str, ...]]:
    """Shape of images in the notation of ``jax.export``, and constraints of its symbols."""
    if size is not None:
        return f"b, {size[0]}, {size[1]}, {card['channels']}", ()
    stride = card["stride"]
    constraints = tuple(f"{side} <= {MAX_SIDE // stride}" for side in "hw")
    return f"b, {stride}*h, {stride}*w, {card['channels']}", constraints


def _check_sizes(sizes: Sizes | None) -> list[tuple[int, int]] | None:
    """Returns the sizes without repetitions."""
    if sizes is None:
        return None
    try:
        pairs = [(operator.index(height), operator.index(width)) for height, width in sizes]
    except (TypeError, ValueError):
        pairs = []
    if not pairs or min(map(min, pairs)) < 1:
        raise ExportError(
            f"sizes are pairs of height and width in pixels, as in [(256, 256)], got {sizes!r}"
        )
    for height, width in pairs:
        if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
            raise ExportError(
                f"{height}x{width} pixels are too many: a program takes sides of up to {MAX_SIDE} "
                f"and {MAX_PIXELS // 10**6} megapixels; cut images into tiles"
            )
    return list(dict.fromkeys(pairs))


def _choose_device(platforms: Sequence[str]) -> jax.Device:
    """Chooses a device of this machine for one of the platforms, preferably the CPU."""
    unknown = [platform for platform in platforms if platform not in PLATFORMS]
    if unknown or not platforms:
        raise ExportError(
            f"no platform {', '.join(map(repr, unknown)) or 'is given'}; choose from "
            f"{', '.join(PLATFORMS)}"
        )
    if len(set(platforms)) < len(platforms):
        raise ExportError(f"a platform of {', '.join(platforms)} is given twice; name each once")
    for platform in sorted(platforms, key=PLATFORMS.index):
        try:
            return jax.local_devices(backend=platform)[0]
        except RuntimeError:
            continue
    raise ExportError(
        f"a program for {', '.join(platforms)} cannot be verified on this machine; add cpu to "
        "platforms, or export on a machine with such a device"
    )


@contextlib.contextmanager
def without_tracebacks() -> Iterator[None]:
    """Leaves source paths out of programs, so that they are reproducible."""
    option = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, option)
    jax.config.update(option, 0)
    try:
        yield
    finally:
        jax.config.update(option, before)
