"""The contract of a network: what every network declares about itself.

A network derives from :class:`RestorationNetwork` and states the attributes listed there, in its
own file. An attribute that users may choose is a field of the class, such as ``scale`` of RCAN.
The others are class attributes without annotation. An annotation would make them fields, and
fields are stored with weights.
"""

import dataclasses
import inspect
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import flax.linen as nn
from jax import Array
from jax.typing import DTypeLike

from lcdnet_jax import value_rules
from lcdnet_jax.messages import shorten
from lcdnet_jax.ops import TWO_VIEW_CHANNELS, clean_channels
from lcdnet_jax.typing import Fields, PyTree

# Largest integer in a field, and most entries of a list in a field.
LARGEST_FIELD = 2**16
MOST_ENTRIES = 64


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
        padding: How the network pads to the stride: "reflect", or "constant" for zeros. Exported
            programs pad in the same way.
        input_range: Values of black and white that the weights expect, (low, high). The network
            converts from and to [0, 1] itself.
        tile_overlap: Input pixels discarded at each inner edge of a tile, by default.
        window_pixels: Most pixels of the windows that a restorer chooses for a large image, divided
            by the scale. More take more memory, and fewer pixels are computed twice.
        xla_cpu_options: Entries of ``xla_backend_extra_options`` that make XLA's programs for a CPU
            faster. ``train.py`` and ``lcdnet-jax restore`` set them.
        two_views: Whether ``channels=6`` means the two views of a dual-pixel camera, left RGB and
            right RGB, restored to one RGB image.
        global_means: Whether each output pixel depends on the whole image, for example through
            means over it. Tiles then differ from the whole image at any overlap, windows
            (``local_pool``) or tiles may give better results, and whole images are padded to the
            stride only.
        has_scales: Whether ``__call__`` has an argument ``all_scales``. With True it returns a
            tuple: the result, then images of 1/2, 1/4, ... of its size, for multi-scale losses.
        PRESETS: Preset name -> fields, for ``networks.create(name, preset="small")``.
        LARGEST: Field -> largest value that ``networks.create`` accepts, for integer fields that
            cost time or memory but add no parameters. Other integers are at most 65,536. A
            file cannot describe a network that never ends.
    """

    scale = 1
    stride = 1
    padding = "reflect"
    input_range = (0.0, 1.0)
    tile_overlap = 64
    window_pixels = 1344 * 1024
    xla_cpu_options: ClassVar[tuple[str, ...]] = ()
    two_views = False
    global_means = False
    has_scales = False
    PRESETS: ClassVar[Mapping[str, Fields]] = {}
    LARGEST: ClassVar[Mapping[str, int]] = {}

    if TYPE_CHECKING:  # fields, which each class declares at its own place among its fields

        @property
        def channels(self) -> int: ...

        @property
        def dtype(self) -> DTypeLike: ...

    @property
    def takes_two_views(self) -> bool:
        """Whether this module takes the two views of a dual-pixel camera."""
        return self.two_views and self.channels == TWO_VIEW_CHANNELS

    @property
    def channels_out(self) -> int:
        """Channels of the result. They are 3 for two views, else ``channels``."""
        return clean_channels(self.channels) if self.two_views else self.channels

    @property
    def local_pool(self) -> int | None:
        """Side, in input pixels, of the windows for global means. None means no windows.

        A network that supports windows has a field of this name.
        """
        return None

    @nn.nowrap
    def measure(self, intermediates: PyTree) -> Mapping[str, Array]:
        """Computes metrics of the network itself, which training logs beside the loss.

        Args:
            intermediates: What one call has stored in this collection by ``sow``.

        Returns:
            Scalars by name, such as "offset/8". None by default.
        """
        del intermediates
        return {}

    @nn.nowrap
    def find_warnings(self, metrics: Mapping[str, float], *, crop: int) -> Mapping[str, str]:
        """Finds metrics of the network that training should warn of.

        Args:
            metrics: Means over some steps by name, those of :meth:`measure` among them.
            crop: Side of the training crops, pixels.

        Returns:
            A message for each such metric by its name. Training logs the first one of each name.
            None by default.
        """
        del metrics, crop
        return {}


def field_names(network: type[nn.Module] | nn.Module) -> set[str]:
    """Lists the fields of a network, without those that Flax adds.

    Args:
        network: The class or a module.

    Returns:
        Their names.
    """
    return {field.name for field in dataclasses.fields(network)} - {"name", "parent"}


def check_bounds(network: type[RestorationNetwork], fields: Fields) -> None:
    """Checks that values for fields of a network are those of a real network.

    Args:
        network: The class.
        fields: Values by name of the field.

    Raises:
        ValueError: For an integer beyond the largest value of its field, a list of many entries,
            and a mapping. The message names the field.
    """
    for field, value in fields.items():
        entries = list(itertools.islice(_list_entries(value), MOST_ENTRIES + 1))
        if len(entries) > MOST_ENTRIES:
            raise ValueError(
                f"{network.__name__} {field} has many entries; give at most {MOST_ENTRIES}"
            )
        largest = network.LARGEST.get(field, LARGEST_FIELD)
        for entry in entries:
            if isinstance(entry, int) and abs(entry) > largest:
                raise ValueError(
                    f"{network.__name__} {field} is {shorten(entry)}; give at most {largest}"
                )
            if isinstance(entry, Mapping):
                raise ValueError(f"{network.__name__} {field} is a mapping; give numbers or texts")


def _list_entries(value: object) -> Iterator[object]:
    """The entries of lists and tuples inside each other."""
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _list_entries(entry)
    else:
        yield value


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
    expected = ("train", "axis_name", *(("all_scales",) if module.has_scales else ()))
    arguments = inspect.signature(cls.__call__).parameters
    for argument in expected:
        if argument not in arguments:
            raise TypeError(
                f"{name}.__call__ has no argument {argument!r}; its arguments must be "
                f"(self, x, *, {', '.join(expected)})"
            )
    for attribute, rule in _RULES.items():
        value = getattr(module, attribute)
        if wanted := rule(value):
            raise ValueError(f"{name}.{attribute} must be {wanted}, got {value!r}")
    for limited in module.LARGEST:
        if limited not in field_names(cls):
            raise ValueError(f"{name}.LARGEST has {limited!r}, which is not a field of {name}")
    for preset, fields in module.PRESETS.items():
        unknown = sorted(set(fields) - field_names(cls))
        if unknown:
            raise ValueError(
                f"{name}.PRESETS[{preset!r}] sets {', '.join(map(repr, unknown))}, which are not "
                f"fields of {name}; its fields: {', '.join(sorted(field_names(cls)))}"
            )


def _mapping(value: object) -> str | None:
    return None if isinstance(value, Mapping) else "a mapping"


def _tuple(value: object) -> str | None:
    return None if isinstance(value, tuple) else "a tuple of names"


# Options of XLA that help networks of many small layers: loops may have several results, and XLA
# merges loops before it copies a function into each place that calls it.
MERGE_LOOPS = ("xla_cpu_use_multi_output_fusion", "xla_cpu_flatten_after_fusion")

_RULES: Mapping[str, value_rules.Rule] = {
    "channels": value_rules.integer(1),
    "scale": value_rules.integer(1),
    "stride": value_rules.integer(1),
    "padding": value_rules.choice("reflect", "constant"),
    "input_range": value_rules.value_range(tuple),
    "tile_overlap": value_rules.integer(0),
    "window_pixels": value_rules.integer(1),
    "xla_cpu_options": _tuple,
    "two_views": value_rules.boolean,
    "global_means": value_rules.boolean,
    "has_scales": value_rules.boolean,
    "PRESETS": _mapping,
    "LARGEST": _mapping,
}
