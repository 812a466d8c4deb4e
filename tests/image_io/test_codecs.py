"""Images are made with Pillow, OpenCV, tifffile or by hand, and read with lcdnet_jax.image_io."""

import errno
import io
import os
import pathlib
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from lcdnet_jax import image_io
from lcdnet_jax.image_io import ImageError

SHAPES = {"grey": (13, 17), "grey+alpha": (13, 17, 2), "rgb": (13, 17, 3), "rgba": (13, 17, 4)}
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
    """Smooth colours with a little noise, so that lossy formats stay close."""
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


# Reading what others wrote


@pytest.mark.parametrize("kind", ["grey", "rgb", "rgba"])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_written_by_opencv_are_exact(tmp_path, capfd, kind, suffix):
    image = noise(SHAPES[kind], np.uint16)
    check(tmp_path, opencv(image, suffix), image)
    assert capfd.readouterr() == ("", "")  # no remarks of libtiff


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"compression": "zlib", "predictor": 2, "rowsperstrip": 3},
        {"tile": (16, 16), "compression": "zlib"},
        {"bigtiff": True},
    ],
    ids=str,
)
def test_16_bit_tiff_layouts_are_exact(tmp_path, options):
    for shape in ((13, 17), (13, 17, 3)):
        image = noise(shape, np.uint16)
        check(tmp_path, tiff(image, **options), image)


