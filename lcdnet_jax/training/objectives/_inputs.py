"""Steps from a batch of the data set to the network's inputs: mask, degrade, store.

Each image has its own random key, a pure function of (seed, step, position in the global batch).
Noise uses children 0 and 1 of that key. Everything else uses the children below, so that other
options do not change the noise.
"""

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from lcdnet_jax import degradations, sfm
from lcdnet_jax.typing import Batch, Fields

# Children of an image's key. Changing one changes every training run.
MASK_STREAM, HIDDEN_PIXEL_STREAM, DEGRADATION_STREAM, PROTOCOL_STREAM = 2, 3, 4, 5


def fold_in_stream(keys: Array, stream: int) -> Array:
    """Derives child ``stream`` of each key, ``[B]``."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, stream)


def must_degrade(batch: Batch, config: ConfigDict) -> bool:
    """Whether this step degrades the images, because the batch has no "degraded".

    Raises:
        ValueError: If the configuration leaves that to the data.
    """
    if "degraded" in batch:
        return False
    degradation = config.degradation
    if degradation.kind == "none" or degradation.where != "device":
        raise ValueError(
            "the training batches have no 'degraded' images, which config.degradation (kind "
            f"{degradation.kind!r}, where {degradation.where!r}) leaves to the data; "
            "add them to the batches, or set kind 'awgn' and where 'device'"
        )
    return True


def masks_on_device(config: ConfigDict) -> bool:
    """Whether this step masks frequencies."""
    return bool(config.sfm.rate > 0 and config.sfm.where == "device")


def mask_frequencies(keys: Array, images: Array, config: ConfigDict) -> Array:
    """Images after stochastic frequency masking as ``config.sfm`` sets it."""
    masked, _ = sfm.mask_images(
        fold_in_stream(keys, MASK_STREAM),
        images,
        rate=config.sfm.rate,
        mode=config.sfm.mode,
        center=config.sfm.center,
        sigma=config.sfm.sigma,
        unselected=config.sfm.unselected,
    )
    return masked


def add_noise(keys: Array, images: Array, config: ConfigDict, *, copies: int) -> list[Array]:
    """Makes noisy copies of images, each clipped and rounded as its protocol requires."""
    noisy = degradations.noisy_copies(keys, images, count=copies, **noise_options(config))
    return [apply_protocols(keys, copy, config.degradation.protocol) for copy in noisy]


def noise_options(config: ConfigDict) -> Fields:
    """Keyword arguments of the noise functions of :mod:`lcdnet_jax.degradations`."""
    degradation = config.degradation
    return {
        "sigma_min": degradation.sigma_min,
        "sigma_max": degradation.sigma_max,
        "spectrum": degradation.spectrum,
    }


def apply_protocols(keys: Array, images: Array, protocol: str) -> Array:
    """Applies the noise protocol. If there are several, each image draws one."""
    stored = [degradations.apply_protocol(images, name) for name in protocol.split(",")]
    if len(stored) == 1:
        return stored[0]
    draw = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(stored)))
    choice = draw(fold_in_stream(keys, PROTOCOL_STREAM))
    return jax.lax.select_n(jnp.broadcast_to(choice[:, None, None, None], images.shape), *stored)
