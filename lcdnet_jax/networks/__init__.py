"""Networks that map images to images, one file each, and the registry that creates them by name.

Every network derives from :class:`RestorationNetwork`, a ``flax.linen.Module``, and is called
alike::

    variables = module.init(key, x)
    restored = module.apply(variables, x)
    restored, updates = module.apply(variables, x, train=True, mutable=["batch_stats"])

``x`` is ``[N, H, W, channels]``, floating point in [0, 1], any H, W >= 1. The result is
``[N, H * scale, W * scale, channels_out]`` of ``x``'s type. It is not clipped, except by IKC.
``train`` and ``axis_name`` change only networks with batch normalization. ``axis_name`` is the
mapped axis over which batch statistics are averaged. Parameters are float32; ``dtype`` is the
compute type.

The registry does not hold networks that take or give something other than one image. Create them
by their classes: :class:`Discriminator` of ESRGAN, and :class:`Predictor`, :class:`Corrector` and
:class:`SFTMD`, the parts of IKC. :mod:`lcdnet_jax.networks.vgg` computes VGG19 features for
perceptual losses.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lcdnet_jax.messages import format_count
from lcdnet_jax.networks._base import (
    RestorationNetwork,
    check_bounds,
    check_contract,
    check_module,
    field_names,
)
from lcdnet_jax.networks.buifd import BUIFD
from lcdnet_jax.networks.dncnn import DnCNN
from lcdnet_jax.networks.esrgan import Discriminator
from lcdnet_jax.networks.ikc import IKC, SFTMD, Corrector, Predictor
from lcdnet_jax.networks.kmsr import KMSR
from lcdnet_jax.networks.lcdnet import LCDNet
from lcdnet_jax.networks.memnet import MemNet
from lcdnet_jax.networks.n3net import N3Net
from lcdnet_jax.networks.nafnet import NAFNet
from lcdnet_jax.networks.rcan import RCAN
from lcdnet_jax.networks.restormer import Restormer
from lcdnet_jax.networks.ridnet import RIDNet
from lcdnet_jax.networks.rrdb import RRDB
from lcdnet_jax.networks.sadnet import SADNet
from lcdnet_jax.networks.unet_n2n import UnetN2N
from lcdnet_jax.typing import Fields, PyTree

_REGISTRY: dict[str, type[RestorationNetwork]] = {
    "buifd": BUIFD,
    "dncnn": DnCNN,
    "ikc": IKC,
    "kmsr": KMSR,
    "lcdnet": LCDNet,
    "memnet": MemNet,
    "n3net": N3Net,
    "nafnet": NAFNet,
    "rcan": RCAN,
    "restormer": Restormer,
    "ridnet": RIDNet,
    "rrdb": RRDB,
    "sadnet": SADNet,
    "unet_n2n": UnetN2N,
}


def available() -> tuple[str, ...]:
    """Lists the networks in the registry.

    Returns:
        Names that :func:`create` takes, in alphabetical order.
    """
    return tuple(sorted(_REGISTRY))


def register(name: str, cls: type[RestorationNetwork]) -> None:
    """Adds a network to the registry, for this process.

    :func:`create`, configurations and checkpoints then accept its name. A checkpoint stores the
    name only, so a process that loads the checkpoint must register the class first.

    Args:
        name: As in ``config.network.name``: a Python identifier. The same class may be registered
            under its name again.
        cls: A class that keeps the contract of :class:`RestorationNetwork`.

    Raises:
        TypeError: If the class does not derive from :class:`RestorationNetwork`, or its
            ``__call__`` lacks an argument.
        ValueError: If the class breaks the contract in another way, the name is not an identifier,
            or the name belongs to another class.
    """
    if not (isinstance(name, str) and name.isidentifier()):
        raise ValueError(
            f"network name {name!r} is not a Python identifier; use letters, digits and underscores"
        )
    if _REGISTRY.get(name, cls) is not cls:
        raise ValueError(
            f"network name {name!r} belongs to {_REGISTRY[name].__module__}."
            f"{_REGISTRY[name].__qualname__}; choose another name"
        )
    check_contract(cls)
    _REGISTRY[name] = cls


@contextlib.contextmanager
def registered(name: str, cls: type[RestorationNetwork]) -> Iterator[None]:
    """Registers a network for a ``with`` block, for tests and trials.

    In the block the name means this class, even if it belongs to another class outside. Afterwards
    the registry is as before.

    Args:
        name: As for :func:`register`.
        cls: As for :func:`register`.

    Yields:
        Nothing.

    Raises:
        TypeError, ValueError: As :func:`register`. The name may belong to another class.
    """
    before = _REGISTRY.pop(name, None)
    try:
        register(name, cls)
        yield
    finally:
        _REGISTRY.pop(name, None)
        if before is not None:
            _REGISTRY[name] = before


def get(name: str) -> type[RestorationNetwork]:
    """Finds the class of a network.

    Args:
        name: One of :func:`available`.

    Returns:
        The class.

    Raises:
        ValueError: For an unknown name. The message lists the known ones.
    """
    if name not in _REGISTRY:
        raise ValueError(f"no network {name!r}; known networks: {', '.join(available())}")
    return _REGISTRY[name]


def get_preset(name: str, preset: str | None) -> Fields:
    """Finds the fields of a preset.

    Args:
        name: One of :func:`available`.
        preset: A named size of that network (see its class), or None.

    Returns:
        Values by field. Empty for None.

    Raises:
        ValueError: For an unknown name or preset. The message lists the known ones.
    """
    presets = get(name).PRESETS
    if preset is None:
        return {}
    if preset not in presets:
        known = ", ".join(presets) or "none"
        raise ValueError(f"network {name!r} has no preset {preset!r}; its presets: {known}")
    return presets[preset]


def create(name: str, *, preset: str | None = None, **kwargs: Any) -> RestorationNetwork:
    """Creates a network.

    Args:
        name: One of :func:`available`.
        preset: A named size of that network, such as "small" or "base" (see its class).
        **kwargs: Fields of the network's class. They override those of the preset.

    Returns:
        The module, without parameters.

    Raises:
        ValueError: For an unknown name, preset or field (the message lists the known ones), and
            for values that the network refuses, or that no real network has (see
            :attr:`RestorationNetwork.LARGEST`).
    """
    cls, preset_fields = get(name), get_preset(name, preset)
    fields = field_names(cls)
    unknown = sorted(set(kwargs) - fields)
    if unknown:
        raise ValueError(
            f"network {name!r} has no field {', '.join(map(repr, unknown))}; "
            f"its fields: {', '.join(sorted(fields))}"
        )
    check_bounds(cls, kwargs)
    # A module is a static argument of jit, so its fields must be hashable. Lists are not.
    kwargs = {k: tuple(v) if isinstance(v, list) else v for k, v in kwargs.items()}
    return cls(**{**preset_fields, **kwargs})


def abstract_variables(
    module: RestorationNetwork, *, count: int | None = None
) -> dict[str, PyTree]:
    """Determines shapes and types of a network's variables, without computing them.

    Args:
        module: The network.
        count: Number of arrays in the file that describes the network. Fields of a small file may
            describe a network that takes hours to trace, so tracing ends soon after this number.
            None sets no limit.

    Returns:
        Trees of ``jax.ShapeDtypeStruct``: "params", and "batch_stats" if the network has any.

    Raises:
        ValueError: If the network has more than about twice ``count`` arrays, or cannot be built.
    """

    def init() -> PyTree:
        return module.init(jax.random.key(0), jnp.zeros((1, 8, 8, module.channels)))

    if count is None:
        return dict(jax.eval_shape(init))
    # A few too many give a better message later, which lists their names.
    most_arrays = 2 * count + 200
    most_calls = 5 * most_arrays  # the networks of this library call fewer than 3 layers per array
    calls, arrays = 0, {}

    def count_arrays(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        nonlocal calls
        result = call(*args, **kwargs)
        layer = context.module
        calls += 1
        if layer.scope is not None:
            arrays[layer.scope.path] = sum(
                not isinstance(entry, Mapping)
                for collection in layer.variables.values()
                for entry in collection.values()
            )
        if calls > most_calls or sum(arrays.values()) > most_arrays:
            raise ValueError(
                f"{type(module).__name__} with these fields has far more arrays or layers than the "
                f"{format_count(count, 'array')} of the file; the fields are wrong, or the file is "
                "damaged"
            )
        return result

    try:
        with nn.intercept_methods(count_arrays):
            return dict(jax.eval_shape(init))
    except TypeError as error:  # a field of a wrong type, which the class does not check
        raise ValueError(
            f"{type(module).__name__} cannot be built with these fields ({error}); the fields are "
            "wrong, or the file is damaged"
        ) from error


__all__ = [
    "BUIFD",
    "IKC",
    "KMSR",
    "RCAN",
    "RRDB",
    "SFTMD",
    "Corrector",
    "Discriminator",
    "DnCNN",
    "LCDNet",
    "MemNet",
    "N3Net",
    "NAFNet",
    "Predictor",
    "RIDNet",
    "RestorationNetwork",
    "Restormer",
    "SADNet",
    "UnetN2N",
    "abstract_variables",
    "available",
    "check_module",
    "create",
    "field_names",
    "get",
    "get_preset",
    "register",
    "registered",
]