def test_16_bit_tiff_with_a_fourth_channel(tmp_path):
    image = noise((13, 17, 4), np.uint16)
    check(tmp_path, tiff(image, extrasamples=["unassalpha"]), image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_where_white_is_zero(tmp_path, dtype, compression):
    image = noise((13, 17), dtype)
    data = tiff(image, photometric="miniswhite", compression=compression)
    check(tmp_path, data, np.iinfo(dtype).max - image)


def test_formats_of_8_bits(tmp_path):
    image = noise((13, 17, 3))
    alpha = noise((13, 17, 4))
    check(tmp_path, planes(image), image)
    check(tmp_path, saved(image, "BMP"), image)
    check(tmp_path, saved(image, "TIFF", compression="tiff_lzw"), image)
    check(tmp_path, saved(image[..., 0].copy(), "TIFF"), image[..., 0])
    check(tmp_path, saved(alpha[..., :2].copy(), "TIFF"), alpha[..., :2])
    check(tmp_path, saved(alpha, "WEBP", lossless=True, exact=True), alpha)
    check(tmp_path, saved(alpha[..., :2].copy(), "PNG"), alpha[..., :2])
    data = saved(image, "JPEG")
    with Image.open(io.BytesIO(data)) as decoded:
        check(tmp_path, data, np.asarray(decoded))


def test_palette_one_bit_cmyk_and_transparent_colour(tmp_path):
    palette = Image.fromarray(noise((13, 17)) % 4).convert("L")
    palette = palette.convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 210, 220])
    index = np.asarray(palette)
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [200, 210, 220]], np.uint8)
    check(tmp_path, saved(palette, "PNG"), colours[index])
    check(tmp_path, saved(palette, "BMP"), colours[index])
    opacity = np.array([0, 128, 255, 255], np.uint8)
    expected = np.concatenate([colours[index], opacity[index][..., None]], -1)
    check(tmp_path, saved(palette, "PNG", transparency=opacity.tobytes()), expected)

    bits = noise((13, 17)) > 127
    for data in (saved(Image.fromarray(bits), "PNG"), saved(Image.fromarray(bits), "TIFF")):
        check(tmp_path, data, bits.astype(np.uint8) * 255)

    cmyk = Image.fromarray(photo()).convert("CMYK")
    decoded = image_io.decode(saved(cmyk, "JPEG", quality=95), name="x")
    assert np.abs(decoded.astype(int) - photo()).mean() < 5

    image = noise((13, 17, 3))
    data = saved(image, "PNG", transparency=tuple(int(v) for v in image[2, 3]))
    opaque = ~(image == image[2, 3]).all(-1)
    check(tmp_path, data, np.dstack([image, opaque.astype(np.uint8) * 255]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = UPRIGHT[orientation]
    tag = [(0x0112, "H", 1, orientation, True)]
    for image in (noise((13, 17, 3)), noise((13, 17))):
        check(tmp_path, saved(image, "PNG", exif=exif), upright(image))
        check(
            tmp_path,
            saved(image, "WEBP", lossless=True, exif=exif),
            upright(image if image.ndim == 3 else np.stack([image] * 3, -1)),
        )
        check(tmp_path, tiff(image, extratags=tag), upright(image))
        check(tmp_path, saved(image, "TIFF", compression="tiff_lzw", exif=exif), upright(image))
    for shape in SHAPES.values():
        image = noise(shape, np.uint16)
        if len(shape) == 2 or shape[2] > 2:
            alpha = ["unassalpha"] if shape[2:] == (4,) else None
            check(tmp_path, tiff(image, extratags=tag, extrasamples=alpha), upright(image))
        image_io.write(tmp_path / "16.png", image)
        data = (tmp_path / "16.png").read_bytes()
        exif_chunk = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        check(tmp_path, png_with(data, exif_chunk), upright(image))
        check(tmp_path, data[:-12] + exif_chunk + data[-12:], upright(image))  # behind the pixels
    image = photo()
    decoded = image_io.decode(saved(image, "JPEG", exif=exif), name="x")
    np.testing.assert_array_equal(decoded, upright(image_io.decode(saved(image, "JPEG"), name="x")))


def test_orientation_given_as_xmp_and_broken_exif(tmp_path):
    image = noise((13, 17, 3))
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    check(tmp_path, png_with(saved(image, "PNG"), text), UPRIGHT[6](image))
    check(tmp_path, png_with(saved(image, "PNG"), chunk(b"eXIf", b"nonsense")), image)


def test_header_of_a_png_reads_no_pixels(tmp_path):
    """Broken pixel data, whole chunks: the header is fine, the full scan is not."""
    path = tmp_path / "a.png"
    data = bytearray(saved(noise((13, 17, 3)), "PNG"))
    data[80] ^= 0xFF
    path.write_bytes(data)
    assert image_io.read_header(path) == image_io.Header(13, 17, 3, 8)
    with pytest.raises(ImageError, match="damaged"):
        image_io.read(path)


# Round trips


@pytest.mark.parametrize("kind", SHAPES)
def test_lossless_round_trip(tmp_path, kind):
    cases = [(suffix, np.uint8) for suffix in (".png", ".tif", ".TIFF", ".webp", ".bmp")]
    for suffix, dtype in [*cases, (".png", np.uint16), (".tiff", np.uint16)]:
        image = noise(SHAPES[kind], dtype)
        path = tmp_path / f"file{suffix}"
        if kind == "grey+alpha" and suffix in (".bmp", ".tiff"):
            with pytest.raises(ImageError, match=r"use \.png"):
                image_io.write(path, image)
            assert not path.exists()
            continue
        image_io.write(path, image)
        if suffix == ".webp" and "grey" in kind:  # WebP has no grey
            image = np.stack([image] * 3, -1) if image.ndim == 2 else image[..., [0, 0, 0, 1]]
        result = image_io.read(path)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, image)
        check_header(path, image)
    assert not list(tmp_path.glob(".*"))


def test_other_readers_see_the_16_bit_grey_alpha_png(tmp_path):
    image = noise((13, 17, 2), np.uint16)
    image_io.write(tmp_path / "a.png", image)
    seen = cv2.imread(tmp_path / "a.png", cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(seen[..., [0, 3]], image)


def test_one_channel_non_contiguous_and_single_pixel(tmp_path):
    image = noise((13, 17, 3))
    image_io.write(tmp_path / "a.png", image[::-1, ::2, :1])
    np.testing.assert_array_equal(image_io.read(tmp_path / "a.png"), image[::-1, ::2, 0])
    for dtype in (np.uint8, np.uint16):
        pixel = np.array([[[1, 2, 3]]], dtype)
        image_io.write(str(tmp_path / "a.png"), pixel)
        np.testing.assert_array_equal(image_io.read(str(tmp_path / "a.png")), pixel)


def test_jpeg_quality(tmp_path):
    image = photo()
    for quality, limit in ((100, 1.0), (50, 6.0)):
        image_io.write(tmp_path / "a.jpg", image, quality=quality)
        assert np.abs(image_io.read(tmp_path / "a.jpg").astype(int) - image).mean() < limit
    size = (tmp_path / "a.jpg").stat().st_size
    image_io.write(tmp_path / "a.jpg", image[..., 0])
    assert image_io.read(tmp_path / "a.jpg").ndim == 2
    image_io.write(tmp_path / "a.jpg", image)
    assert (tmp_path / "a.jpg").stat().st_size > size


# Every kind of file, and metadata


def palette_of(image, kind, **options):
    return saved(Image.fromarray(image).quantize(16), kind, **options)


def png_bits(depth):
    """A grey PNG with so few bits a pixel that Pillow does not write it."""
    top = 2**depth - 1
    values = np.arange(64).reshape(8, 8) % (top + 1)
    bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=2)[..., -depth:]
    rows = np.pad(np.packbits(bits.reshape(8, -1), axis=1), ((0, 0), (1, 0)))
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, depth, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + chunk(b"IEND", b"")
    )
    return data, (values * (255 // top)).astype(np.uint8)


def each(images, *makers):
    return [make(image) for image in images for make in makers]


def ways(*kinds, **options):
    return [lambda image, kind=kind: saved(image, kind, **options) for kind in kinds]


GREY, COLOUR = photo()[..., 0].copy(), photo()
PAIR, FOUR = (np.dstack([x, noise((61, 67))]) for x in (GREY, COLOUR))
DEEP = {c: noise((13, 17, c) if c > 1 else (13, 17), np.uint16) for c in (1, 2, 3, 4)}
SECOND = Image.new("RGB", (67, 61))
FLOAT = np.random.default_rng(0).normal(0, 3, (13, 17, 3)).astype(np.float32)


def written(image, suffix, tmp_path):
    image_io.write(tmp_path / f"made{suffix}", image)
    return (tmp_path / f"made{suffix}").read_bytes()


# Row of image_io.KINDS, by its first words: makers of such files.
MAKERS = {
    "PNG, JPEG, BMP, TIFF: grey, 8": lambda _: [
        *each([GREY], *ways("PNG", "JPEG", "BMP", "TIFF")),
        tiff(GREY, photometric="miniswhite"),
    ],
    "PNG, JPEG, WebP, BMP, TIFF: colour, 8": lambda _: each(
        [COLOUR], *ways("PNG", "JPEG", "WEBP", "BMP", "TIFF")
    ),
    "PNG, TIFF: grey and alpha, 8": lambda _: each([PAIR], *ways("PNG", "TIFF")),
    "PNG, WebP, BMP, TIFF: colour and alpha, 8": lambda _: [
        *each([FOUR], *ways("PNG", "WEBP", "TIFF")),
        opencv(FOUR, ".bmp"),
    ],
    "PNG, TIFF: grey, 16": lambda _: [opencv(DEEP[1], ".png"), opencv(DEEP[1], ".tiff")],
    "TIFF: grey, 16 bits, white": lambda _: [tiff(DEEP[1], photometric="miniswhite")],
    "PNG, TIFF: colour, 16": lambda _: [opencv(DEEP[3], ".png"), tiff(DEEP[3])],
    "PNG: grey and alpha, 16": lambda folder: [written(DEEP[2], ".png", folder)],
    "PNG, TIFF: colour and alpha, 16": lambda _: [
        opencv(DEEP[4], ".png"),
        tiff(DEEP[4], extrasamples=["unassalpha"]),
    ],
    "TIFF: grey, float32": lambda _: [
        tiff(FLOAT[..., 0]),
        saved(Image.fromarray(FLOAT[..., 0].copy()), "TIFF"),
        tiff(FLOAT[..., 0], byteorder=">", compression="zlib", rowsperstrip=3),
    ],
    "TIFF: colour, float32": lambda _: [
        tiff(FLOAT),
        opencv(FLOAT, ".tiff"),
        tiff(FLOAT, tile=(16, 16), compression="zlib"),
    ],
    "PNG, BMP, TIFF: 1 bit": lambda _: [
        *each([GREY > 127], *ways("PNG", "BMP", "TIFF")),
        png_bits(2)[0],
        png_bits(4)[0],
    ],
    "PNG, BMP, TIFF: palette": lambda _: [palette_of(COLOUR, k) for k in ("PNG", "BMP", "TIFF")],
    "PNG: palette or colour with": lambda _: [
        palette_of(COLOUR, "PNG", transparency=bytes(range(16))),
        saved(COLOUR, "PNG", transparency=(1, 2, 3)),
    ],
    "PNG: grey with a transparent": lambda _: [saved(GREY, "PNG", transparency=3)],
    "WebP: grey": lambda _: [saved(GREY, "WEBP")],
    "JPEG, TIFF: CMYK": lambda _: each(
        [Image.fromarray(COLOUR).convert("CMYK")],
        *ways("JPEG", "TIFF", icc_profile=profile_of(b"CMYK")),
    ),
    "JPEG with further": lambda _: [
        saved(Image.fromarray(COLOUR), "MPO", save_all=True, append_images=[SECOND])
    ],
    "PNG, WebP, TIFF: animation": lambda _: [
        saved(COLOUR, kind, save_all=True, append_images=[SECOND])
        for kind in ("PNG", "WEBP")
    ]
    + [tiff(np.stack([COLOUR] * 2)), tiff(np.stack([FLOAT] * 2))],
    "TIFF: other depths": lambda _: [
        tiff(np.ones((9, 11), kind)) for kind in ("u4", "i4", "f2", "f8", "i2", "i1")
    ],
    "TIFF: 16 bits in planes": lambda _: [
        planes(DEEP[3]),
        tiff(DEEP[4], extrasamples=["assocalpha"]),
        tiff(DEEP[4], photometric="separated"),
        tiff(DEEP[2], photometric="minisblack", extrasamples=["unassalpha"]),
    ],
    "TIFF: float32 in planes": lambda _: [
        planes(FLOAT),
        tiff(np.dstack([FLOAT, FLOAT[..., :1]]), extrasamples=["unassalpha"]),
        tiff(FLOAT[..., :2], photometric="minisblack", extrasamples=["unassalpha"]),
        tiff(FLOAT[..., 0], photometric="miniswhite"),
    ],
    "TIFF: channels besides": lambda _: [
        tiff(FOUR, extrasamples=["unspecified"]),
        tiff(DEEP[4], extrasamples=["unspecified"]),
        tiff(np.dstack([FOUR, GREY]), extrasamples=["unassalpha", "unspecified"]),
        tiff(PAIR, extrasamples=["unspecified"], photometric="minisblack"),
    ],
    "other formats": lambda _: [saved(COLOUR, "GIF"), saved(COLOUR, "JPEG2000")],
    "missing, empty": lambda _: [b"", saved(COLOUR, "PNG")[:99], tiff(FLOAT)[:-9]],
}  # fmt: skip
SUFFIXES = {b"\x89P": ".png", b"\xff\xd8": ".jpg", b"RI": ".webp", b"BM": ".bmp"}


@pytest.mark.parametrize("words", MAKERS)
def test_table_of_kinds(tmp_path, words):
    ((_, read, kept),) = [row for row in image_io.KINDS if row[0].startswith(words)]
    for data in MAKERS[words](tmp_path):
        suffix = SUFFIXES.get(data[:2], ".tif")
        path = tmp_path / f"a{suffix}"
        path.write_bytes(data)
        if read == "refused":
            assert kept == ""
            with pytest.raises(ImageError, match=rf"^{path}: "):
                image_io.read_with_metadata(path)
            continue
        image, metadata = image_io.read_with_metadata(path)
        shape = {2: "[H, W]", 3: f"[H, W, {image.shape[-1]}]"}[image.ndim]
        if read not in ("the first picture",):
            assert read.startswith(f"{shape} {image.dtype}")
        if image.dtype != np.float32:
            np.testing.assert_array_equal(image, image_io.read(path))
        image_io.write(path, image, metadata=metadata, quality=100)
        again, left = image_io.read_with_metadata(path)
        tolerance = 9 if suffix == ".jpg" else 0
        assert again.dtype == image.dtype
        np.testing.assert_allclose(again.astype(float), image, atol=tolerance)
        assert left.icc_profile is None


def test_table_of_kinds_has_no_other_rows():
    assert len(MAKERS) == len(image_io.KINDS)


def test_table_of_kinds_is_in_the_docs():
    document = pathlib.Path(__file__).parents[2] / "docs" / "inference.md"
    rows = "".join(f"| {' | '.join(row)} |\n" for row in image_io.KINDS)
    assert f"|---|---|---|\n{rows}\n" in document.read_text()


def test_few_bits_span_the_range(tmp_path):
    for depth in (1, 2, 4):
        data, expected = png_bits(depth)
        np.testing.assert_array_equal(image_io.decode(data, name="x"), expected)


def test_values_of_float_tiff_are_exact(tmp_path):
    for data in [tiff(FLOAT), opencv(FLOAT, ".tiff"), tiff(FLOAT, byteorder=">")]:
        (tmp_path / "a.tif").write_bytes(data)
        image, _ = image_io.read_with_metadata(tmp_path / "a.tif")
        np.testing.assert_array_equal(image, FLOAT)
        image_io.write(tmp_path / "b.tif", image)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), FLOAT)
        with pytest.raises(ImageError):  # data for training have 8 or 16 bits
            image_io.read(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_float_tiff_is_turned(tmp_path, orientation):
    for image in (FLOAT, FLOAT[..., 0]):
        data = tiff(image, extratags=[(0x0112, "H", 1, orientation, True)])
        (tmp_path / "a.tif").write_bytes(data)
        found, metadata = image_io.read_with_metadata(tmp_path / "a.tif")
        np.testing.assert_array_equal(found, UPRIGHT[orientation](image))
        image_io.write(tmp_path / "b.tif", found, metadata=metadata)
        again, _ = image_io.read_with_metadata(tmp_path / "b.tif")
        np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_tiff_is_read_by_others(tmp_path, dtype):
    """Several strips, of which the last is shorter."""
    image = noise((500, 700, 3), np.uint16).astype(dtype)
    image_io.write(tmp_path / "a.tif", image)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), image)
    np.testing.assert_array_equal(
        cv2.imread(tmp_path / "a.tif", cv2.IMREAD_UNCHANGED)[..., ::-1], image
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages[0].dataoffsets) > 1
        assert file.pages[0].photometric.name == "RGB"


