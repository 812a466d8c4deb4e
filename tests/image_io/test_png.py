import cv2
import numpy as np
import pytest

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError
from tests.image_io.files import (
    noise,
    saved,
)


def test_header_of_a_png_reads_no_pixels(tmp_path):
    """Broken pixel data, whole chunks: the header is fine, the full scan is not."""
    path = tmp_path / "a.png"
    data = bytearray(saved(noise((13, 17, 3)), "PNG"))
    data[80] ^= 0xFF
    path.write_bytes(data)
    assert image_io.read_header(path) == image_io.Header(13, 17, 3, 8)
    with pytest.raises(ImageError, match="damaged"):
        image_io.read(path)


def test_other_readers_see_the_16_bit_gray_alpha_png(tmp_path):
    image = noise((13, 17, 2), np.uint16)
    image_io.write(tmp_path / "a.png", image)
    seen = cv2.imread(tmp_path / "a.png", cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(seen[..., [0, 3]], image)
