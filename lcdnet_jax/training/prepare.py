"""What the network is given and what its output is compared with: masks, degrades, hides pixels."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from lcdnet_jax import degradations, sfm
from lcdnet_jax.config import COMPARED_WITH_CLEAN, KERNEL_CORRECTION

Batch = Mapping[str, Array]


def prepare(batch: Batch, config: ConfigDict, *, step: Array, axis_name: str | None) -> Batch:
    """Does what the host has not: masks frequencies, adds "degraded", exchanges the target.

    A pure function of (seed, step, image's place). In the result "degraded" is the network's
    input and "clean" the target, whatever the objective; with "noise2self" there is also "scored"
    ``[B, H, W, 1]`` bool, the pixels whose output counts, and for the stages of IKC "kernels"
    ``[B, S, S]``, those that the images are blurred by.

    Raises:
        ValueError: For a batch that lacks what the host should have added, or is degraded before
            it could be masked.
    """
    degradation, masking, objective = config.degradation, config.sfm, config.objective
    if "degraded" not in batch and degradation.kind == "none" and objective == "noise2self":
        batch = {**batch, "degraded": batch["clean"]}  # images without clean halves
    degrades = "degraded" not in batch
    if degrades and (degradation.kind == "none" or degradation.where != "device"):
        raise ValueError(
            "the training batches have no 'degraded' images, which config.degradation (kind "
            f"{degradation.kind!r}, where {degradation.where!r}) leaves to the data; "
            "add them to the batches, or set kind 'awgn' and where 'device'"
        )
    estimates = objective in KERNEL_CORRECTION
    if estimates and not degrades:
        raise ValueError(
            "the training batches have 'degraded' images, but config.objective "
            f"{objective!r} needs the kernels that they were blurred by; leave them out of the "
            "batches"
        )
    masks = masking.rate > 0 and masking.where == "device"
    supervised = objective in COMPARED_WITH_CLEAN
    if masks and not degrades and degradation.kind != "none" and supervised:
        raise ValueError(
            "the training batches have 'degraded' images, but config.sfm (where 'device') masks "
            "before images are degraded; leave them out of the batches, or mask before that "
            "there and set config.sfm.where to 'host'"
        )
    if not masks and not degrades and supervised:
        return batch
    count = batch["clean"].shape[0]
    place = jnp.arange(count, dtype=jnp.int32)
    if axis_name is not None:
        place = place + jax.lax.axis_index(axis_name) * count
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, place)
    noise = {
        "sigma_min": degradation.sigma_min,
        "sigma_max": degradation.sigma_max,
        "spectrum": degradation.spectrum,
    }
    batch = dict(batch)

    if supervised:  # masked, then degraded; pairs masked where they are degraded
        source = batch["clean"] if degrades else batch["degraded"]
        if masks:
            source = _masked(keys, source, config)
            if masking.target == "masked":
                batch["clean"] = source
        elif masking.rate > 0 and masking.target == "clean":
            if "to_degrade" not in batch:
                raise ValueError(
                    "the training batches have no 'to_degrade' images, which config.sfm (where "
                    "'host') leaves to the data; add the masked images to the batches, or set "
                    "config.sfm.where to 'device'"
                )
            source = batch.pop("to_degrade")
        if degrades and degradation.kind == "awgn":
            source = degradations.blind_awgn(keys, source, **noise)
        elif degrades:
            options = degradation.options.to_dict()
            if estimates:
                options["low_resolution"]["return_kernels"] = True
            degrade = degradations.from_kind(degradation.kind, options)
            source = degrade(_children(keys, _DEGRADED), source)
        if degrades and estimates:
            source, batch["kernels"] = source
        if degrades:
            source = _stored(keys, source, degradation.protocol)
        return {**batch, "degraded": source}

    # Noisy, then masked; the target is noisy and not masked.
    if degrades:
        copies = 2 if objective == "noise2noise" else 1
        noisy = degradations.noisy_copies(keys, batch["clean"], count=copies, **noise)
        source, *others = (_stored(keys, copy, degradation.protocol) for copy in noisy)
        target = others[0] if others else source
    else:
        source = target = batch["degraded"]
    if masks:
        source = _masked(keys, source, config)
    if objective == "noise2self":
        scored = hidden_pixels(*source.shape[1:3], step=step)
        source = jnp.where(scored, _uniform(keys, source.shape[1:]), source)
        batch["scored"] = jnp.broadcast_to(scored, (count, *scored.shape[1:]))
    return {**batch, "degraded": source, "clean": target}


def hidden_pixels(height: int, width: int, *, step: Array) -> Array:
    """One pixel of each 3x3 cell, another one at each step, nine in turn: ``[1, H, W, 1]`` bool.

    Batson and Royer, "Noise2Self", ICML 2019 (arXiv 1901.11365), whose partition of the pixels
    this is; the order and the random values that replace them are those of the SFM code.
    """
    row, column = step % 3, step // 3 % 3
    rows, columns = jnp.arange(height) % 3 == row, jnp.arange(width) % 3 == column
    return rows[None, :, None, None] & columns[None, None, :, None]


# Children of an image's key. Noise is drawn from children 0 and 1, and stays the same when
# something else is switched on.
_MASK, _HIDDEN, _DEGRADED, _STORED = 2, 3, 4, 5


def _children(keys: Array, number: int) -> Array:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def _stored(keys: Array, images: Array, protocol: str) -> Array:
    """What is left of degraded images in a file, whose protocol each draws if there are several."""
    stored = [degradations.apply_protocol(images, name) for name in protocol.split(",")]
    if len(stored) == 1:
        return stored[0]
    draw = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(stored)))
    drawn = draw(_children(keys, _STORED))
    return jax.lax.select_n(jnp.broadcast_to(drawn[:, None, None, None], images.shape), *stored)


def _uniform(keys: Array, shape: tuple[int, ...]) -> Array:
    keys = _children(keys, _HIDDEN)
    return jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32))(keys)


def _masked(keys: Array, images: Array, config: ConfigDict) -> Array:
    masked, _ = sfm.mask_images(
        _children(keys, _MASK),
        images,
        rate=config.sfm.rate,
        mode=config.sfm.mode,
        center=config.sfm.center,
        sigma=config.sfm.sigma,
        unselected=config.sfm.unselected,
    )
    return masked
