import numpy as np
import pytest

from lcdnet_jax.inference import pixel_range


@pytest.mark.parametrize(
    ("values", "fix"),
    [
        ([0, 255], "divide them by 255"),
        ([3, 12], "divide them by 255"),
        ([0, 256], "divide them by 65535"),
        ([0, 65535], "divide them by 65535"),
        ([0, 65536], r"scale them to \[0, 1\]"),
        ([-128, 127], r"scale them to \[0, 1\]"),
        ([-4.1, 1], r"scale them to \[0, 1\]"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["f4", ">f8"])
def test_far_outside(values, fix, dtype):
    message = pixel_range.describe_range(np.array(values, dtype), channels=3)
    assert message is not None
    assert message.startswith(f"the pixels are from {values[0]:.4g} to {values[1]:.4g}, far")
    assert message.endswith(fix.replace("\\", ""))


@pytest.mark.parametrize("values", [[0, 1], [-2, 3], [-4, 5], [1, 1]], ids=str)
def test_close(values):
    assert pixel_range.describe_range(np.array(values, np.float32), channels=3) is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_have_a_white(dtype):
    assert pixel_range.describe_range(np.array([0, 255], dtype), channels=3) is None


@pytest.mark.parametrize("colors", [1, 3])
def test_what_alpha_hides_does_not_count(colors):
    image = np.zeros((2, 3, colors + 1), np.float32)
    image[0, 0] = 255, *[255] * (colors - 1), 0
    image[1, 1, -1] = 1
    assert pixel_range.describe_range(image, channels=3) is None
    assert pixel_range.describe_range(image, channels=colors + 1) is not None
    image[1, 1, 0] = 255
    assert pixel_range.describe_range(image, channels=3) is not None
    image[..., -1] = 1
    image[1, 1, 0] = 0
    assert pixel_range.describe_range(image, channels=3) is not None
