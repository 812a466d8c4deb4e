"""Weights that the server restores with: their restorers, and how fast they are."""

import dataclasses
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lcdnet_jax import config as config_lib
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.inference import Restorer, batch
from lcdnet_jax.networks.costs import COSTS
from lcdnet_jax.serve.errors import RequestError
from lcdnet_jax.weights import Card, hub, pretrained

# Images with a shorter side fill windows less, so they take longer per pixel than others do.
_TYPICAL_SIDE = 512


@dataclasses.dataclass
class Weights:
    """Weights by the name that requests give.

    Attributes:
        name: The name.
        purpose: What they are for, in a few words.
        card: Their card.
        restorer: Their restorer. It keeps compiled programs.
        macs: Multiply-accumulates per pixel, or None if they are not known.
        seconds_per_megapixel: Measured time, without compilation; None before the first image.
        measured_side: Shorter side of the image that was measured, ``_TYPICAL_SIDE`` at most.
    """

    name: str
    purpose: str
    card: Card
    restorer: Restorer
    macs: int | None
    seconds_per_megapixel: float | None = None
    measured_side: int = 0


class Catalog:
    """All weights of a server.

    Args:
        checkpoints: Paths besides the pretrained weights. The first is the default.

    Raises:
        CheckpointError, ConfigError, CardError, ValueError: As
            :func:`lcdnet_jax.inference.batch.create_restorer`.
    """

    def __init__(self, checkpoints: Sequence[str]):
        self._lock = threading.Lock()
        self._weights: dict[str, Weights] = {}
        for name in pretrained.names():
            self._add(name, pretrained.path(name), pretrained.PURPOSES[name])
        self.default = pretrained.DEFAULT
        for number, checkpoint in enumerate(checkpoints):
            path = pretrained.find(checkpoint)
            if pretrained.is_installed(path):
                name = path.stem
            else:
                name = self._find_free_name(checkpoint, path.absolute())
                self._add(name, path, None)
            if number == 0:
                self.default = name

    def _add(self, name: str, path: pathlib.Path, purpose: str | None) -> None:
        restorer, card = batch.create_restorer(path), weights_lib.load_card(path)
        self._weights[name] = Weights(
            name, purpose or _describe(card), card, restorer, _count_macs(card)
        )

    def _find_free_name(self, checkpoint: str, path: pathlib.Path) -> str:
        """The name of the file, folder or repository; with a number if it is taken."""
        if hub.is_name(checkpoint):
            base = checkpoint.partition("@")[0].rpartition("/")[2]
        else:
            base = path.stem if path.is_file() else path.name
        name = base
        number = 1
        while name in self._weights:
            number += 1
            name = f"{base}-{number}"
        return name

    def find(self, name: str | None) -> Weights:
        """Finds weights by name.

        Args:
            name: A name; None means the default.

        Returns:
            The weights.

        Raises:
            RequestError: If there are none of this name.
        """
        found = self._weights.get(self.default if name is None else name)
        if found is None:
            raise RequestError(400, f"no such weights; there are {', '.join(self._weights)}")
        return found

    def describe(self) -> list[dict[str, Any]]:
        """Describes all weights.

        Returns:
            Their entries of ``GET /weights``.
        """
        return [
            {
                "name": weights.name,
                "title": weights.name,
                "purpose": weights.purpose,
                "network": weights.card["network"],
                "channels": weights.restorer.module.channels,
                "scale": weights.restorer.module.scale,
                "blind": _is_blind(weights.card),
                "strength": weights.restorer.module.scale == 1,
                "seconds_per_megapixel": self.estimate_speed(weights),
                "license": weights.card["licence"],
            }
            for weights in self._weights.values()
        ]

    def add_measurement(self, weights: Weights, seconds: float, height: int, width: int) -> None:
        """Takes a measured time into account, unless that of a more typical image is known.

        Args:
            weights: The weights.
            seconds: Time that the network took, without compilation.
            height: Height of the image in pixels.
            width: Its width in pixels.
        """
        side = min(height, width, _TYPICAL_SIDE)
        with self._lock:
            if seconds > 0 and side >= weights.measured_side:
                weights.seconds_per_megapixel = seconds / (height * width / 1e6)
                weights.measured_side = side

    def estimate_speed(self, weights: Weights) -> float | None:
        """Estimates how long weights take.

        Args:
            weights: The weights.

        Returns:
            Seconds per megapixel as last measured. Before that, the time of other weights times the
            ratio of multiply-accumulates; None if nothing was measured, or the ratio is not known.
        """
        with self._lock:
            if weights.seconds_per_megapixel is not None:
                return weights.seconds_per_megapixel
            for other in self._weights.values():
                if other.seconds_per_megapixel is not None and other.macs and weights.macs:
                    return other.seconds_per_megapixel * weights.macs / other.macs
        return None


def parse_strength(text: str | None, weights: Weights) -> float:
    """Reads the strength of a request.

    Args:
        text: The parameter; None means 1.
        weights: The weights.

    Returns:
        A number from 0 to 1.

    Raises:
        RequestError: If it is no such number, or the network cannot have it.
    """
    try:
        number = 1.0 if text is None else float(text)
    except ValueError:
        raise RequestError(400, "strength must be a number from 0 to 1") from None
    try:
        weights.restorer.with_strength(number)
    except ValueError as error:
        raise RequestError(400, str(error)) from None
    return number


def _describe(card: Card) -> str:
    """What weights are for, by their card."""
    network = card["network"]
    training: Mapping[str, Any] | None = card["training"]
    if training is None:
        return card["notes"] or f"{network}, training unknown"
    try:
        degradation = config_lib.describe_degradation(config_lib.upgrade(training))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        return network
    return f"{network}, trained for: {degradation}"


def _is_blind(card: Card) -> bool | None:
    """Whether weights are for more than one noise level; None if unknown."""
    try:
        degradation = config_lib.upgrade(card["training"] or {})["degradation"]
        is_fixed = degradation["kind"] == "awgn" and (
            degradation["sigma_min"] == degradation["sigma_max"]
        )
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return not is_fixed


def _count_macs(card: Card) -> int | None:
    """Multiply-accumulates per pixel of a network with the size of a preset."""
    costs = COSTS.get(card["network"], {})
    by_parameters = dict(costs.values())
    close = [count for count in by_parameters if np.isclose(count, card["parameters"], rtol=0.01)]
    return by_parameters[close[0]] if close else None
