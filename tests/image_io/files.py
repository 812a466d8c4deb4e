"""Files of images, made with Pillow, OpenCV, tifffile or by hand."""

import io
import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import pillow_heif
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


def pages(*images):
    """A TIFF of several directories: pairs of an image and options of tifffile."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for image, options in images:
            file.write(image, **{"photometric": "rgb", **options})
    return buffer.getvalue()


def planes(image, **options):
    return tiff(np.moveaxis(image, 2, 0), photometric="rgb", planarconfig="separate", **options)


def opencv(image, suffix):
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    return cv2.imencode(suffix, image)[1].tobytes()


def heif(image, **options):
    """A HEIC file of uint8, or of 10 bits for uint16."""
    mode = {2: "L", 3: "RGB"}[image.ndim] if image.ndim == 2 or image.shape[2] == 3 else "RGBA"
    mode += ";16" if image.dtype == np.uint16 else ""
    file = pillow_heif.from_bytes(mode, image.shape[1::-1], image.tobytes())
    buffer = io.BytesIO()
    file.save(buffer, **{"quality": 100, "chroma": 444, **options})
    return buffer.getvalue()


def heif_with(*, primaries=1, transfer=13):
    """A HEIC file with other colors."""
    return heif(photo(), color_primaries=primaries, transfer_characteristics=transfer)


def avif_with(*, bits=8, primaries=1, transfer=13):
    """An AVIF file with other colors, or more than 8 bits."""
    image = photo() if bits == 8 else photo(np.uint16) >> 16 - bits
    return imagecodecs.avif_encode(
        image, level=90, speed=10, bitspersample=bits, primaries=primaries, transfer=transfer
    )


def dng(scene=None, *, preview=True, orientation=1, neutral=(0.5, 1, 0.7)):
    """A raw file: what a sensor with the filters of sRGB sees of linear colors in [0, 1]."""
    scene = (photo() / 255) ** 2.2 if scene is None else scene
    scene = scene[: len(scene) // 2 * 2, : scene.shape[1] // 2 * 2]
    seen = scene * neutral
    sensor = seen[..., 1].copy()
    sensor[::2, ::2], sensor[1::2, 1::2] = seen[::2, ::2, 0], seen[1::2, 1::2, 2]
    from_xyz = np.linalg.inv(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    matrix = np.rint(np.diag(neutral) @ from_xyz * 10_000).astype(int).ravel().tolist()
    camera = [
        (50706, "B", 4, (1, 4, 0, 0), True),  # DNGVersion
        (50708, "s", 0, "Maker Model", True),
        (50721, "2i", 9, [v for number in matrix for v in (number, 10_000)], True),  # ColorMatrix1
        (50728, "2I", 3, [v for n in neutral for v in (int(n * 10_000), 10_000)], True),
        (50778, "H", 1, 21, True),  # daylight
        (271, "s", 0, "Maker", True),
        (272, "s", 0, "Model", True),
        (274, "H", 1, orientation, True),
    ]
    pattern = [
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, (0, 1, 1, 2), True),  # red, green, green, blue
        (50714, "H", 1, 512, True),  # black
        (50717, "H", 1, 15512, True),  # white
    ]
    mosaic = (sensor * 15000 + 512).astype(np.uint16)
    raw = {"photometric": "cfa", "extratags": pattern}
    if not preview:
        return pages((mosaic, {**raw, "extratags": camera + pattern}))
    small = (scene[::4, ::4] ** (1 / 2.2) * 255).astype(np.uint8)
    return pages((small, {"subfiletype": 1, "subifds": 1, "extratags": camera}), (mosaic, raw))


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
