import numpy as np

from lcdnet_jax import inference


def test_bucket():
    image = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
    padded = inference.pad_to_bucket(image, 4)
    assert padded[0, ..., 0].tolist() == [[0, 1, 2, 1], [3, 4, 5, 4], [0, 1, 2, 1], [3, 4, 5, 4]]
    assert inference.pad_to_bucket(image, 1).shape == image.shape
