"""Checks of images, and means over images that may be padded or masked."""

import jax
import jax.numpy as jnp


def float32_pair(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Checks two batches and converts them to float32.

    Args:
        a: Images ``[N, H, W, C]``, floating point.
        b: Images of the same shape.

    Returns:
        Both batches as float32.

    Raises:
        ValueError: If the shapes differ or do not have four axes.
        TypeError: If the images are not floating point.
    """
    if jnp.shape(a) != jnp.shape(b):
        raise ValueError(
            f"the two batches differ in shape: {jnp.shape(a)} and {jnp.shape(b)}; "
            "crop or pair them so that they agree"
        )
    if jnp.ndim(a) != 4:
        raise ValueError(
            f"expected batches [N, H, W, C], got shape {jnp.shape(a)}; "
            "add the missing axes, x[None] for a single image"
        )
    for x in (a, b):
        if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
            raise TypeError(
                f"expected floating-point images, got {jnp.result_type(x)}; "
                "convert with lcdnet_jax.image_io.to_float"
            )
    return jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)


def mask_padding(height: int, width: int, sizes: jax.Array) -> jax.Array:
    """Makes a mask ``[N, H, W, 1]`` that is False in the padding."""
    rows = jnp.arange(height)[None, :] < sizes[:, :1]
    columns = jnp.arange(width)[None, :] < sizes[:, 1:]
    return rows[:, :, None, None] & columns[:, None, :, None]


def mean_per_image(
    x: jax.Array, sizes: jax.Array | None = None, mask: jax.Array | None = None
) -> jax.Array:
    """Averages each image row by row, because one long float32 sum has an error of 1e-5."""
    if mask is not None:
        return mean_per_image(jnp.where(mask, x, 0), sizes) / mean_per_image(
            mask.astype(x.dtype), sizes
        )
    if sizes is None:
        return jnp.mean(jnp.mean(x, axis=(2, 3)), axis=1)
    heights, widths = sizes[:, 0, None], sizes[:, 1, None]
    columns = jnp.arange(x.shape[2])[None] < widths
    rows = jnp.arange(x.shape[1])[None] < heights
    x = jnp.where(columns[:, None, :, None], x, 0)
    row_means = jnp.sum(jnp.mean(x, axis=3), axis=2) / widths.astype(jnp.float32)
    means = jnp.sum(jnp.where(rows, row_means, 0), axis=1) / heights[:, 0].astype(jnp.float32)
    return jnp.where(jnp.min(sizes, axis=1) > 0, means, jnp.nan)  # NaN for images without pixels
