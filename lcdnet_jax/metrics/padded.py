"""Scores of single images of any size, padded so that few programs are compiled."""

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
        score: Compiled function of two batches ``[1, H', W', C]``, of their true sizes ``[1, 2]``,
            and of further batches, such as a mask. Returns ``[1]`` for each name.
        *images: ``[H, W, C]`` each, of one height and width.
        bucket: Images are padded with zeros, at the bottom and right, to multiples of so many
            pixels.

    Returns:
        The scores by name.
    """
    height, width = images[0].shape[:2]
    margins = ((0, 0), (0, -height % bucket), (0, -width % bucket), (0, 0))
    first, second, *others = (jnp.asarray(np.pad(image[None], margins)) for image in images)
    sizes = jnp.asarray([[height, width]], jnp.int32)
    return {name: float(value[0]) for name, value in score(first, second, sizes, *others).items()}


def psnr_and_ssim(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """PSNR in dB and SSIM of two images ``[H, W, C]`` of one shape, over all pixels and channels.

    SSIM is NaN for images smaller than its window of 11x11 pixels.
    """
    scores = score_padded(_compile_psnr_and_ssim(), a, b)
    return scores["psnr"], scores["ssim"]


@functools.cache
def _compile_psnr_and_ssim() -> Callable[..., dict[str, jax.Array]]:
    return jax.jit(
        lambda a, b, sizes: {"psnr": psnr(a, b, sizes=sizes), "ssim": ssim(a, b, sizes=sizes)}
    )
