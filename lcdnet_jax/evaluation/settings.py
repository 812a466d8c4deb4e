"""Chooses protocols, noise levels, degradations and modes by the flags of ``eval.py``.

Without a flag, the training configuration of the weights decides. Messages name the flags.
"""

import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

from ml_collections import ConfigDict

from lcdnet_jax import config as config_lib
from lcdnet_jax import degradations, networks, protocols
from lcdnet_jax.evaluation.sweep import Setting
from lcdnet_jax.inference import Restorer
from lcdnet_jax.inference.options import OptionError
from lcdnet_jax.networks import RestorationNetwork
from lcdnet_jax.typing import Fields, Variables

# Side of the tiles of --modes tiled, pixels.
TILE = 384

# Kinds of --kernels: name in degradations.KERNELS, and the radius of the kernel over its width.
_KERNEL_KINDS = {"gaussian": ("isotropic", 4), "disk": ("disk", 1), "motion": ("motion", 0.5)}


@dataclass(frozen=True)
class Degradation:
    """A degradation of clean images other than noise.

    Attributes:
        label: Name in results.
        kind: Description, used as ``Protocol.degradation`` of the settings.
        step: The function.
    """

    label: str
    kind: str
    step: degradations.Step


@dataclass(frozen=True)
class Request:
    """The flags of ``eval.py`` about settings; see their help texts.

    Attributes:
        protocols: Names of protocols. Empty: the protocol of the training or of the benchmark.
        sigmas: Noise levels as text. Empty: the levels of the configuration.
        spectrum: Filter of the noise. None: the filter of the training.
        spread: Change of the noise level over the columns, 8-bit units.
        kernels: Kernels of super-resolution as text. Empty: the kernels of the training.
        border: Pixels cut off each side before scoring.
        luma: Whether to score the Y channel.
        modes: Names among "full", "local" and "tiled".
        tile: Side of tiles, pixels. None: :data:`TILE`.
        overlap: Overlap of tiles, pixels. None: the default of the network.
        local_pool: Window of means in the mode "local", pixels. None: 1.5 times the training crop.
    """

    protocols: Sequence[str] = ()
    sigmas: Sequence[str] = ()
    spectrum: str | None = None
    spread: float = 0.0
    kernels: Sequence[str] = ()
    border: int = 0
    luma: bool = False
    modes: Sequence[str] = ("full",)
    tile: int | None = None
    overlap: int | None = None
    local_pool: int | None = None


def choose_degradations(request: Request, training_config: ConfigDict) -> list[Degradation]:
    """Chooses the degradations of clean images, by --kernels or by the training.

    Args:
        request: The flags.
        training_config: The configuration of the training.

    Returns:
        The degradations. Empty if noise is added instead.

    Raises:
        ValueError: For unknown kernels, and for kernels that do not suit the network.
    """
    kind, options = training_config.degradation.kind, training_config.degradation.options.to_dict()
    if not request.kernels:
        step = config_lib.create_degradation(training_config)
        return [] if step is None else [Degradation(kind, kind, step)]
    scale = config_lib.find_scale(training_config)
    if scale == 1:
        raise ValueError(
            "--kernels are for super-resolution, but this network neither enlarges nor was trained "
            "on low-resolution images; leave them off"
        )
    if "low_resolution" not in kind.split("+"):
        kind, options = "low_resolution", {"low_resolution": {"scale": scale}}
    chosen: dict[str, Degradation] = {}
    for text in request.kernels:
        label, kernel = parse_kernel(text)
        changed = {**options["low_resolution"], "pool": None, **kernel}
        step = degradations.from_kind(kind, {**options, "low_resolution": changed})
        if label in chosen:
            raise ValueError(
                f"--kernels: two are called {label} in the results; score them in separate runs"
            )
        chosen[label] = Degradation(label, f"{kind} with {label}", step)
    return list(chosen.values())


def parse_kernel(text: str) -> tuple[str, Fields]:
    """Reads one of --kernels.

    Args:
        text: "none", "gaussian:WIDTH", "disk:RADIUS", "motion:LENGTH" or "pool:FOLDER".

    Returns:
        The name in tables, and options of the degradation "low_resolution".

    Raises:
        ValueError: For any other text.
    """
    kind, _, value = text.partition(":")
    if text == "none":
        return "no-blur", {"kernel": None}
    if kind == "pool" and value:
        return f"pool-{pathlib.Path(value).name}", {"kernel": "pool", "pool": value}
    try:
        name, reach = _KERNEL_KINDS[kind]
        width = float(value)
        size = 2 * math.ceil(reach * width) + 1
    except (KeyError, ValueError, OverflowError):
        raise ValueError(
            f"--kernels {text}: no such kernel; use none, gaussian:1.6, disk:2, motion:8 or "
            "pool:FOLDER"
        ) from None
    return f"{kind}{width:g}", {"kernel": name, "width": (width, width), "size": size}


