"""OpenCV's decoder and encoder of images."""

import cv2
import numpy as np


def decode_by_opencv(data: bytes) -> np.ndarray | None:
    """Pixels in OpenCV's channel order; None where OpenCV cannot decode the file."""
    # The function moved between OpenCV 4 and 5. Level 0 silences libtiff's warnings on good files.
    set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    level = set_log_level(0)
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        set_log_level(level)


def encode_by_opencv(suffix: str, image: np.ndarray) -> bytes:
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    done, buffer = cv2.imencode(suffix, image)
    if not done:
        raise ValueError(f"OpenCV {cv2.__version__} refused it")
    return buffer.tobytes()
