"""Small files of every format, with random bytes changed or cut off.

They are read whole, or raise ImageError. What has a checksum is never read wrong.
"""

import contextlib
import warnings

import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError
from tests.image_io.files import FLOAT, dng, heif, noise, opencv, pages, photo, planes, saved, tiff

COLOR = photo(height=24, width=32)
BITS = Image.fromarray(COLOR[..., 0] > 127)

FILES = {
    "png": lambda: saved(COLOR, "PNG"),
    "16.png": lambda: opencv(photo(np.uint16, 24, 32), ".png"),
    "palette.png": lambda: saved(Image.fromarray(COLOR).quantize(16), "PNG"),
    "jpeg": lambda: saved(COLOR, "JPEG"),
    "webp": lambda: saved(COLOR, "WEBP", lossless=True),
    "bmp": lambda: saved(COLOR, "BMP"),
    "avif": lambda: saved(COLOR, "AVIF"),
    "heic": lambda: heif(COLOR),
    "dng": lambda: dng((COLOR / 255) ** 2),
    "tiff": lambda: tiff(COLOR, extratags=[(0x0112, "H", 1, 6, True)]),
    "16.tiff": lambda: tiff(noise((24, 32, 4), np.uint16), extrasamples=["unassalpha"]),
    "float.tiff": lambda: tiff(FLOAT, compression="zlib", predictor=3),
    "planes.tiff": lambda: planes(COLOR, compression="lzw", predictor=2, rowsperstrip=5),
    "tiles.tiff": lambda: tiff(COLOR, tile=(16, 16), compression="zstd", byteorder=">"),
    "lzma.tiff": lambda: tiff(COLOR, compression="lzma", bigtiff=True),
    "packbits.tiff": lambda: saved(COLOR, "TIFF", compression="packbits"),
    "jpeg.tiff": lambda: saved(COLOR, "TIFF", compression="jpeg"),
    "group4.tiff": lambda: saved(BITS, "TIFF", compression="group4"),
    "group3.tiff": lambda: saved(BITS, "TIFF", compression="group3"),
    "palette.tiff": lambda: saved(Image.fromarray(COLOR).quantize(16), "TIFF"),
    "sub.tiff": lambda: pages((COLOR[::4, ::4], {"subfiletype": 1, "subifds": 1}), (COLOR, {})),
}

CHECKED = ("png", "16.png", "palette.png")  # every byte counts for a checksum


def read(data, tmp_path):
    """Reads in all ways; None if that is an error."""
    path = tmp_path / "a.file"
    path.write_bytes(data)
    for function in (image_io.read_header, image_io.read):
        with contextlib.suppress(ImageError):
            function(path)
    try:
        return image_io.read_with_metadata(path)[0]
    except ImageError as error:
        named = str(error).startswith(f"{path}: ")
    assert named
    return None


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_read_whole_or_not_at_all(tmp_path, kind):
    data = FILES[kind]()
    good = read(data, tmp_path)
    random = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about metadata
        for _ in range(10 if kind == "dng" else 60):  # which takes long
            damaged = bytearray(data)
            for place in random.integers(0, len(data), random.integers(1, 4)):
                damaged[place] = random.integers(0, 256)
            image = read(bytes(damaged), tmp_path)
            if image is not None:
                assert image.size
                assert kind not in CHECKED or np.array_equal(image, good)
        for length in random.integers(0, len(data), 5 if kind == "dng" else 20):
            image = read(data[:length], tmp_path)
            assert image is None or np.array_equal(image, good)  # the end says nothing


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind.endswith("tiff")])
def test_every_byte_of_the_directory(tmp_path, kind):
    data = FILES[kind]()
    start = data.index(b"\x00\x01\x03\x00") if b"\x00\x01\x03\x00" in data else 8
    for place in range(max(0, start - 8), min(start + 160, len(data)), 3):
        damaged = bytearray(data)
        damaged[place] ^= 0x41
        read(bytes(damaged), tmp_path)


def test_a_lossless_webp_has_no_checksum(tmp_path):
    """docs/reference/image_files.md says so; if its decoder finds damage one day, that changes."""
    data = bytearray(saved(COLOR, "WEBP", lossless=True))
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    image = read(bytes(data), tmp_path)
    assert image.shape == COLOR.shape
    assert not np.array_equal(image, COLOR)
