"""Pure TensorFlow functions on one image ``[H, W, C]``. Random ones take a seed of two int64."""

from input_pipeline.tensorflow_cpu import tf
from lcdnet_jax import sfm
from lcdnet_jax.degradations import NOISE_PROTOCOLS
from lcdnet_jax.ops import TWO_VIEW_CHANNELS
from lcdnet_jax.ops.dct import dct_matrix


def reflect_pad(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Pads an image at the bottom and right to at least ``height`` x ``width``.

    Reflects as ``np.pad(mode="reflect")`` does: the border pixel is not repeated, reflections
    repeat as often as needed, and a side of one pixel is repeated.
    """
    for axis, wanted in enumerate((height, width)):
        size = tf.shape(image)[axis]
        period = tf.maximum(2 * (size - 1), 1)
        position = tf.range(tf.maximum(wanted, size)) % period
        image = tf.gather(image, tf.minimum(position, period - position) % size, axis=axis)
    return image


def orient(image: tf.Tensor, choices: tf.Tensor, *, two_views: bool = False) -> tf.Tensor:
    """Flips rows if ``choices[0]``, columns if ``choices[1]``, then transposes if ``choices[2]``.

    Three independent fair choices give all eight orientations, quarter turns among them, with
    equal probability.

    In the two views of a dual-pixel camera, parts out of focus are displaced to opposite sides
    along rows. The mirror image therefore has its views exchanged, and the camera cannot take the
    transposed picture. With two views, flipping columns also exchanges the views, and nothing is
    transposed.

    Args:
        image: ``[H, W, C]``.
        choices: Bool ``[3]``.
        two_views: Whether the last six channels are a left and a right view.

    Returns:
        ``[H, W, C]`` or ``[W, H, C]``.
    """
    if two_views:
        others, views = image[..., :-TWO_VIEW_CHANNELS], image[..., -TWO_VIEW_CHANNELS:]
        exchanged = tf.concat([others, views[..., 3:], views[..., :3]], axis=-1)
        image = tf.where(choices[1], exchanged, image)
        choices = tf.logical_and(choices, [True, True, False])
    image = tf.raw_ops.Reverse(tensor=image, dims=tf.stack([choices[0], choices[1], False]))
    return tf.transpose(image, tf.where(choices[2], [1, 0, 2], [0, 1, 2]))


def unfold(image: tf.Tensor, scale: int) -> tf.Tensor:
    """``[H, W, s s C]`` as ``[s H, s W, C]``: the channels of a pixel become a block of pixels."""
    return tf.nn.depth_to_space(image[None], scale)[0]


def to_float(image: tf.Tensor) -> tf.Tensor:
    """uint8 / 255 or uint16 / 65535 as float32; bitwise equal to ``image_io.to_float``."""
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
        seed: Int64 ``[2]``; equal seeds give equal noise.
        sigma_min: Lowest standard deviation in 8-bit units (sigma 25 is 25 / 255).
        sigma_max: Highest; one value per image is drawn uniformly from the range.
        protocol: "float" (left unclipped), "clipped" (to [0, 1]) or "8bit" (clipped, rounded to
            multiples of 1 / 255).

    Raises:
        ValueError: Unknown protocol, or not 0 <= sigma_min <= sigma_max.
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


def mask_frequencies(
    image: tf.Tensor,
    seed: tf.Tensor,
    *,
    rate: float,
    mode: str = "targeted",
    center: float = 0.85,
    sigma: float = 0.15,
    unselected: str = "keep",
) -> tf.Tensor:
    """Stochastic frequency masking of one image.

    Masks have the same distribution as those of ``lcdnet_jax.sfm``, but are other random numbers.

    Args:
        image: ``[H, W, C]`` float32 in [0, 1]; H and W are known when the function is traced.
        seed: Int64 ``[2]``; equal seeds give equal masks.
        rate: Probability that the image is masked.
        mode: One of ``lcdnet_jax.sfm.MODES``.
        center: Center of targeted bands as a fraction of the largest radius.
        sigma: Spread of targeted bands as a fraction of the largest radius.
        unselected: Whether an image that is not masked stays as it is ("keep") or becomes black
            ("zero").

    Returns:
        ``[H, W, C]`` float32, not clipped.

    Raises:
        ValueError: An option outside its range.
    """
    sfm.check_options(rate=rate, mode=mode, center=center, sigma=sigma, unselected=unselected)

    def mask_image() -> tf.Tensor:
        height, width = image.shape[:2]
        mask = draw_mask(height, width, seed, mode=mode, center=center, sigma=sigma)
        return apply_mask(image, mask)

    others = image if unselected == "keep" else tf.zeros_like(image)
    selected = tf.random.stateless_uniform([], seed + tf.constant([1, 0], tf.int64)) < rate
    # tf.cond, because images that are not masked need no transform.
    return tf.cond(selected, mask_image, lambda: others)


def draw_mask(
    height: int, width: int, seed: tf.Tensor, *, mode: str, center: float, sigma: float
) -> tf.Tensor:
    """Draws the mask of one image, ``[height, width]`` float32 of 0 and 1."""
    limit = sfm.max_radius(height, width)
    if mode == "random":
        return tf.cast(tf.random.stateless_uniform([height, width], seed) < 0.5, tf.float32)
    if mode == "targeted":
        below, above = tf.unstack(sigma * tf.abs(tf.random.stateless_normal([2], seed)))
        return band_mask(height, width, limit * (center - below), limit * (center + above))
    ends = limit * tf.random.stateless_uniform([2], seed)
    return band_mask(height, width, tf.reduce_min(ends), tf.reduce_max(ends))


def band_mask(height: int, width: int, inner: tf.Tensor, outer: tf.Tensor) -> tf.Tensor:
    """0 where the radius of a coefficient lies strictly between ``inner`` and ``outer``, else 1."""
    radius = tf.constant(sfm.radii(height, width))
    return 1.0 - tf.cast((inner < radius) & (radius < outer), tf.float32)


def apply_mask(image: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Multiplies the DCT coefficients of all channels of ``[H, W, C]`` by ``[H, W]``."""
    down, across = (tf.constant(dct_matrix(size), tf.float32) for size in image.shape[:2])
    planes = tf.transpose(image, [2, 0, 1])
    planes = mask * (down @ tf.matmul(planes, across, transpose_b=True))
    planes = tf.matmul(down, planes @ across, transpose_a=True)
    return tf.transpose(planes, [1, 2, 0])
