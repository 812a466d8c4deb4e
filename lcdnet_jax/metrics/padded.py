"""Scores of single images of any size, which are padded so that few programs are compiled."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lcdnet_jax.metrics._psnr import psnr
from lcdnet_jax.metrics._ssim import ssim


def score_padded(
    score: Callable[..., dict[str, jax.Array]], *images: np.ndarray, bucket: int = 64
) -> dict[str, float]:
    """Pads images and scores them.

    Args:
        score: Compiled function. It takes two batches ``[1, H', W', C]``, their true sizes
            ``[1, 2]``, and the other padded images as batches. It returns an array ``[1]`` for
            each name.
        *images: At least two arrays ``[H, W, C]`` of the same height and width. Those after the
            second are other inputs of ``score``, such as a mask.
        bucket: Images are padded with zeros at the bottom and right, so that their height and
            width are multiples of this many pixels.

    Returns:
        The scores by name.
    """
    height, width = images[0].shape[:2]
    margins = ((0, 0), (0, -height % bucket), (0, -width % bucket), (0, 0))
    first, second, *others = (jnp.asarray(np.pad(image[None], margins)) for image in images)
    sizes = jnp.asarray([[height, width]], jnp.int32)
    return {name: float(value[0]) for name, value in score(first, second, sizes, *others).items()}


def psnr_and_ssim(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Computes PSNR and SSIM of two images over all pixels and channels.

    Args:
        a: Image ``[H, W, C]``, floating point in [0, 1].
        b: Image of the same shape.

    Returns:
        PSNR in dB, and SSIM in [-1, 1]. SSIM is NaN for images smaller than its window of 11x11
        pixels.

    Raises:
        ValueError: If the shapes differ, or do not have three axes.
        TypeError: If the images are integers.
    """
    scores = score_padded(_compile_psnr_and_ssim(), a, b)
    return scores["psnr"], scores["ssim"]


@functools.cache
def _compile_psnr_and_ssim() -> Callable[..., dict[str, jax.Array]]:
    return jax.jit(
        lambda a, b, sizes: {"psnr": psnr(a, b, sizes=sizes), "ssim": ssim(a, b, sizes=sizes)}
    )
