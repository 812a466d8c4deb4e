"""Pure tf functions on one image ``[H, W, C]``; random ones are keyed by a seed of two int64."""

from input_pipeline.host_only import tf
from lcdnet_jax.degradations import NOISE_PROTOCOLS


def reflect_pad(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Extends an image at the bottom and right to at least ``height`` x ``width``.

    Reflects as ``np.pad(mode="reflect")`` does: the border pixel is not repeated, the reflection
    goes on back and forth as often as needed, a side of one pixel is repeated.
    """
    for axis, wanted in enumerate((height, width)):
        size = tf.shape(image)[axis]
        period = tf.maximum(2 * (size - 1), 1)
        position = tf.range(tf.maximum(wanted, size)) % period
        image = tf.gather(image, tf.minimum(position, period - position) % size, axis=axis)
    return image


def orient(image: tf.Tensor, choices: tf.Tensor) -> tf.Tensor:
    """Flips rows if ``choices[0]``, columns if ``choices[1]``, then transposes if ``choices[2]``.

    Three independent fair choices give all eight orientations, quarter turns among them, with
    equal probability.

    Args:
      image: ``[H, W, C]``.
      choices: bool ``[3]``.

    Returns:
      ``[H, W, C]`` or ``[W, H, C]``.
    """
    image = tf.raw_ops.Reverse(tensor=image, dims=tf.stack([choices[0], choices[1], False]))
    return tf.transpose(image, tf.where(choices[2], [1, 0, 2], [0, 1, 2]))


def to_float(image: tf.Tensor) -> tf.Tensor:
    """uint8 / 255 or uint16 / 65535, float32; equal to ``image_io.to_float`` bit for bit."""
    return tf.cast(image, tf.float32) / float(image.dtype.max)


def add_noise(
    image: tf.Tensor,
    seed: tf.Tensor,
    *,
    sigma_min: float,
    sigma_max: float,
    protocol: str = "float",
) -> tf.Tensor:
    """White Gaussian noise, independent for every pixel and channel.

    Args:
      image: ``[H, W, C]`` float32 in [0, 1].
      seed: int64 ``[2]``; equal seeds give equal noise.
      sigma_min: lowest standard deviation in 8-bit units (sigma 25 is 25 / 255).
      sigma_max: highest; one value per image is drawn uniformly from the range.
      protocol: "float" (left unclipped), "clipped" (to [0, 1]) or "8bit" (clipped, rounded to
        multiples of 1 / 255).

    Raises:
      ValueError: unknown protocol, or not 0 <= sigma_min <= sigma_max.
    """
    if protocol not in NOISE_PROTOCOLS:
        raise ValueError(
            f'noise protocol "{protocol}" is unknown; use {", ".join(NOISE_PROTOCOLS)}'
        )
    if not 0 <= sigma_min <= sigma_max:
        raise ValueError(f"noise range {sigma_min} to {sigma_max}; needs 0 <= lowest <= highest")
    level = tf.random.stateless_uniform([], seed + tf.constant([1, 0], tf.int64))
    sigma = sigma_min + (sigma_max - sigma_min) * level
    noisy = image + sigma / 255.0 * tf.random.stateless_normal(tf.shape(image), seed)
    if protocol != "float":
        noisy = tf.clip_by_value(noisy, 0.0, 1.0)
    if protocol == "8bit":
        noisy = tf.round(noisy * 255.0) / 255.0
    return noisy
