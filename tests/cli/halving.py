"""A network that halves its images, so that every result is known, and images."""

import numpy as np
from flax import linen as nn

from lcdnet_jax import image_io, networks


class Halving(networks.RestorationNetwork):
    """Takes SADNet's place."""

    channels: int = 3
    width: int = 2
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return x * self.param("gain", nn.initializers.constant(0.5), (1,))[0]


def noise(shape=(20, 30, 3), dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def put(path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image_io.write(path, noise() if image is None else image)
    return path


def halved(image):
    """What the network makes of it; alpha stays, and colors that it hides."""
    result = image.astype(np.float32) / 2
    if image.dtype.kind == "u":
        result = np.rint(result).astype(image.dtype)
    if image.ndim == 3 and image.shape[2] in (2, 4):
        result[..., -1] = image[..., -1]
        hidden = image[..., -1] == 0
        result[hidden] = image[hidden]
    return result


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def same(path, image):
    found, _ = image_io.read_with_metadata(path)
    assert found.dtype == image.dtype
    # Halves are between two integers, and 1/255 is none of float32's numbers.
    np.testing.assert_allclose(
        found.astype(float), image, atol=1 if image.dtype.kind == "u" else 1e-6
    )
