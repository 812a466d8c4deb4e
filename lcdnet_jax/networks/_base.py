"""The contract of a network: what every one declares about itself, so that no caller guesses.

A network is a class derived from :class:`RestorationNetwork`. Its file states the values below,
as class attributes or, where they are options, as fields of the same name. Class attributes have
no annotation, so that they are not fields: fields are stored with weights, these values are not.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn

from lcdnet_jax.networks._blocks import is_integer, is_range
from lcdnet_jax.ops import TWO_VIEW_CHANNELS, clean_channels


class RestorationNetwork(nn.Module):
    """Base class of networks that map images to images.

    A derived class has a field ``channels`` (int, first by convention) and a field ``dtype`` (the
    compute type, last), a default for every field, and::

        def __call__(self, x, *, train=False, axis_name=None): ...

    ``x`` is ``[N, H, W, channels]``, floating point in [0, 1], any H, W >= 1. The result is
    ``[N, H * scale, W * scale, channels_out]`` of ``x``'s type. ``train`` is True in training.
    ``axis_name`` is the mapped axis over which batch statistics are averaged, or None. Parameters
    are float32 whatever ``dtype`` is. A field that no network can have raises ValueError in
    ``__post_init__``.

    Attributes:
        scale: How many times larger the result is, in height and in width.
        stride: Total stride in pixels of the input. Inside, sides are padded to a multiple of it.
            A tile gives what the whole image gives only if it starts at a multiple of it. Sides of
            an exported program are multiples of it.
        input_range: What black and white are to the weights, (low, high). The network takes and
            gives [0, 1] and converts inside.
        tile_overlap: Pixels of the input that are discarded at each inner edge of a tile unless
            the user sets another number.
        two_views: Whether the network with ``channels=6`` takes the two views of a dual-pixel
            camera, left RGB then right RGB, and gives one RGB image.
        global_means: Whether every pixel of the result depends on the whole image, as by means
            over it. Tiles then differ from the whole image at any overlap.
        has_scales: Whether ``__call__`` takes ``all_scales=True`` and then gives a tuple: the
            result, then images at 1/2, 1/4, ... of its size, for losses that compare them all.
        PRESETS: Fields by the name of a preset, as in ``networks.create(name, preset="small")``.
    """

    scale = 1
    stride = 1
    input_range = (0.0, 1.0)
    tile_overlap = 64
    two_views = False
    global_means = False
    has_scales = False
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @property
    def takes_two_views(self) -> bool:
        """Whether this module takes the two views of a dual-pixel camera."""
        return self.two_views and self.channels == TWO_VIEW_CHANNELS

    @property
    def channels_out(self) -> int:
        """Channels of the result: 3 for two views, else ``channels``."""
        return clean_channels(self.channels) if self.two_views else self.channels

    @property
    def local_pool(self) -> int | None:
        """Side in input pixels of the windows that replace means over the whole image.

        None for the whole image. A network that can do this has a field of this name instead.
        """
        return None


def field_names(network: type[nn.Module] | nn.Module) -> set[str]:
    """Names of a network's fields, without those that Flax adds."""
    return {field.name for field in dataclasses.fields(network)} - {"name", "parent"}


def check_module(module: nn.Module) -> None:
    """Raises TypeError unless a module derives from :class:`RestorationNetwork`."""
    if not isinstance(module, RestorationNetwork):
        raise TypeError(
            f"{type(module).__name__} does not say what callers must know of a network; derive it "
            "from lcdnet_jax.networks.RestorationNetwork"
        )


def check_contract(cls: type) -> None:
    """Checks that a class keeps the contract of :class:`RestorationNetwork`.

    Raises:
        TypeError: If the class does not derive from it, or ``__call__`` lacks an argument.
        ValueError: If a field or a default is missing, or a value is none that it can have. The
            message names what is wrong and the fix.
    """
    if not (isinstance(cls, type) and issubclass(cls, RestorationNetwork)):
        raise TypeError(
            f"{cls!r} is not a network; give a class derived from "
            "lcdnet_jax.networks.RestorationNetwork"
        )
    name = cls.__name__
    examples = {"channels": "channels: int = 3", "dtype": "dtype: Any = jnp.float32"}
    for required, example in examples.items():
        if required not in field_names(cls):
            raise ValueError(f"{name} has no field {required!r}; add {example!r} to the class")
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{name} has no default for its field {field.name!r}; give it one")
    module = cls()
    wanted = ("train", "axis_name", *(("all_scales",) if module.has_scales else ()))
    arguments = inspect.signature(cls.__call__).parameters
    for argument in wanted:
        if argument not in arguments:
            raise TypeError(
                f"{name}.__call__ takes no {argument!r}; its arguments must be "
                f"(self, x, *, {', '.join(wanted)})"
            )
    for attribute, (good, description) in _RULES.items():
        value = getattr(module, attribute)
        if not good(value):
            raise ValueError(f"{name}.{attribute} must be {description}, got {value!r}")
    for preset, fields in module.PRESETS.items():
        unknown = sorted(set(fields) - field_names(cls))
        if unknown:
            raise ValueError(
                f"{name}.PRESETS[{preset!r}] sets {', '.join(map(repr, unknown))}, which are no "
                f"fields of {name}; its fields: {', '.join(sorted(field_names(cls)))}"
            )


_POSITIVE = (lambda value: is_integer(value, 1), "an integer of at least 1")
_CLAIM = (lambda value: isinstance(value, bool), "True or False")
_RULES = {
    "channels": _POSITIVE,
    "scale": _POSITIVE,
    "stride": _POSITIVE,
    "input_range": (is_range, "a tuple of two numbers, the lower one first"),
    "tile_overlap": (lambda value: is_integer(value, 0), "an integer of at least 0"),
    "two_views": _CLAIM,
    "global_means": _CLAIM,
    "has_scales": _CLAIM,
    "PRESETS": (lambda value: isinstance(value, Mapping), "a mapping from names to fields"),
}
