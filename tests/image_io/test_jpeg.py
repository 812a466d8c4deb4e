"""JPEG files: what the decoder warns of is an error, and healthy files of all kinds are read."""

import base64
import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError
from tests.image_io.files import noise, opencv, photo, saved

# A gradient of 24x16 pixels by cjpeg: arithmetic coding; colors of a quarter of the width.
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZG"
    "NywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT09PT09PT09PT09PT09PT09PT0//yQARCAAQABgDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIR"
    "AxEAPwD/AJ/Wyu0sn0Yu3PQN+Wf/AIWn9Jc1Rb2ufqwT5i0a7BmSZj8StdZD2ZCA/9k="
)
UNUSUAL_COLORS = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZG"
    "NywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAQABgDAUIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAA"
    "BQAEBv/EABgQAAIDAAAAAAAAAAAAAAAAAAADBSIx/8QAFQEBAQAAAAAAAAAAAAAAAAAAAwT/xAAYEQADAQEAAAAA"
    "AAAAAAAAAAAAAwUiMf/aAAwDAQACEQMRAD8A4xEdlRJEdlRFEdlSNaI7KiSI7KiKI7KkGtxTLo56f//Z"
)

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


def pillow(data):
    image = Image.open(io.BytesIO(data))
    return np.asarray(image.convert("RGB") if image.mode == "CMYK" else image)


def segment(marker, payload):
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def behind_start(data, *segments):
    return data[:2] + b"".join(segments) + data[2:]


def large(**options):
    return saved(photo(height=300, width=400), "JPEG", **options)


ENCODINGS = {
    "baseline": large,
    "progressive": lambda: large(progressive=True),
    "restart markers": lambda: large(restart_marker_blocks=4),
    "gray": lambda: saved(photo(height=300, width=400)[..., 0], "JPEG"),
    "CMYK": lambda: saved(Image.fromarray(photo(height=300, width=400)).convert("CMYK"), "JPEG"),
}


def hole(data):
    middle = len(data) // 2
    return data[:middle] + bytes(2048) + data[middle + 2048 :]


DAMAGES = {
    "hole of zeros": hole,
    "bytes lost": lambda data: data[: len(data) // 2] + data[len(data) // 2 + 500 :],
    "bytes added": lambda data: (
        data[: len(data) // 2] + noise(900).tobytes() + data[len(data) // 2 :]
    ),
    "end lost": lambda data: data[:-200],
    "bytes behind the pixels": lambda data: data[:-2] + b"x" * 50 + data[-2:],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_damaged_pixels_are_an_error(encoding, damage):
    data = ENCODINGS[encoding]()
    image_io.decode(data, name="whole")
    with pytest.raises(ImageError, match=r"^a\.jpg: the JPEG file is cut short or damaged"):
        image_io.decode(DAMAGES[damage](data), name="a.jpg")


def test_restart_markers_in_a_wrong_order_are_an_error():
    data = ENCODINGS["restart markers"]()
    assert data.count(b"\xff\xd2") > 1
    with pytest.raises(ImageError, match="damaged"):
        image_io.decode(data.replace(b"\xff\xd2", b"\xff\xd5", 1), name="x")


def test_advice_for_a_damaged_file_does_not_remove_it():
    with pytest.raises(ImageError) as error:
        image_io.decode(hole(large()), name="x")
    assert "copy or download it again" in str(error.value)
    assert "remove" not in str(error.value)


def _exif():
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    return exif


# Junk that a decoder may warn of, but which has no effect on the pixels.
HARMLESS = {
    "bytes behind the end": lambda data: data + b"junk" * 100,
    "another JPEG behind the end": lambda data: data + saved(photo(), "JPEG"),
    "zeros before the end": lambda data: data[:-2] + bytes(100) + data[-2:],
    "fill bytes": lambda data: behind_start(data, b"\xff\xff\xff"),
    "segments of other programs": lambda data: behind_start(
        data, *(segment(0xE0 + n, b"junk" * n) for n in range(16))
    ),
    "a thumbnail": lambda data: behind_start(
        data, segment(0xE1, b"Exif\0\0" + saved(photo(), "JPEG"))
    ),
    "a comment": lambda data: behind_start(data, segment(0xFE, b"\xff\xd9 is no end here")),
    "JFIF of version 2": lambda data: data.replace(b"JFIF\0\1", b"JFIF\0\2"),
    "no JFIF": lambda data: data[:2] + data[20:],
    "a scan of strange bounds": lambda data: data.replace(b"\0\x3f\0", b"\0\0\0"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_bytes_are_no_damage(name):
    data = saved(photo(), "JPEG")
    changed = HARMLESS[name](data)
    assert changed != data
    np.testing.assert_array_equal(image_io.decode(changed, name="x"), pillow(data))
    assert image_io.decode_header(changed, name="x") == image_io.Header(61, 67, 3, 8)


@pytest.mark.parametrize("side", [1, 7, 8, 9, 15, 16, 17, 31, 33])
@pytest.mark.parametrize("progressive", [False, True])
def test_pixels_are_those_of_pillow(side, progressive):
    image = photo()[:side, : side + 3]
    files = [
        saved(image, "JPEG", subsampling=subsampling, progressive=progressive)
        for subsampling in SUBSAMPLINGS
    ]
    files += [
        saved(image, "JPEG", progressive=progressive, **options)
        for options in (
            {"restart_marker_blocks": 1},
            {"restart_marker_rows": 1},
            {"quality": 1},
            {"quality": 100, "optimize": True},
            {"keep_rgb": True},
            {"exif": _exif(), "dpi": (300, 300), "comment": "text", "icc_profile": bytes(70_000)},
        )
    ]
    files += [
        saved(image[..., 0], "JPEG", progressive=progressive),
        saved(Image.fromarray(image).convert("CMYK"), "JPEG", progressive=progressive),
        saved(
            Image.fromarray(image), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))]
        ),
        opencv(image, ".jpg"),
    ]
    for sampling in (0x411111, 0x211111, 0x121111, 0x221111, 0x111111):
        options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        files.append(cv2.imencode(".jpg", image, options)[1].tobytes())
    for data in files:
        np.testing.assert_array_equal(image_io.decode(data, name="x"), pillow(data))


def test_arithmetic_coding():
    np.testing.assert_array_equal(image_io.decode(ARITHMETIC, name="x"), pillow(ARITHMETIC))


def test_what_cannot_be_checked_says_so():
    with pytest.raises(ImageError, match=r"unusual resolution.*save it again"):
        image_io.decode(UNUSUAL_COLORS, name="x")
