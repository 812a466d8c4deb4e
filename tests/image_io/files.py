"""Files of images, made with Pillow, OpenCV, tifffile or by hand."""

import io
import struct
import zlib

import cv2
import numpy as np
import tifffile
from PIL import Image

from lcdnet_jax import image_io

SHAPES = {"gray": (13, 17), "gray+alpha": (13, 17, 2), "rgb": (13, 17, 3), "rgba": (13, 17, 4)}

# EXIF orientation -> what to do with the stored pixels to see them upright.
UPRIGHT = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: np.rot90,
}


def noise(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def photo(dtype=np.uint8, height=61, width=67):
    """Smooth colors with a little noise, so that lossy formats stay close."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], -1) / 3 + 0.5
    image += np.random.default_rng(0).normal(0, 0.01, image.shape)
    return (image.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def saved(image, kind, **options):
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(image, **options):
    options.setdefault("photometric", "minisblack" if image.ndim == 2 else "rgb")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **options)
    return buffer.getvalue()


def planes(image):
    return tiff(np.moveaxis(image, 2, 0), photometric="rgb", planarconfig="separate")


def opencv(image, suffix):
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    return cv2.imencode(suffix, image)[1].tobytes()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(data, *chunks):
    """Puts chunks behind the IHDR of a PNG."""
    return data[:33] + b"".join(chunks) + data[33:]


def check(tmp_path, data, expected):
    """All four ways to read agree with the expected array."""
    decoded = image_io.decode(data, name="x")
    assert decoded.dtype == expected.dtype
    np.testing.assert_array_equal(decoded, expected)
    path = tmp_path / "file.png"  # the content decides, not the suffix
    path.write_bytes(data)
    np.testing.assert_array_equal(image_io.read(path), expected)
    check_header(path, expected)


def check_header(path, image):
    channels = 1 if image.ndim == 2 else image.shape[2]
    bits = 8 * image.dtype.itemsize
    expected = image_io.Header(*image.shape[:2], channels, bits)
    assert image_io.read_header(path) == expected
    assert image_io.decode_header(path.read_bytes(), name="x") == expected


FLOAT = np.random.default_rng(0).normal(0, 3, (13, 17, 3)).astype(np.float32)


def profile_of(space):
    """As much of a color profile as is looked at."""
    return bytes(16) + space + bytes(16) + b"acsp" + bytes(100)