def profile_of(space):
    """As much of a colour profile as is looked at."""
    return bytes(16) + space + bytes(16) + b"acsp" + bytes(100)


METADATA = [
    ("a.png", (13, 17, 3), np.uint8),
    ("a.png", (13, 17), np.uint8),
    ("a.jpg", (13, 17, 3), np.uint8),
    ("a.webp", (13, 17, 4), np.uint8),
    ("a.tif", (13, 17, 3), np.uint8),
    ("a.png", (13, 17, 3), np.uint16),
    ("a.png", (13, 17, 2), np.uint16),
    ("a.tif", (13, 17), np.uint16),
    ("a.tif", (13, 17, 4), np.uint16),
    ("a.tif", (13, 17, 3), np.float32),
]


def full_exif(orientation=6):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = orientation, "Maker", "2026:01:02 03:04:05"
    exif[0x011A] = 300.0  # XResolution
    exif[0xC4A5] = b"PrintIM"
    exif[0x8769] = {0x829A: 0.004, 0x9003: "2026:01:02 03:04:05", 0xA002: 99, 0x927C: b"note"}
    exif[0x8825] = {1: "N", 2: (47.0, 22.0, 1.5)}
    return exif


@pytest.mark.parametrize(("name", "shape", "dtype"), METADATA)
def test_metadata_survive(tmp_path, name, shape, dtype):
    """From a JPEG, which has all of them, through every format."""
    profile = profile_of(b"GRAY" if len(shape) == 2 or shape[2] == 2 else b"RGB ")
    (tmp_path / "source.jpg").write_bytes(saved(photo(), "JPEG", exif=full_exif()))
    read, metadata = image_io.read_with_metadata(tmp_path / "source.jpg")
    assert read.shape == (67, 61, 3)
    image = noise(shape, np.uint16).astype(dtype)
    image_io.write(tmp_path / name, image, metadata=image_io.Metadata(profile, metadata.exif))
    result, found = image_io.read_with_metadata(tmp_path / name)
    assert result.shape == shape  # upright already
    assert found.icc_profile == profile
    exif = Image.Exif()
    exif.load(found.exif)
    assert (exif[0x010F], exif[0x0132], exif[0x0112]) == ("Maker", "2026:01:02 03:04:05", 1)
    assert float(exif[0x011A]) == 300
    assert 0xC4A5 not in exif
    inner = exif.get_ifd(0x8769)
    assert (float(inner[0x829A]), inner[0x9003]) == (0.004, "2026:01:02 03:04:05")
    assert inner[0x927C] == b"note"
    assert 0xA002 not in inner  # a width that may be another now
    gps = exif.get_ifd(0x8825)
    assert (gps[1], [float(v) for v in gps[2]]) == ("N", [47, 22, 1.5])


