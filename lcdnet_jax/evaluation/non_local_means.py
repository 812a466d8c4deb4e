"""Non-local means of scikit-image, the classical denoiser of comparisons.

Buades, Coll and Morel, "A Non-Local Algorithm for Image Denoising", CVPR 2005. Needs scikit-image.
"""

from collections.abc import Iterable

import numpy as np

from lcdnet_jax.evaluation.evaluator import Evaluator, Example, summarize

# Values of h among which tune_strength chooses, in units of sigma.
STRENGTHS = (0.4, 0.6, 0.8, 1.0)

# Side of the centers on which tune_strength scores, pixels.
_CENTER = 256


def denoise(noisy: np.ndarray, *, sigma: float, strength: float) -> np.ndarray:
    """Denoises a color image by the fast mode of scikit-image.

    Args:
        noisy: ``[H, W, C]`` floating point, in [0, 1] without the noise.
        sigma: Noise level in 8-bit units.
        strength: The parameter h in units of sigma.

    Returns:
        ``[H, W, C]`` of the same dtype.
    """
    from skimage.restoration import denoise_nl_means  # only comparisons need scikit-image

    return denoise_nl_means(
        noisy,
        patch_size=5,
        patch_distance=9,
        h=strength * sigma / 255,
        sigma=sigma / 255,
        fast_mode=True,
        channel_axis=-1,
    )


def tune_strength(examples: Iterable[Example], evaluator: Evaluator, *, sigma: float) -> float:
    """Finds the strength with the best mean PSNR on the centers of images.

    Args:
        examples: Clean images. Use other images than those of the comparison.
        evaluator: Adds the noise and scores.
        sigma: Noise level in 8-bit units.

    Returns:
        One of ``STRENGTHS``.
    """
    centers = [{**example, "clean": _crop_center(example["clean"])} for example in examples]

    def score(strength: float) -> float:
        def restore(noisy: np.ndarray) -> np.ndarray:
            return denoise(noisy, sigma=sigma, strength=strength)

        return summarize(evaluator.score_images(restore, centers, sigma=sigma)).psnr

    return max(STRENGTHS, key=score)


def _crop_center(image: np.ndarray) -> np.ndarray:
    top, left = (max(0, (size - _CENTER) // 2) for size in image.shape[:2])
    return image[top : top + _CENTER, left : left + _CENTER]
