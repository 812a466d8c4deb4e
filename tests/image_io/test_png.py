import io
import random
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError, png
from tests.image_io.files import (
    check,
    chunk,
    noise,
    opencv,
    photo,
    png_with,
    profile_of,
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


def png_of(width, height, bits, color_type, rows, *, interlace=0):
    """A PNG whose checksums are right, whatever its rows are."""
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, interlace)
    pixels = zlib.compress(rows)
    chunks = (b"IHDR", header), (b"IDAT", pixels[:50]), (b"IDAT", pixels[50:]), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


@pytest.mark.parametrize(("bits", "color_type"), [(8, 2), (16, 2), (16, 0), (8, 0), (1, 0), (8, 6)])
def test_missing_rows_are_an_error(bits, color_type):
    """Pillow gives zeros for them. Black rows that are there are none of them."""
    row = 1 + (17 * bits * {0: 1, 2: 3, 6: 4}[color_type] + 7) // 8
    rows = b"".join(b"\0" + b"\x55" * (row - 1) for _ in range(13))
    image_io.decode(png_of(17, 13, bits, color_type, rows), name="x")
    black = rows[: 12 * row] + bytes(row)
    image_io.decode(png_of(17, 13, bits, color_type, black), name="x")
    for height, present in ((13, rows[: 12 * row]), (13, rows[: 5 * row]), (40, rows), (40, black)):
        data = png_of(17, height, bits, color_type, present)
        message = f"^x: .*damaged .*have {len(present)} of {height * row} bytes"
        with pytest.raises(ImageError, match=message):
            image_io.decode(data, name="x")


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 13), (5, 4)])
def test_missing_rows_of_an_interlaced_png(size):
    width, height = size
    rows = b""
    for left, top, across, down in png._ADAM7:
        columns, count = len(range(left, width, across)), len(range(top, height, down))
        rows += (b"\0" + b"\x55" * 3 * columns) * count if columns else b""
    expected = np.full((height, width, 3), 0x55, np.uint8)
    found = image_io.decode(png_of(width, height, 8, 2, rows, interlace=1), name="x")
    np.testing.assert_array_equal(found, expected)
    last = 1 + 3 * (width if height > 1 else len(range(1, width, 2)) or 1)
    with pytest.raises(ImageError, match=r"^x: .*damaged"):
        image_io.decode(png_of(width, height, 8, 2, rows[:-last], interlace=1), name="x")


def chunks_of(data):
    """Kind and content of each chunk."""
    found, place = [], 8
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        content = data[place + 8 : place + 8 + length]
        assert zlib.crc32(kind + content) == struct.unpack_from(">I", data, place + 8 + length)[0]
        found.append((kind, content))
        place += 12 + length
    return found


def rewritten(tmp_path, data, suffix=".png"):
    """The file that is written after ``data`` was read, and what was left out."""
    (tmp_path / "in.png").write_bytes(data)
    image, metadata = image_io.read_with_metadata(tmp_path / "in.png")
    left_out = image_io.write(tmp_path / f"out{suffix}", image, metadata=metadata)
    return (tmp_path / f"out{suffix}").read_bytes(), left_out


PIXELS = {
    "8 bits": lambda: saved(photo(), "PNG"),
    "16 bits": lambda: opencv(photo(np.uint16), ".png"),
    "gray": lambda: saved(photo()[..., 0], "PNG"),
    "alpha": lambda: saved(noise((13, 17, 4)), "PNG"),
    "gray and alpha, 16 bits": lambda: _gray_alpha(),
}


def _gray_alpha():
    pixels = noise((13, 17, 2), np.uint16)
    rows = np.pad(pixels.astype(">u2").view(np.uint8).reshape(13, 68), ((0, 0), (1, 0)))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 17, 13, 16, 4, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + chunk(b"IEND", b"")
    )


COLOR_CHUNKS = [
    (b"gAMA", struct.pack(">I", 100_000)),
    (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)),
    (b"sRGB", b"\0"),
    (b"cICP", bytes([9, 16, 0, 1])),
    (b"mDCV", bytes(24)),
    (b"cLLI", bytes(8)),
]
OTHER_CHUNKS = [
    (b"tEXt", b"Title\0caf\xe9"),
    (b"zTXt", b"Comment\0\0" + zlib.compress(b"a long text" * 99)),
    (b"iTXt", b"Author\0\0\0de\0\0" + "José Müller".encode()),
    (b"tIME", struct.pack(">HBBBBB", 2026, 1, 2, 3, 4, 5)),
    (b"vpAg", b"unknown, but safe to copy"),
]