def test_metadata_of_bmp_go_nowhere(tmp_path):
    metadata = image_io.Metadata(profile_of(b"RGB "), full_exif().tobytes())
    image_io.write(tmp_path / "a.bmp", noise((13, 17, 3)), metadata=metadata)
    _, found = image_io.read_with_metadata(tmp_path / "a.bmp")
    assert found == image_io.Metadata()


@pytest.mark.parametrize(
    "profile", [b"", b"nonsense" * 20, profile_of(b"CMYK"), profile_of(b"GRAY")]
)
def test_a_profile_of_other_pixels_is_dropped(tmp_path, profile):
    (tmp_path / "a.png").write_bytes(saved(photo(), "PNG", icc_profile=profile))
    assert image_io.read_with_metadata(tmp_path / "a.png")[1].icc_profile is None
    image_io.write(tmp_path / "b.png", photo(), metadata=image_io.Metadata(profile))
    assert image_io.read_with_metadata(tmp_path / "b.png")[1].icc_profile is None


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("exif", [b"nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_broken_exif_is_dropped(tmp_path, exif):
    (tmp_path / "a.jpg").write_bytes(saved(photo(), "JPEG", exif=exif))
    image, metadata = image_io.read_with_metadata(tmp_path / "a.jpg")
    assert image.shape == photo().shape
    assert metadata.exif is None


def test_exif_that_jpeg_cannot_hold_is_dropped(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "long" * 20_000
    metadata = image_io.Metadata(exif=exif.tobytes())
    for name, survives in (("a.jpg", False), ("a.png", True)):
        image_io.write(tmp_path / name, photo(), metadata=metadata)
        assert (image_io.read_with_metadata(tmp_path / name)[1].exif is not None) == survives


def test_float_tiff_of_other_layouts(tmp_path):
    broken = tiff(FLOAT).replace(struct.pack("<HHI", 257, 4, 1), struct.pack("<HHI", 257, 2, 1))
    for data, message in (
        (planes(FLOAT), "grey or RGB only"),
        (tiff(np.dstack([FLOAT, FLOAT[..., :1]]), extrasamples=["unassalpha"]), "grey or RGB only"),
        (tiff(FLOAT, compression="lzma"), "unusual layout"),
        (tiff(FLOAT)[:-9], "cut short"),
        (tiff(np.stack([FLOAT] * 2)), "several pictures"),
        (broken, "TIFF file is damaged"),
    ):
        (tmp_path / "a.tif").write_bytes(data)
        with pytest.raises(ImageError, match=message):
            image_io.read_with_metadata(tmp_path / "a.tif")


# Bad files


CUT = {
    "png": lambda: saved(photo(), "PNG"),
    "palette.png": lambda: saved(Image.fromarray(photo()).quantize(16), "PNG"),
    "jpeg": lambda: saved(photo(), "JPEG"),
    "progressive.jpeg": lambda: saved(photo(), "JPEG", progressive=True),
    "webp": lambda: saved(photo(), "WEBP"),
    "lossless.webp": lambda: saved(photo(), "WEBP", lossless=True),
    "bmp": lambda: saved(photo(), "BMP"),
    "tiff": lambda: saved(photo(), "TIFF"),
    "lzw.tiff": lambda: saved(photo(), "TIFF", compression="tiff_lzw"),
    "16.png": lambda: opencv(photo(np.uint16), ".png"),
    "grey16.png": lambda: opencv(photo(np.uint16)[..., 0], ".png"),
    "16.tiff": lambda: opencv(photo(np.uint16), ".tiff"),
    "grey16.tiff": lambda: opencv(photo(np.uint16)[..., 0], ".tiff"),
    "index_first16.tiff": lambda: tiff(photo(np.uint16)),
    "tiles16.tiff": lambda: tiff(photo(np.uint16), tile=(16, 16)),
    "planes.tiff": lambda: planes(photo()),
}


@pytest.mark.parametrize("kind", CUT)
def test_a_cut_file_is_an_error_wherever_it_is_cut(tmp_path, kind):
    data = CUT[kind]()
    image_io.decode(data, name="whole")
    for part in (0.5, 0.9, 0.3, 0.02):
        path = tmp_path / f"cut.{kind}"
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(ImageError, match=r"cut\..*(cut short|damaged)"):
            image_io.read(path)
        if kind.endswith(("png", "tiff")):  # found without decoding
            with pytest.raises(ImageError, match="cut short"):
                image_io.read_header(path)
            with pytest.raises(ImageError, match=r"^record 7: .*cut short"):
                image_io.decode_header(path.read_bytes(), name="record 7")
    if kind.endswith("png"):  # pixels whole, end mark missing
        with pytest.raises(ImageError, match="cut short"):
            image_io.decode(data[:-12], name="cut")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"bad\.png: the file is empty"),
        (b"hello, I am a text file\n" * 9, r"bad\.png: holds no PNG.*b'hello"),
        (b"GIF89a" + bytes(99), r"bad\.png: holds no PNG.*convert it"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), r"bad\.png: the PNG file is cut short"),
        (b"BM" + bytes(99), r"bad\.png: the BMP header is damaged"),
        (b"\xff\xd8\xff" + bytes(99), r"bad\.png: the JPEG header is damaged"),
        (b"II*\0" + bytes(99), r"bad\.png: the TIFF header is damaged"),
        (b"RIFF" + bytes(99), r"bad\.png: the WEBP header is damaged"),
    ],
)
def test_files_that_are_no_images(tmp_path, data, message):
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    for function in (image_io.read, image_io.read_header):
        with pytest.raises(ImageError, match=message):
            function(path)
    with pytest.raises(ImageError, match=message):
        image_io.decode_header(data, name="bad.png")


