"""Table of objectives: their targets, and the values of other fields that they allow.

The checks (:mod:`lcdnet_jax.config.checks`) and the training read the rows.
``configs/default.py`` explains the objectives.
"""

import dataclasses
from collections.abc import Mapping

# Losses of single pixels. An objective that adds other losses allows only these.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allowed:
    """Values of a field that an objective allows.

    Attributes:
        values: The values.
        message: Error message for any other value, with the fix. ``{value}`` stands for the value,
            ``{objective}`` for the objective.
    """

    values: tuple[str, ...]
    message: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveRules:
    """One objective.

    Attributes:
        compares_with_clean: The target is the clean image, which is masked before it is degraded.
            Any degradation is possible. If False, the target is noisy.
        compares_with_input: The target is the network's input. The network must not enlarge, and
            training needs no clean images.
        needs_kernels: The step needs the blur kernels of the images.
        has_critic: A critic is trained together with the network.
        network: The only network that the objective trains. No other objective trains it. None:
            every network that no objective reserves.
        trains_part: The part of that network that the objective trains. None: all of it.
        takes_two_views: The input may be the two views of a dual-pixel camera.
        kinds: Allowed values of ``degradation.kind``. None: all.
        makes_noise: Name, for messages, of noisy images that the objective makes on the device.
        losses: Allowed values of ``loss``. None: all.
        uses_dct_loss: The objective adds ``dct_loss_weight`` times the DCT loss.
        crop_multiple: ``data.crop`` must be a multiple of this, pixels.
        mixes: Images of a batch may be mixed (``mixup``): the loss compares the output for
            "degraded" with "clean" and nothing else.
        accumulates: A batch may be split into parts (``accumulate``).
    """

    compares_with_clean: bool = False
    compares_with_input: bool = False
    needs_kernels: bool = False
    has_critic: bool = False
    network: str | None = None
    trains_part: str | None = None
    takes_two_views: bool = False
    kinds: Allowed | None = None
    makes_noise: str = ""
    losses: Allowed | None = None
    uses_dct_loss: bool = True
    crop_multiple: int = 1
    mixes: bool = False
    accumulates: bool = True


_PIXEL_LOSSES = Allowed(
    values=("l1", "l2", "charbonnier"),
    message="config.loss {value!r} is not one of the pixel losses of config.objective "
    "{objective!r}; set it to 'l1', 'l2' or 'charbonnier'",
)

_KERNEL_CORRECTION = ObjectiveRules(
    compares_with_clean=True,
    needs_kernels=True,
    network="ikc",
    kinds=Allowed(
        values=("low_resolution",),
        message="config.objective {objective!r} needs the kernels that images are blurred by, "
        "which config.degradation.kind {value!r} does not give; set it to 'low_resolution' alone",
    ),
    losses=_PIXEL_LOSSES,
    uses_dct_loss=False,
)

#: Value of ``config.objective`` -> what it demands of other fields.
OBJECTIVES: Mapping[str, ObjectiveRules] = {
    "supervised": ObjectiveRules(compares_with_clean=True, takes_two_views=True, mixes=True),
    "noise2noise": ObjectiveRules(
        kinds=Allowed(
            values=("awgn",),
            message="config.objective {objective!r} makes the second noisy copy itself, for "
            "config.degradation.kind 'awgn', not {value!r}; set it to 'awgn', or the objective to "
            "'supervised', which also trains on pairs of two captures",
        ),
        makes_noise="both noisy copies",
        mixes=True,
    ),
    "noise2self": ObjectiveRules(
        compares_with_input=True,
        kinds=Allowed(
            values=("awgn", "none"),
            message="config.objective {objective!r} is for noise, but config.degradation.kind is "
            "{value!r}; set it to 'supervised'",
        ),
        losses=Allowed(
            values=("l1", "l2", "charbonnier", "sse"),
            message="config.loss {value!r} compares whole spectra, but config.objective "
            "{objective!r} some pixels only; set config.loss to 'sse'",
        ),
    ),
    "gan": ObjectiveRules(
        compares_with_clean=True,
        has_critic=True,
        losses=_PIXEL_LOSSES,
        uses_dct_loss=False,
        crop_multiple=32,
        accumulates=False,
    ),
    # Each trains a part of the network "ikc", in this order.
    "ikc_sftmd": dataclasses.replace(_KERNEL_CORRECTION, trains_part="sftmd"),
    "ikc_predictor": dataclasses.replace(_KERNEL_CORRECTION, trains_part="predictor"),
    "ikc_corrector": dataclasses.replace(_KERNEL_CORRECTION, trains_part="corrector"),
}

#: Advice for messages if weights of VGG19 are missing.
NO_VGG = (
    "give a state dict of torchvision's vgg19, such as "
    "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth, or set config.gan.perceptual_weight "
    "to 0 to train without the perceptual loss"
)
