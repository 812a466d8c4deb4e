"""Registration of a restored image to the ground truth, as the RealBlur evaluation needs it.

Two cameras took the blurred and the sharp images of RealBlur. A deblurred image may be shifted
along its blur without being worse. The evaluation of that data set therefore first matches the
brightness and the position of the restored image to the ground truth.

Source: Rim et al., "Real-World Blur Dataset for Learning and Benchmarking Deblurring Algorithms",
ECCV 2020, the file ``evaluation_RealBlur_ecc.py`` of the authors' repository. Restormer's
``evaluate_realblur.py`` does the same.

The registration runs on the host, in OpenCV. The authors require version 4.2.0. With versions 4.10
and 5.0 the PSNR of a photograph at 40 dB differs by 0.03 dB.
"""

import cv2
import numpy as np

# As in the official evaluation. With a threshold of 0 all iterations run.
_ITERATIONS = 100
_THRESHOLD = 0.0
_SMOOTHING = 5


def align(restored: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matches brightness and position of a restored image to the ground truth.

    The image is first multiplied by the least-squares factor sum(restored * clean) /
    sum(restored^2), where the sums run over pixels and channels. Then it is warped by
    :func:`homography`, with cubic interpolation.

    Args:
        restored: ``[H, W, C]`` floating point, clipped to [0, 1] (and rounded to 8 bits, as a
            saved PNG would be), C = 1 or 3.
        clean: ``[H, W, C]`` floating point in [0, 1].

    Returns:
        The aligned image ``[H, W, C]`` float32, and a mask ``[H, W]`` bool of the pixels that
        ``restored`` covers. The image is not clipped again, so that values may lie slightly outside
        [0, 1]. Outside of the mask the image is 0. Set the ground truth to 0 there before the two
        are compared.

    Raises:
        ValueError: For other shapes, or if no alignment is found, see :func:`homography`.
    """
    restored, clean = _check_pair(restored, clean)
    power = float(np.sum(np.square(restored), dtype=np.float64))
    if not (np.isfinite(power) and power > 0):
        raise ValueError(
            "no alignment found: the restored image is black, or holds NaN or infinite pixels; "
            "look at what the network gives, or score with the protocol 'pairs'"
        )
    scale = float(np.sum(restored * clean, dtype=np.float64)) / power
    restored = restored * np.float32(scale)
    matrix = homography(restored, clean)
    height, width = clean.shape[:2]
    aligned = cv2.warpPerspective(
        restored,
        matrix,
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    ).reshape(clean.shape)
    covered = cv2.warpPerspective(
        np.ones((height, width), np.float32),
        matrix,
        (width, height),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    valid = np.asarray(covered) > 0
    return np.where(valid[..., None], aligned, np.float32(0)), valid


def homography(restored: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Finds the homography that best aligns a restored image to the ground truth.

    It maximizes the enhanced correlation coefficient of the two images by 100 iterations that start
    at the identity. The images are converted to gray and smoothed by a Gaussian window of 5x5
    pixels. Source: Evangelidis and Psarakis, "Parametric Image Alignment using Enhanced Correlation
    Coefficient Maximization", PAMI 2008.

    Args:
        restored: ``[H, W, C]`` floating point, C = 1 or 3.
        clean: Image of the same shape.

    Returns:
        Matrix ``[3, 3]`` float32 in homogeneous coordinates (column, row, 1), in pixels. It maps a
        pixel of the ground truth to the matching position in the restored image.

    Raises:
        ValueError: For other shapes, or if the iterations do not converge, as for a constant
            image or two different scenes. The official evaluation fails there, too.
    """
    restored, clean = _check_pair(restored, clean)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, _THRESHOLD)
    try:
        _, matrix = cv2.findTransformECC(
            _to_gray(clean),
            _to_gray(restored),
            np.eye(3, dtype=np.float32),
            cv2.MOTION_HOMOGRAPHY,
            criteria,
            np.ones(clean.shape[:2], np.uint8),  # all pixels count
            _SMOOTHING,
        )
    except cv2.error:
        matrix = np.full((3, 3), np.nan, np.float32)
    if not np.isfinite(matrix).all():
        raise ValueError(
            "no alignment found: the iterations that align the restored image to the ground truth "
            "do not converge, as for a constant image or one of another scene; look at the "
            "images, or score with the protocol 'pairs'"
        )
    return matrix


def _check_pair(restored: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if restored.shape != clean.shape or clean.ndim != 3 or clean.shape[-1] not in (1, 3):
        raise ValueError(
            "alignment needs two images [H, W, 1] or [H, W, 3] of one shape, got "
            f"{restored.shape} and {clean.shape}; crop or convert them so that they agree"
        )
    return np.asarray(restored, np.float32), np.asarray(clean, np.float32)


def _to_gray(image: np.ndarray) -> np.ndarray:
    return image[..., 0] if image.shape[-1] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