def test_missing_file_and_folder_instead_of_file(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        for function in (image_io.read, image_io.read_header):
            with pytest.raises(ImageError, match=rf"{path.name}: cannot be read"):
                function(path)


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/null"):
        for function in (image_io.read, image_io.read_header, image_io.read_with_metadata):
            with pytest.raises(ImageError, match="is no regular file but a pipe or device"):
                function(path)


@pytest.mark.parametrize("limit", [1000, 4000])  # Pillow raises above twice this, else warns
def test_suspiciously_large_image(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ImageError, match=r"^x: .*pixels.*raise PIL\.Image\.MAX_IMAGE_PIXELS"):
        image_io.decode(saved(photo(), "PNG"), name="x")


def test_zero_size():
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="zero size"):
        image_io.decode(data, name="x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiff(photo()[..., 0].astype(np.float32)), "floating-point TIFF with 32 bits"),
        (lambda: tiff(photo().astype(np.float32)), "floating point"),
        (lambda: tiff(photo()[..., 0].astype(np.int16)), "signed TIFF with 16 bits"),
        (lambda: tiff(photo()[..., 0].astype(np.uint32)), "unsigned TIFF with 32 bits"),
        (lambda: tiff(np.stack([photo()] * 3)), "3 pictures"),
        (lambda: tiff(np.stack([photo(np.uint16)] * 2)), "2 pictures"),
        (
            lambda: saved(
                photo(), "PNG", save_all=True, append_images=[Image.new("RGB", (67, 61))]
            ),
            "2 pictures",
        ),
        (
            lambda: saved(
                photo(), "WEBP", save_all=True, append_images=[Image.new("RGB", (67, 61))]
            ),
            "2 pictures",
        ),
        (
            lambda: png_with(opencv(photo(np.uint16), ".png"), chunk(b"tRNS", bytes(6))),
            "one transparent colour",
        ),
        (
            lambda: tiff(noise((9, 9, 4), np.uint16), extrasamples=["assocalpha"]),
            "do not agree",
        ),
        (lambda: tiff(FOUR, extrasamples=["unspecified"]), "neither colour nor alpha"),
        # Pillow and OpenCV each return garbage here without a word.
        (lambda: planes(photo(np.uint16)), "do not agree"),
    ],
)
def test_unsupported_kinds_say_so(make, message):
    with pytest.raises(ImageError, match=f"^odd: .*{message}.*save"):
        image_io.decode(make(), name="odd")