def choose_settings(
    request: Request,
    source: str,
    *,
    is_paired: bool,
    training_config: ConfigDict,
    sigmas: Sequence[float],
    degradations: Sequence[Degradation],
) -> list[Setting]:
    """Chooses protocols and noise levels for one data set.

    Args:
        request: The flags.
        source: Kind of the data set, as in ``config.data.eval.source``.
        is_paired: Whether degraded images come from disk.
        training_config: The configuration of the training.
        sigmas: Noise levels, 8-bit units, if the flags name none.
        degradations: The result of :func:`choose_degradations`.

    Returns:
        The settings, in the order of the table.

    Raises:
        ValueError: For unknown protocols, and for flags that do not suit the data set.
    """
    if is_paired and (request.spectrum or request.spread or request.kernels):
        raise ValueError(
            "--spectrum, --spread and --kernels are for clean images, but --data has pairs; leave "
            "them off"
        )
    scale = config_lib.find_scale(training_config)
    default = protocols.for_source(source) if is_paired else training_config.degradation.protocol
    requested = request.protocols or default.split(",")
    # Names that fit only the other kind of data set apply to other data sets in --data.
    names = [name for name in requested if (protocols.get(name).noise is None) == is_paired]

    def setting(protocol: protocols.Protocol, sigma: float | None = None) -> Setting:
        return Setting(protocol.with_cut(border=request.border, luma=request.luma), sigma)

    if is_paired:
        if not names:  # all are for clean images
            names = list(dict.fromkeys(protocols.for_pairs(name, default) for name in requested))
        return [setting(protocols.get(name).with_scale(scale)) for name in names]
    if not names:
        raise ValueError(
            f"--protocols {','.join(requested)} needs degraded images from disk, but --data "
            f"({source}) has clean ones; use float, clipped or 8bit"
        )
    chosen = [protocols.get(name).with_scale(scale) for name in names]
    if scale > 1 and (request.sigmas or request.spectrum or request.spread):
        raise ValueError(
            "--sigmas, --spectrum and --spread are for noise that is added to clean images, but "
            "this network is for super-resolution; leave them off"
        )
    if degradations and not request.sigmas:
        if request.spectrum or request.spread:
            raise ValueError(
                f"--spectrum and --spread are for noise, but clean images are degraded by "
                f"{', '.join(one.kind for one in degradations)}, as in the training; add --sigmas, "
                "or leave them off"
            )
        return [
            setting(protocol.with_degradation(one.kind, label=one.label))
            for one in degradations
            for protocol in chosen
        ]
    if scale > 1:
        raise ValueError(
            f"--data ({source}) has clean images, but the training does not say how to make small "
            "ones for this network; name kernels by --kernels, such as none for bicubic reduction"
        )
    levels = _parse_sigmas(request.sigmas or sigmas, request.spread)
    spectrum = request.spectrum or training_config.degradation.spectrum
    return [
        setting(protocol.with_noise(spectrum=spectrum, spread=request.spread), sigma)
        for protocol in chosen
        for sigma in levels
    ]


def _parse_sigmas(texts: Sequence[str] | Sequence[float], spread: float) -> list[float]:
    try:
        sigmas = [float(text) for text in texts]
    except ValueError:
        raise ValueError(f"--sigmas must be numbers, got {texts}") from None
    if min(sigmas) < spread:
        least = f" --spread ({spread:g})" if spread else " 0"
        raise ValueError(f"--sigmas must be at least{least}, got {min(sigmas):g}")
    return sigmas


def create_restorers(
    request: Request,
    module: RestorationNetwork,
    variables: Variables,
    *,
    crop: int,
    bucket: int,
) -> dict[str, Restorer]:
    """Creates the restorers of --modes.

    Args:
        request: The flags.
        module: The network.
        variables: Its variables.
        crop: Side of the crops of the training, pixels.
        bucket: See :class:`Restorer`.

    Returns:
        The restorers by the name of their mode.

    Raises:
        ValueError: For an unknown mode, and for options that no mode uses.
    """
    options: dict[str, Fields] = {
        # With a batch of 1 scores do not depend on which images are restored together.
        "full": {"max_pixels": None, "tile_batch": 1},
        "local": {
            "local_pool": request.local_pool or round(1.5 * crop),
            "max_pixels": None,
            "tile_batch": 1,
        },
        "tiled": {"tile": request.tile or TILE, "overlap": request.overlap},
    }
    for mode in request.modes:
        if mode not in options:
            raise ValueError(f"no mode {mode!r}; --modes are full, local and tiled")
    if "tiled" not in request.modes and (request.tile or request.overlap is not None):
        raise ValueError("--tile and --overlap are for --modes tiled; add it, or leave them off")
    if "local" not in request.modes and request.local_pool:
        raise ValueError("--local_pool is for --modes local; add it, or leave it off")
    if "local" in request.modes and "local_pool" not in networks.field_names(module):
        raise ValueError(
            f"--modes local is for networks with means over windows, which {type(module).__name__} "
            "does not have; leave it off"
        )
    try:
        return {
            mode: Restorer(module, variables, bucket=bucket, **options[mode])
            for mode in request.modes
        }
    except OptionError as error:
        raise error.with_flags("_") from error