@pytest.mark.parametrize("pixels", PIXELS)
def test_colors_and_texts_are_passed_on(tmp_path, pixels):
    wanted = [*COLOR_CHUNKS, *OTHER_CHUNKS, (b"pHYs", struct.pack(">IIB", 11811, 5906, 1))]
    data = PIXELS[pixels]()
    written, left_out = rewritten(tmp_path, png_with(data, *(chunk(*c) for c in wanted)))
    assert sorted(wanted) == sorted(c for c in chunks_of(written) if c[0] not in (
        b"IHDR", b"IDAT", b"IEND"))  # fmt: skip
    assert left_out == ()
    before, after = (image_io.decode(file, name="x") for file in (data, written))
    np.testing.assert_array_equal(before, after)
    with Image.open(io.BytesIO(written)) as image:
        image.load()
        assert image.text["Author"] == "José Müller"
        np.testing.assert_allclose(image.info["dpi"], (300, 150), rtol=1e-3)


def test_color_chunks_stand_before_the_pixels(tmp_path):
    written, _ = rewritten(tmp_path, png_with(PIXELS["8 bits"](), chunk(*COLOR_CHUNKS[0])))
    kinds = [kind for kind, _ in chunks_of(written)]
    assert kinds.index(b"gAMA") < kinds.index(b"IDAT")


def test_chunks_about_the_stored_pixels_are_left_out_and_named(tmp_path):
    chunks = [chunk(b"sBIT", b"\5\6\5"), chunk(b"prVt", b"?"), chunk(b"caBX", b"signature")]
    written, left_out = rewritten(tmp_path, png_with(PIXELS["8 bits"](), *chunks))
    assert {kind for kind, _ in chunks_of(written)} == {b"IHDR", b"IDAT", b"IEND", b"prVt"}
    assert left_out == ("sBIT", "caBX")


def test_background(tmp_path):
    background = chunk(b"bKGD", struct.pack(">HHH", 1, 2, 3))
    written, left_out = rewritten(tmp_path, png_with(PIXELS["8 bits"](), background))
    assert (b"bKGD", struct.pack(">HHH", 1, 2, 3)) in chunks_of(written)
    assert left_out == ()
    palette = saved(Image.fromarray(photo()).quantize(16), "PNG")
    place = palette.find(b"IDAT") - 4
    indexed = palette[:place] + chunk(b"bKGD", b"\3") + palette[place:]
    written, left_out = rewritten(tmp_path, indexed)
    assert b"bKGD" not in dict(chunks_of(written))
    assert left_out == ("bKGD",)


def test_what_other_formats_do_not_hold_is_named(tmp_path):
    chunks = [chunk(*c) for c in (*COLOR_CHUNKS[:2], *OTHER_CHUNKS[:2])]
    _, left_out = rewritten(tmp_path, png_with(PIXELS["8 bits"](), *chunks), ".jpg")
    assert left_out == ("cHRM of PNG", "gAMA of PNG", "texts of PNG")
    # sRGB is what all readers assume, and then gAMA and cHRM repeat it.
    chunks = [chunk(*c) for c in COLOR_CHUNKS[:3]]
    _, left_out = rewritten(tmp_path, png_with(PIXELS["8 bits"](), *chunks), ".jpg")
    assert left_out == ()


def test_profile_xmp_and_exif(tmp_path):
    xmp = b'<x tiff:Orientation="1" xmlns:tiff="http://ns.adobe.com/tiff/1.0/">Jos\xc3\xa9</x>'
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    data = png_with(
        PIXELS["8 bits"](),
        chunk(b"iCCP", b"Name\0\0" + zlib.compress(profile_of(b"RGB "))),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
    )
    written, left_out = rewritten(tmp_path, data)
    with Image.open(io.BytesIO(written)) as image:
        assert image.info["icc_profile"] == profile_of(b"RGB ")
        assert image.info["xmp"] == xmp
        assert image.getexif()[0x010F] == "Maker"
    assert left_out == ()


