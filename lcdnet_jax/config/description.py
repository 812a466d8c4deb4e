"""A configuration in words: how training images are degraded, masked and mixed."""

from collections.abc import Mapping

from lcdnet_jax.typing import Json


def describe_degradation(config: Mapping[str, Json]) -> str:
    """Describes ``config.degradation``.

    Args:
        config: A configuration of this version.

    Returns:
        One line, such as "awgn, sigma 0 to 50, protocol float".
    """
    degradation = config["degradation"]
    kind = degradation["kind"]
    if kind == "none":
        return "none, pairs from disk"
    parts = [kind]
    if "awgn" in kind:
        low, high = degradation["sigma_min"], degradation["sigma_max"]
        parts.append(f"sigma {low:g}" if low == high else f"sigma {low:g} to {high:g}")
        if degradation["spectrum"] != "white":
            parts.append(f"spectrum {degradation['spectrum']}")
    for name, options in degradation["options"].items():
        parts += [f"{name}.{option}={value}" for option, value in options.items()]
    return ", ".join([*parts, f"protocol {degradation['protocol']}"])


def describe_masking(config: Mapping[str, Json]) -> str:
    """Describes ``config.sfm``.

    Args:
        config: A configuration of this version.

    Returns:
        One line, such as "targeted (center 0.85, sigma 0.15) at rate 0.5", or "none".
    """
    sfm = config["sfm"]
    if not sfm["rate"]:
        return "none"
    text = sfm["mode"]
    if sfm["mode"] == "targeted":
        text += f" (center {sfm['center']:g}, sigma {sfm['sigma']:g})"
    text += f" at rate {sfm['rate']:g}"
    if sfm["unselected"] == "zero":
        text += ", other images black"
    return text + (", target masked" if sfm["target"] == "masked" else "")


def describe_mixup(config: Mapping[str, Json]) -> str:
    """Describes ``config.mixup``.

    Args:
        config: A configuration of this version.

    Returns:
        One line, such as "Beta(1.2, 1.2) at rate 0.5 in 8 groups", or "none".
    """
    mixup = config["mixup"]
    if not mixup["rate"]:
        return "none"
    text = f"Beta({mixup['beta']:g}, {mixup['beta']:g}) at rate {mixup['rate']:g}"
    return text if mixup["groups"] == 1 else f"{text} in {mixup['groups']} groups"