def test_picture_with_previews_is_read(tmp_path):
    first = Image.fromarray(photo())
    data = saved(first, "MPO", save_all=True, append_images=[first.resize((8, 8))])
    assert image_io.decode(data, name="x").shape == photo().shape


# Writing that fails


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "message"),
    [
        ("a.gif", (5, 5, 3), np.uint8, r"'\.gif' names no known format; use one of \.png"),
        ("a", (5, 5, 3), np.uint8, "names no known format"),
        ("a.png", (5, 5, 3), np.float32, "call to_uint8"),
        ("a.png", (5, 5, 3), bool, "call to_uint8"),
        ("a.jpg", (5, 5, 3), np.uint16, "cannot hold 16 bits"),
        ("a.webp", (5, 5, 3), np.uint16, "cannot hold 16 bits"),
        ("a.bmp", (5, 5), np.uint16, "cannot hold 16 bits"),
        ("a.jpg", (5, 5, 4), np.uint8, "alpha"),
        ("a.png", (5, 5, 5), np.uint8, r"\(5, 5, 5\)"),
        ("a.png", (1, 5, 5, 3), np.uint8, r"\(1, 5, 5, 3\)"),
        ("a.png", (0, 5, 3), np.uint8, "not empty"),
        ("a.webp", (1, 16400), np.uint8, "cannot be encoded as WEBP"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, shape, dtype, message):
    with pytest.raises(ImageError, match=rf"{name}: .*{message}"):
        image_io.write(tmp_path / name, np.zeros(shape, dtype))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("function", ["os.fsync", "os.replace", "builtins.open"])
def test_a_failed_write_leaves_the_older_file(tmp_path, monkeypatch, number, function):
    path = tmp_path / "a.png"
    image_io.write(path, noise((5, 6)))
    old = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(function, fail)
        with pytest.raises(ImageError, match=rf"cannot write .*a\.png: {os.strerror(number)}; "):
            image_io.write(path, noise((7, 7), seed=1))
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_missing_and_read_only_folders(tmp_path):
    with pytest.raises(ImageError, match="cannot write "):
        image_io.write(tmp_path / "none" / "a.png", noise((5, 6)))
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        return  # root may write anywhere
    with pytest.raises(ImageError, match="cannot write "):
        image_io.write(folder / "a.png", noise((5, 6)))


def test_written_files_follow_the_umask(tmp_path):
    image_io.write(tmp_path / "a.png", noise((5, 6)))
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


# Numbers and channels


def test_floats_and_back():
    for dtype, back in ((np.uint8, image_io.to_uint8), (np.uint16, image_io.to_uint16)):
        top = np.iinfo(dtype).max
        every = np.arange(top + 1, dtype=dtype).reshape(-1, 2)
        values = image_io.to_float(every)
        assert values.dtype == np.float32
        assert (values.min(), values.max()) == (0, 1)
        np.testing.assert_array_equal(back(values), every)
        assert back(values).dtype == dtype
        np.testing.assert_array_equal(back(every), every)
        np.testing.assert_array_equal(back(np.array([-3.0, 2.0])), [0, top])
        np.testing.assert_array_equal(back(np.array([1.4, 1.6]) / top), [1, 2])
    np.testing.assert_array_equal(image_io.to_uint8(np.array([0, 128, 129, 65535], np.uint16)), [
        0, 0, 1, 255])  # fmt: skip
    np.testing.assert_array_equal(image_io.to_uint16(np.array([0, 1, 255], np.uint8)), [
        0, 257, 65535])  # fmt: skip
    np.testing.assert_array_equal(image_io.to_uint16(np.float16([0.5, 1])), [32768, 65535])
    outside = np.array([-0.5, 1.5], np.float64)
    np.testing.assert_array_equal(image_io.to_float(outside), outside.astype(np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_number_is_not_written(bad):
    for function in (image_io.to_uint8, image_io.to_uint16):
        with pytest.raises(ImageError, match="NaN or infinity"):
            function(np.array([[0.5, bad]], np.float32))


def test_integers_of_other_widths_are_refused():
    for function in (image_io.to_float, image_io.to_uint8, image_io.to_uint16):
        with pytest.raises(ImageError, match="int32"):
            function(np.zeros((2, 2), np.int32))


def test_convert_channels():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [3, 3, 3]]])
    grey = image_io.convert_channels(colours.astype(np.uint8), 1)
    assert grey.dtype == np.uint8
    np.testing.assert_array_equal(grey[..., 0], [[76, 150, 29, 255, 3]])
    wide = image_io.convert_channels(colours.astype(np.uint16) * 257, 1)
    np.testing.assert_array_equal(wide[0, 3:, 0], [65535, 771])

    image = noise((13, 17, 3))
    r, g, b = np.moveaxis(image.astype(np.float64), 2, 0)
    luma = 0.2989360213 * r + 0.5870430745 * g + 0.1140209043 * b
    np.testing.assert_array_equal(image_io.convert_channels(image, 1)[..., 0], np.round(luma))
    floats = image_io.convert_channels(image_io.to_float(image), 1)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats[..., 0], luma / 255, atol=1e-6)

    assert image_io.convert_channels(image, 3) is image
    for single in (image[..., 0], image[..., :1]):
        np.testing.assert_array_equal(
            image_io.convert_channels(single, 3), np.stack([image[..., 0]] * 3, -1)
        )
        np.testing.assert_array_equal(image_io.convert_channels(single, 1), image[..., :1])


