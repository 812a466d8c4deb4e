"""Color matrices of cameras: from light of sRGB to the colors of a sensor, and back.

A sensor sees colors through filters that overlap more than the primaries of sRGB. The matrix back
has negative entries. It amplifies the noise of colors, unequally, and correlates it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lcdnet_jax.degradations._inputs import per_image

# XYZ (illuminant D65) -> sensor, as Adobe publishes them for its DNG converter and LibRaw lists
# them: Canon EOS 450D, Olympus E-PL6, Sony ILCE-7R and Sony DSC-RX100M4.
_XYZ_TO_SENSOR = np.array(
    [
        [[0.5784, -0.0262, -0.0821], [-0.7539, 1.5064, 0.2672], [-0.1982, 0.2681, 0.7427]],
        [[0.8380, -0.2630, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.4913, -0.0541, -0.0202], [-0.6130, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.0970, 0.1581, 0.5181]],
    ]
)

# Linear sRGB -> XYZ (IEC 61966-2-1).
_SRGB_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)


def _matrices() -> np.ndarray:
    """Matrices ``[4, 3, 3]`` from sRGB to each sensor. Rows sum to 1: gray stays gray."""
    matrices = _XYZ_TO_SENSOR @ _SRGB_TO_XYZ
    return (matrices / matrices.sum(axis=-1, keepdims=True)).astype(np.float32)


_SRGB_TO_SENSOR = _matrices()


def draw_color_matrices(keys: Array, share: ArrayLike = 1.0) -> Array:
    """Draws a mean of the matrices of four cameras, with random weights.

    This is the method of Brooks et al., "Unprocessing Images for Learned Raw Denoising" (CVPR
    2019). The four cameras are our choice, and so is that each matrix is scaled to keep gray before
    the mean, not after it; the white balance is a step of its own.

    Args:
        keys: Random keys ``[N]``.
        share: How far the sensor is from sRGB, 0 to 1, a number or ``[N]``; ours.

    Returns:
        Matrices ``[N, 3, 3]`` from linear sRGB to the sensor, float32. Rows sum to 1.
    """
    count = len(_SRGB_TO_SENSOR)
    weights = jax.vmap(lambda key: jax.random.uniform(key, (count,), jnp.float32, 1e-6))(keys)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    # No product of matrices: devices round its factors unless they are told not to.
    matrices = (weights[:, :, None, None] * jnp.asarray(_SRGB_TO_SENSOR)[None]).sum(axis=1)
    share = jnp.broadcast_to(jnp.asarray(share, jnp.float32), keys.shape)[:, None, None]
    return share * matrices + (1 - share) * jnp.eye(3, dtype=jnp.float32)[None]


def to_sensor(light: Array, matrices: Array) -> Array:
    """Converts linear sRGB to the colors of a sensor.

    Args:
        light: Light ``[N, H, W, 3]``, float32.
        matrices: ``[N, 3, 3]`` of :func:`draw_color_matrices`.

    Returns:
        Light of the same shape, unclipped: saturated colors may become negative.
    """
    rows = [(light * matrices[:, None, None, row]).sum(axis=-1) for row in range(3)]
    return jnp.stack(rows, axis=-1)


def from_sensor(light: Array, matrices: Array) -> Array:
    """Inverts :func:`to_sensor`: the color matrix that a camera applies."""
    return to_sensor(light, _invert(matrices))


def _invert(matrices: Array) -> Array:
    """Inverse by cross products of the rows: a few multiplications, on any device."""
    a, b, c = (matrices[:, row] for row in range(3))
    columns = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], axis=-1)
    determinant = (a * columns[:, :, 0]).sum(axis=-1)
    return columns / determinant[:, None, None]


def balance_gains(red: Array, blue: Array) -> Array:
    """Gains of the white balance ``[N, 1, 1, 3]`` from those of red and blue ``[N]``."""
    count = red.shape[0]
    return jnp.concatenate(
        [per_image(red, count), jnp.ones((count, 1, 1, 1), jnp.float32), per_image(blue, count)],
        axis=-1,
    )
