"""Checks of an objective against the other fields, by its row in the table of objectives."""

from ml_collections import ConfigDict

from lcdnet_jax import networks
from lcdnet_jax.config import degradation_checks
from lcdnet_jax.config.objectives import NO_VGG, OBJECTIVES, Allowed, ObjectiveRules
from lcdnet_jax.ops import TWO_VIEW_CHANNELS


def find_problems(config: ConfigDict, scale: int) -> list[str]:
    """Finds problems of the objective. ``scale`` is the scale of the network."""
    row = OBJECTIVES[config.objective]
    found = _check_network(config, row)
    if not found:
        found += _check_loss(config, row)
        found += _check_batch(config, row)
        found += _check_degradation(config, row)
        found += _check_critic(config, row)
    if row.compares_with_input and scale > 1 and config.degradation.kind == "none":
        found.append(
            f"config.objective {config.objective!r} compares the output with the input, but "
            f"config.network.name {config.network.name!r} enlarges {scale} times; set it to "
            "'supervised'"
        )
    if config.data.channels == TWO_VIEW_CHANNELS:
        found += _check_two_views(config, row)
    if config.sfm.rate > 0:
        found += _check_masking(config, row)
    return found


def _check_network(config: ConfigDict, row: ObjectiveRules) -> list[str]:
    name = config.network.name
    reserved = row.network or name
    objectives = [repr(key) for key, other in OBJECTIVES.items() if other.network == reserved]
    if name == row.network or (row.network is None and not objectives):
        return []
    return [
        f"config.objective {config.objective!r} and config.network.name {name!r} do not go "
        f"together: {', '.join(objectives)} train the network {reserved!r}, in turn, and no other; "
        "change one"
    ]


def _check_loss(config: ConfigDict, row: ObjectiveRules) -> list[str]:
    found = _check_allowed(config, row.losses, config.loss)
    if config.dct_loss_weight and not row.uses_dct_loss:
        found.append(
            f"config.dct_loss_weight ({config.dct_loss_weight}) is not used by config.objective "
            f"{config.objective!r}; set it to 0"
        )
    return found


def _check_batch(config: ConfigDict, row: ObjectiveRules) -> list[str]:
    crop, multiple, found = config.data.crop, row.crop_multiple, []
    if crop % multiple:
        found.append(
            f"config.data.crop ({crop}) is not a multiple of {multiple}, as the critic of "
            f"config.objective {config.objective!r} needs it; use "
            f"{crop - crop % multiple or multiple}"
        )
    if config.accumulate > 1 and not row.accumulates:
        found.append(
            f"config.accumulate ({config.accumulate}) cuts the batch, over all of which "
            f"config.objective {config.objective!r} averages; set it to 1"
        )
    if config.mixup.rate and not row.mixes:
        suitable = " or ".join(repr(name) for name, other in OBJECTIVES.items() if other.mixes)
        found.append(
            f"config.mixup.rate ({config.mixup.rate}) is for config.objective {suitable}, not for "
            f"{config.objective!r}; set it to 0"
        )
    return found


def _check_degradation(config: ConfigDict, row: ObjectiveRules) -> list[str]:
    found = _check_allowed(config, row.kinds, config.degradation.kind)
    if found:
        return found
    if row.makes_noise and config.degradation.where == "host":
        return [
            f"config.objective {config.objective!r} makes {row.makes_noise} on the device; set "
            "config.degradation.where to 'device'"
        ]
    return degradation_checks.find_kernel_problems(config) if row.needs_kernels else []


def _check_allowed(config: ConfigDict, allowed: Allowed | None, value: str) -> list[str]:
    if allowed is None or value in allowed.values:
        return []
    return [allowed.message.format(value=value, objective=config.objective)]


def _check_critic(config: ConfigDict, row: ObjectiveRules) -> list[str]:
    if not row.has_critic:
        return []
    found = []
    if config.batch_size == 1 and config.data.crop == row.crop_multiple:
        found.append(
            f"config.batch_size (1) and config.data.crop ({row.crop_multiple}) leave the critic "
            "one value per channel to normalize, so that its output does not depend on the image; "
            "increase either"
        )
    if config.gan.perceptual_weight and not config.gan.vgg:
        found.append(
            f"config.gan.perceptual_weight ({config.gan.perceptual_weight}) needs weights of "
            f"VGG19, but config.gan.vgg is empty; {NO_VGG}"
        )
    return found


def _check_two_views(config: ConfigDict, row: ObjectiveRules) -> list[str]:
    field = (
        f"config.data.channels {TWO_VIEW_CHANNELS} (the two views of a dual-pixel camera, restored "
        "to 3 channels)"
    )
    found = []
    suitable = [name for name in networks.available() if networks.get(name).two_views]
    if config.network.name not in suitable:
        found.append(
            f"{field} needs another network than {config.network.name!r}; set config.network.name "
            f"to {' or '.join(map(repr, suitable))}, or the channels to 3"
        )
    if config.degradation.kind == "awgn":
        found.append(
            f"{field} is for pairs, or for clean images of which two views are made; set "
            "config.degradation.kind, which is 'awgn', to 'none' or 'dual_pixel'"
        )
    if not row.takes_two_views:
        found.append(
            f"{field} has no clean image of the input's channels, as config.objective "
            f"{config.objective!r} needs it; set that to 'supervised'"
        )
    return found


def _check_masking(config: ConfigDict, row: ObjectiveRules) -> list[str]:
    masking, degradation, found = config.sfm, config.degradation, []
    if not row.compares_with_clean:
        if masking.where == "host":
            found.append(
                f"config.objective {config.objective!r} masks the noisy image and compares with "
                "an unmasked one, on the device; set config.sfm.where to 'device'"
            )
        if masking.target == "masked":
            found.append(
                f"config.objective {config.objective!r} compares with noisy images, which are not "
                "masked; set config.sfm.target to 'clean'"
            )
    elif degradation.kind == "none":
        if masking.target == "masked":
            found.append(
                "config.sfm.target 'masked' would make the network's input its target where "
                "degraded images come from disk (config.degradation.kind 'none'); set it to "
                "'clean'"
            )
    elif masking.where == "device" and degradation.where == "host":
        found.append(
            "config.sfm.where is 'device' and config.degradation.where 'host', but masking "
            "comes before noise and the host before the device; set config.sfm.where to "
            "'host', or config.degradation.where to 'device'"
        )
    return found