def test_exif_of_imagemagick(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    raw = exif.tobytes()
    digits = b"\n".join(raw.hex().encode()[k : k + 72] for k in range(0, 2 * len(raw), 72))
    text = b"\nexif\n%8d\n%s\n" % (len(raw), digits)
    image = noise((13, 17, 3))
    for name, part in (
        (b"tEXt", b"Raw profile type exif\0" + text),
        (b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(text)),
    ):
        data = png_with(saved(image, "PNG"), chunk(name, part))
        check(tmp_path, data, np.rot90(image, -1))
        written, _ = rewritten(tmp_path, data)
        with Image.open(io.BytesIO(written)) as result:
            assert (result.getexif()[0x010F], result.getexif()[0x0112]) == ("Maker", 1)


BOMB = zlib.compress(bytes(2**25))  # grows 1000-fold


def test_a_hostile_profile_of_imagemagick_ends_soon(tmp_path):
    """Blanks without digits: a pattern that tries every place would take minutes."""
    text = b"x 1" + b" " * 100_000 + b"!"
    path = tmp_path / "a.png"
    data = saved(noise((13, 17, 3)), "PNG")
    hostile = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    path.write_bytes(png_with(data, hostile))
    start = time.perf_counter()
    assert image_io.read_header(path) == image_io.Header(13, 17, 3, 8)
    assert image_io.read_with_metadata(path)[1].exif is None
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "start", [b"iCCPName\0\0", b"zTXtRaw profile type exif\0\0", b"iTXtXML:com.adobe.xmp\0\1\0\0\0"]
)
def test_many_chunks_that_grow_are_read_soon(tmp_path, monkeypatch, start):
    """Each grows to megabytes, so only the first of a key is decompressed."""
    inflated, inflate = [], png._inflate
    monkeypatch.setattr(png, "_inflate", lambda data: inflated.append(1) or inflate(data))
    part = chunk(start[:4], start[4:] + zlib.compress(bytes(1000)))
    path = tmp_path / "a.png"
    path.write_bytes(png_with(saved(noise((13, 17, 3)), "PNG"), *[part] * 200))
    image_io.read_header(path)
    assert len(inflated) <= 1
    image_io.read_with_metadata(path)
    assert len(inflated) <= 4


def wrong_sum(kind, data):
    return chunk(kind, data)[:-1] + b"?"


@pytest.mark.parametrize(
    ("damaged", "left_out"),
    [
        (wrong_sum(b"gAMA", bytes(4)), ("damaged gAMA",)),
        (wrong_sum(b"eXIf", b"II*\0"), ("damaged eXIf",)),
        (chunk(b"eXIf", b"nonsense"), ("damaged EXIF",)),
        (chunk(b"iCCP", b"Name\0\0nonsense"), ("damaged color profile",)),
        (chunk(b"iCCP", b"Name\0\0" + BOMB), ("damaged color profile",)),
        (chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB), ()),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB), ()),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<unclosed>"), ("damaged XMP",)),
        (chunk(b"tEXt", b""), ()),
        (chunk(b"pHYs", b"short"), ()),
    ],
)
def test_damaged_metadata_does_not_harm_the_image(tmp_path, damaged, left_out):
    image = photo()
    data = png_with(saved(image, "PNG"), damaged)
    check(tmp_path, data, image)
    assert rewritten(tmp_path, data)[1] == left_out


def test_many_texts_that_pillow_refuses(tmp_path):
    long = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2 * PngImagePlugin.MAX_TEXT_CHUNK)))
    check(tmp_path, png_with(saved(photo(), "PNG"), long), photo())


def test_an_animation_of_one_picture_is_an_image(tmp_path):
    control = struct.pack(">IIIIIHHBB", 0, 67, 61, 0, 0, 1, 10, 0, 0)
    one = [chunk(b"acTL", struct.pack(">II", 1, 0)), chunk(b"fcTL", control)]
    check(tmp_path, png_with(saved(photo(), "PNG"), *one), photo())


def test_changed_bytes_of_metadata(tmp_path):
    rng = random.Random(0)
    parts = [*COLOR_CHUNKS, *OTHER_CHUNKS, (b"eXIf", b"II*\0\x08\0\0\0\0\0\0\0\0\0")]
    parts.append((b"iCCP", b"Name\0\0" + zlib.compress(profile_of(b"RGB "))))
    parts.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x>text</x>"))
    image = noise((5, 6, 3))
    for _ in range(100):
        changed = []
        for kind, content in rng.sample(parts, 4):
            content = bytearray(content)
            for _ in range(rng.choice((1, 3))):
                content[rng.randrange(len(content))] = rng.randrange(256)
            changed.append(chunk(kind, bytes(content[: rng.randrange(1, 99)])))
        data = png_with(saved(image, "PNG"), *changed)
        np.testing.assert_array_equal(image_io.decode(data, name="x"), image)
        for suffix in (".png", ".jpg", ".tif"):
            rewritten(tmp_path, data, suffix)


@pytest.mark.parametrize("colors", [None, 16])
def test_a_changed_byte_of_the_pixels_is_an_error(colors):
    image = Image.fromarray(noise((13, 17, 3)))
    image = image.quantize(colors) if colors else image
    data = saved(image, "PNG")
    for place in range(33, len(data) - 12, 7):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        with pytest.raises(ImageError, match=r"^x: .*(damaged|cut short)"):
            image_io.decode(bytes(damaged), name="x")
