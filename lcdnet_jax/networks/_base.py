"""The contract of a network: what every network declares about itself.

A network derives from :class:`RestorationNetwork` and states the attributes listed there, in its
own file. An attribute that users may choose is a field of the class, such as ``scale`` of RCAN.
The others are class attributes without annotation. An annotation would make them fields, and
fields are stored with weights.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn

from lcdnet_jax.networks._blocks import is_integer, is_range
from lcdnet_jax.ops import TWO_VIEW_CHANNELS, clean_channels
from lcdnet_jax.typing import Fields


class RestorationNetwork(nn.Module):
    """Base class of networks that map images to images.

    A derived class has a field ``channels`` (int, first by convention) and a field ``dtype`` (the
    compute type, last), a default for every field, and::

        def __call__(self, x, *, train=False, axis_name=None): ...

    ``x`` is ``[N, H, W, channels]``, floating point in [0, 1], any H, W >= 1. The result is
    ``[N, H * scale, W * scale, channels_out]`` of ``x``'s type. ``train`` is True in training.
    ``axis_name`` is the mapped axis over which batch statistics are averaged, or None. Parameters
    are float32 for every ``dtype``. ``__post_init__`` raises ValueError for field values that make
    no network.

    Attributes:
        scale: How many times larger the result is, in height and in width.
        stride: Total stride, in input pixels. The network pads sides to multiples of it. A tile
            can equal the whole image's result only if the tile starts at a multiple of it. An
            exported program takes sides that are multiples of it.
        input_range: Values of black and white that the weights expect, (low, high). The network
            converts from and to [0, 1] itself.
        tile_overlap: Input pixels discarded at each inner edge of a tile, by default.
        two_views: Whether ``channels=6`` means the two views of a dual-pixel camera, left RGB and
            right RGB, restored to one RGB image.
        global_means: Whether each output pixel depends on the whole image, for example through
            means over it. Tiles then differ from the whole image at any overlap, windows
            (``local_pool``) or tiles may give better results, and whole images are padded to the
            stride only.
        has_scales: Whether ``__call__`` has an argument ``all_scales``. With True it returns a
            tuple: the result, then images of 1/2, 1/4, ... of its size, for multi-scale losses.
        PRESETS: Preset name -> fields, for ``networks.create(name, preset="small")``.
    """

    scale = 1
    stride = 1
    input_range = (0.0, 1.0)
    tile_overlap = 64
    two_views = False
    global_means = False
    has_scales = False
    PRESETS: ClassVar[Mapping[str, Fields]] = {}

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
        """Side, in input pixels, of the windows for global means. None: no windows.

        A network that supports windows has a field of this name.
        """
        return None


def field_names(network: type[nn.Module] | nn.Module) -> set[str]:
    """Lists the fields of a network, without those that Flax adds.

    Args:
        network: The class or a module.

    Returns:
        Their names.
    """
    return {field.name for field in dataclasses.fields(network)} - {"name", "parent"}


def check_module(module: nn.Module) -> None:
    """Checks that a module declares the contract of :class:`RestorationNetwork`.

    Args:
        module: The module.

    Raises:
        TypeError: If its class does not derive from :class:`RestorationNetwork`.
    """
    if not isinstance(module, RestorationNetwork):
        raise TypeError(
            f"{type(module).__name__} does not declare its scale, stride and the like; derive it "
            "from lcdnet_jax.networks.RestorationNetwork"
        )


def check_contract(cls: type) -> None:
    """Checks that a class keeps the contract of :class:`RestorationNetwork`.

    Raises:
        TypeError: If the class does not derive from it, or ``__call__`` lacks an argument.
        ValueError: If a field or a default is missing, or a value is invalid. The message names
            the fix.
    """
    if not (isinstance(cls, type) and issubclass(cls, RestorationNetwork)):
        raise TypeError(
            f"{cls!r} is not a network; give a class derived from "
            "lcdnet_jax.networks.RestorationNetwork"
        )
    name = cls.__name__
    examples = {"channels": "channels: int = 3", "dtype": "dtype: DTypeLike = jnp.float32"}
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