def test_convert_channels_refuses():
    for channels in (2, 4):
        with pytest.raises(ImageError, match=r'alpha channel.*convert\("RGB"\)\.save'):
            image_io.convert_channels(noise((5, 5, channels)), 3)
    with pytest.raises(ImageError, match="1 or 3 channels, not to 4"):
        image_io.convert_channels(noise((5, 5, 3)), 4)
    for shape in ((5, 5, 5), (1, 5, 5, 3), (5,)):
        with pytest.raises(ImageError, match="expected an image of shape"):
            image_io.convert_channels(noise(shape), 1)


# Folders


def test_find_images(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.tif", "10.webp", "notes.txt", ".hidden.png", "._a.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = image_io.find_images(tmp_path)
    assert found == [tmp_path / name for name in ("10.webp", "a.jpg", "b.PNG", "c.tif")]
    assert image_io.find_images(str(tmp_path)) == found


def test_find_images_refuses(tmp_path):
    with pytest.raises(ImageError, match=r"holds no image.*\.png, \.jpg.*subfolders"):
        image_io.find_images(tmp_path)
    with pytest.raises(ImageError, match="does not exist"):
        image_io.find_images(tmp_path / "none")
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError, match="is a file, not a folder"):
        image_io.find_images(tmp_path / "a.png")


# Real images


@pytest.mark.parametrize("name", ["denoise/set12", "denoise/cbsd68"])
def test_real_images(shared_data, name):
    paths: list[pathlib.Path] = image_io.find_images(shared_data(name))
    for path in paths[:3]:
        image = image_io.read(path)
        check_header(path, image)
        with Image.open(path) as reference:
            np.testing.assert_array_equal(image, np.asarray(reference))
        grey = image_io.convert_channels(image, 1)
        assert grey.shape == (*image.shape[:2], 1)
        np.testing.assert_array_equal(image_io.convert_channels(image, 1), grey)
